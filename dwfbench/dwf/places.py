"""Which weights of a module are factorized, and how deep: names, patterns, types and ties."""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from operator import index

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from dwfbench.base.errors import UsageError
from dwfbench.base.text import nearest
from dwfbench.dwf.gates import gate_shape
from dwfbench.models.prunable import EMBEDDINGS, LAYER_NAMES, LAYER_TYPES, Place, is_ready, places

Depth = int | Mapping[str, int | None]
Choice = str | type | Callable[[str, nn.Module], bool] | Iterable[str | type]
Layers = Choice | None


def gate_shape_at(place: Place, group: str, weight: Tensor) -> tuple[int, ...]:
    """The shape of the gates of a "channel" (one output's weights) or "row" (those that read one input)."""
    if not isinstance(place.module, LAYER_TYPES):
        raise UsageError(f"Which side of the weight {place.name} is its output is not known; use group='none'.")
    swapped = isinstance(place.module, (_ConvTransposeNd, *EMBEDDINGS))  # (input, output, ...)
    side = int((group == "row") != swapped)
    blocks = place.module.groups if isinstance(place.module, _ConvNd) else 1
    return gate_shape(weight.shape, side, blocks)


def choose(model: nn.Module, depth: Depth, layers: Layers = None) -> list[tuple[Place, int | None]]:
    """The places that ``layers`` and ``depth`` speak of, each with its depth; None: to be left alone.

    See ``module.factorize`` for what they may be. Raises UsageError for a depth that is none, a pattern or a type
    that fits no layer, and if nothing is chosen.
    """
    check_depth(depth)
    candidates = list(places(model))
    if layers is not None:
        candidates = chosen_places(model, candidates, layers)
    depths = depth if isinstance(depth, Mapping) else {"*": depth}
    for pattern in depths:
        if pattern != "*" and not any(fits(pattern, place.layer) for place in candidates):
            raise UsageError(f"depth: no layer is named {pattern!r}{nearest(pattern, names(candidates))}")
    patterns = [*(pattern for pattern in depths if pattern != "*"), *(["*"] if "*" in depths else [])]
    chosen, ready = [], is_ready(model)
    for place in candidates:
        fitting = next((pattern for pattern in patterns if fits(pattern, place.layer)), None)
        implied = layers is None and fitting == "*"
        if fitting is None or not place.counts(ready) or (implied and isinstance(place.module, EMBEDDINGS)):
            continue
        number = depths[fitting]
        chosen.append((place, None if number is None or number == 1 else index(number)))
    if all(depth is None for _, depth in chosen):
        raise UsageError(f"No layer is chosen: no {LAYER_NAMES} layer is trained, or none is to be factorized.")
    return chosen


def check_depth(depth: Depth) -> None:
    """UsageError unless it is a whole number of at least 2, or a dict of those, of 1 and of None, by pattern."""
    if not isinstance(depth, Mapping):
        if not is_whole(depth) or depth < 2:
            raise UsageError(f"A factorization needs a depth of at least 2, not {depth!r}.")
        return
    for pattern, value in depth.items():
        if not isinstance(pattern, str):
            raise UsageError(f"depth: names of layers are text, not {pattern!r}.")
        if value is not None and not (is_whole(value) and value >= 1):
            raise UsageError(f"depth of {pattern!r}: a whole number of at least 1 or None is needed, not {value!r}.")


def is_whole(value) -> bool:
    """Whether a value is a whole number, NumPy's and PyTorch's included."""
    try:
        return not isinstance(value, bool) and index(value) == value
    except TypeError:
        return False


def chosen_places(model: nn.Module, candidates: list[Place], layers: Choice) -> list[Place]:
    """The places among the candidates that ``layers`` choose; UsageError for an item that chooses none."""
    if callable(layers) and not isinstance(layers, type):
        return [place for place in candidates if layers(place.layer, place.module)]
    items = [layers] if isinstance(layers, (str, type)) else list(layers)
    modules = dict(model.named_modules())
    chosen: set[Place] = set()
    for item in items:
        of_type = {name for name, module in modules.items() if isinstance(item, type) and isinstance(module, item)}
        if isinstance(item, str):
            fitting = [place for place in candidates if fits(item, place.layer)]
        elif isinstance(item, type):
            fitting = [place for place in candidates if not of_type.isdisjoint(("", *around(place.layer)))]
        else:
            raise UsageError(f"layers: names, types or a function of name and module are needed, not {item!r}.")
        if not fitting:
            text = item if isinstance(item, str) else item.__name__
            relation = "is named" if isinstance(item, str) else "is a"
            if not isinstance(item, str) and of_type:
                raise UsageError(f"layers: a {text!r} has no weights that are factorized; {LAYER_NAMES} layers do.")
            raise UsageError(f"layers: no layer {relation} {text!r}{nearest(text, names(candidates))}")
        chosen.update(fitting)
    return [place for place in candidates if place in chosen]


def fits(pattern: str, layer: str) -> bool:
    """Whether a shell pattern fits the layer's name, or the name of a module that the layer lies in."""
    return any(fnmatchcase(name, pattern) for name in around(layer))


def around(layer: str) -> list[str]:
    """The names of the modules from the outermost to the layer itself: "a.b" gives "a", "a.b"."""
    parts = layer.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def names(candidates: list[Place]) -> list[str]:
    """What patterns could have meant: all names in ``around`` the places, without repetition."""
    return list(dict.fromkeys(name for place in candidates for name in around(place.layer) if name))


def owners(model: nn.Module, weight: Tensor) -> list[Place]:
    """All attributes of all modules that are this very parameter, in model order: more than one if it is tied."""
    return [
        Place(name, module, attribute)
        for name, module in model.named_modules()
        for attribute, value in module._parameters.items()
        if value is weight
    ]
