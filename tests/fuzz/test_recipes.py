"""Settings in any condition: recipes, config files and the values of flags."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwfbench.cli import options, values
from dwfbench.cli.methods import methods
from dwfbench.runs import spec
from dwfbench.runs.spec import RunSpec
from tests.fuzz import properties, seeds
from tests.fuzz.strategies import examples, mutated, odd_text

KEYS = [*spec.settings(), *spec.CURVE_KEYS, "title", "methods", "method", "depth", "batch-size"]
toml_value = st.recursive(
    st.one_of(
        st.sampled_from(["true", "nan", "-nan", "inf", "-inf", "1e400", "0", "-1", "1", "2.5", "[]", "{}", "1_0"]),
        st.sampled_from(['""', '"none"', '"1,2"', '"dwf"', '["dwf", "snip"]', "1979-05-27", "07:32:00", "9" * 400]),
        st.integers(-(10**20), 10**20).map(str),
        st.floats().map(repr),
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    max_leaves=4,
)


@examples(60)
@given(st.one_of(st.binary(max_size=40), mutated(seeds.recipe())))
def test_any_bytes_as_a_recipe(content):
    properties.recipe(content)


@examples(80)
@given(
    st.lists(st.tuples(st.sampled_from(KEYS), toml_value), max_size=2, unique_by=lambda item: item[0]),
    st.sampled_from(["", "dwf", "snip", "magnitude", "dense"]),
    st.lists(st.tuples(st.sampled_from(KEYS), toml_value), max_size=2, unique_by=lambda item: item[0]),
)
def test_every_key_of_a_recipe_with_any_value(general, method, own):
    lines = [f"{key} = {value}" for key, value in general]
    if method:
        lines = [f'methods = "{method}"', *lines, f"[method.{method}]", *(f"{key} = {value}" for key, value in own)]
    properties.recipe("\n".join(lines).encode())


@pytest.mark.parametrize(
    "text",
    [
        "seeds = 1000000000000",
        "points = 1000000000000",
        "max-runs = 1000000000000\ncompression = 10",
        "seeds = 10000\npoints = 10000",
        "epochs = 100000\nbatch-size = 1",
        "a = " + "[" * 100_000,
        ".".join("a" * 100_000) + " = 1",
        ".".join("a" * 30_000) + " = 1",
        "[" + ".".join(["'a b'"] * 10_000) + "]",
        "lr = '" + "x" * 60_000 + "'",
        "lr = '" + "x" * 30_000_000 + "'",
        "day = 0000-00-00",
        "seeds = " + "9" * 5000,
        f"compression = [{'9' * 400}]",
        "compression = 1e9",
        "compression = inf",
        "strength = nan",
        "strength-range = [1e-320, 1e308]",
        "split-seed = 9223372036854775808",
        "seed = 99999999999",
        "lr = 1e308",
        "warmup-epochs = 1e308",
        'lr-drops = "' + "9" * 5000 + '"',
        "[method]\ndwf = 1",
        "[[method.dwf.when]]\nmethod = 1",
        "[method.dwf]\ndepth = 1000000000",
        'model = "path/to/evil.py:make"',
        'model = "os:system"',
        "[method.'evil.py:Evil']",
        'methods = "../evil.py:Evil"',
    ],
)
def test_a_recipe_of_huge_or_strange_numbers_is_a_sentence_or_works(text):
    properties.recipe(text.encode())


@examples(20)
@given(st.sampled_from(list(spec.settings().values())), st.one_of(odd_text, toml_value))
def test_any_text_as_the_value_of_a_flag(item, text):
    properties.refusable()(spec.coerce)(item, text)


@examples(40)
@given(st.one_of(odd_text, st.text("0123456789.,-+e_ naif", max_size=12), st.just("9" * 500)))
def test_any_text_as_a_list_of_numbers_or_names(text):
    for read in (
        lambda: values.numbers(text, "at"),
        lambda: values.names(text),
        lambda: methods(text),
        lambda: methods(f"dwf[{text}]"),
        lambda: options.positive(text, "lanes"),
        lambda: options.leftover([text]),
        lambda: RunSpec(lr_drops=text),
    ):
        properties.refusable()(read)()


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "--at", "1e400"],
        ["compare", "--at", "nan"],
        ["compare", "--at", ","],
        ["compare", "--tolerance", "-1"],
        ["compare", "--area", "1,1e309"],
        ["compare", "--threshold", "nan"],
        ["compare", "--versus", "\x1b[31m"],
        ["compare", "--dataset", ","],
        ["plot", "weights", "--compression", "inf"],
        ["plot", "../x"],
        ["plot", "-o", "/dev/null/x.png"],
        ["plot", "-o", "out.exe"],
        ["report", "-o", "/dev/null/x.html"],
        ["measure", "0" * 12, "--batch", "9" * 5000],
        ["measure", "0" * 12, "--batch", "1,,2"],
        ["export", "0" * 12, "--to", "out", "--forms", "../x"],
        ["verify", "--runs", "0"],
        ["run", "--seeds", "1000000000"],
        ["run", "--epochs", "1e9"],
        ["run", "--lanes", "²"],
        ["run", "--image-size", "1000000000"],
        ["run", "--batch-size", "1e300"],
        ["run", "--split-seed", "1e30"],
        ["run", "--device", "cuda:99999999999999999999"],
        ["run", "--device", "\n"],
        ["run", "--depth", "1e300"],
        ["run", "--model", "..:x"],
        ["run", "--dataset", "\0"],
        ["run", "--dataset", "x" * 5000],
        ["run", "--recipe", "../../x"],
        ["run", "--config", "/dev/zero"],
        ["run", "--config", "."],
        ["tune", "--lr-range", "nan,1"],
        ["tune", "--trials", "1000000000"],
        ["tune", "--area", "5"],
    ],
    ids=lambda words: " ".join(words)[:40].encode("ascii", "backslashreplace").decode(),
)
def test_command_lines_of_huge_or_strange_values_end_in_a_sentence(tmp_path, monkeypatch, call, words):
    monkeypatch.chdir(tmp_path)
    place = properties.results(tmp_path / "results", b"{}")
    own = ["--threads", "1", "--device", "cpu"] if words[0] in ("run", "tune", "verify") else []
    found = call(words[0], *own, "--results", place, *words[1:])
    assert found.exit_code in (2, 3), (found.stdout, found.stderr)
    assert "unexpected" not in found.stderr
    assert "Traceback" not in found.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"results"}
