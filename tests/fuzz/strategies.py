"""What the tests of this package draw: mutated bytes, any JSON, and how many examples."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def examples(count: int) -> settings:
    return settings(max_examples=count, suppress_health_check=SLOW)


@st.composite
def mutated(draw, contents: list[bytes]) -> bytes:
    """A valid file with a few bytes replaced, inserted or removed, or cut off; sometimes nothing of a file at all."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(content)))
        removed = draw(st.integers(0, 4))
        content[place : place + removed] = draw(st.binary(max_size=8))
    return bytes(content[: draw(st.integers(0, len(content)))]) if draw(st.booleans()) else bytes(content)


odd_text = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "..", "../../x", "/etc/passwd", "a\nb", "\x1b[31m", "\ud800", "os:abort", "evil.py:Method", "nan"]
    ),
)
odd_numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 1, 1.0, True, 2**31, 2**63, 10**30, 10**400, 1e308, -1e308, 5e-324, 1e-300]),
)
odd_scalars = st.one_of(st.none(), st.booleans(), odd_numbers, odd_text)
odd_json = st.recursive(
    odd_scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(odd_text, inner, max_size=3)),
    max_leaves=6,
)


def places(value, above: tuple = ()) -> list[tuple]:
    """The way to everything in JSON, from the outside in."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(place for key, one in inner for place in places(one, (*above, key)))]


def put(value, place: tuple, new):
    """The same JSON with something else at a place; REMOVED takes the field away."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(place) == 1 and new is REMOVED:
        del copy[place[0]]
    else:
        copy[place[0]] = put(copy[place[0]], place[1:], new)
    return copy


class Removed:
    """Its name is the same in every process, as those of tests must be."""

    def __repr__(self) -> str:
        return "removed"


REMOVED = Removed()


def edited(valid: dict) -> st.SearchStrategy:
    """Valid JSON with one or two of its fields replaced by anything, or missing."""
    ways = [place for place in places(valid) if place]

    def changed(changes: list):
        result = valid
        for place, new in changes:
            if place in places(result):
                result = put(result, place, new)
        return result

    return st.lists(
        st.tuples(st.sampled_from(ways), st.one_of(st.just(REMOVED), odd_json)), min_size=1, max_size=2
    ).map(changed)
