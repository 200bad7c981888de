"""Which weights of a module are factorized, and how deep: names, patterns, types and ties."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from dwfbench.base.errors import UsageError
from dwfbench.dwf.gates import gate_shape
from dwfbench.runs.spec import nearest

Depth = int | Mapping[str, int | None]
Choice = str | type | Callable[[str, nn.Module], bool] | Iterable[str | type]
Layers = Choice | None

KINDS = (nn.Linear, _ConvNd, nn.MultiheadAttention, nn.Embedding)
ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""The weights that an attention layer holds itself; its ``out_proj`` is a Linear layer."""


@dataclass(frozen=True)
class Place:
    """An attribute of a module that holds a weight. ``layer`` is the module's name, "" for the model itself."""

    layer: str
    module: nn.Module
    attribute: str

    @property
    def name(self) -> str:
        """The weight's name in ``named_parameters`` of the plain model."""
        return f"{self.layer}.{self.attribute}" if self.layer else self.attribute

    def gate_shape(self, group: str, weight: Tensor) -> tuple[int, ...]:
        """The shape of the gates of a "channel" (one output's weights) or "row" (those that read one input)."""
        if not isinstance(self.module, KINDS):
            raise UsageError(f"Which side of the weight {self.name} is its output is not known; use group='none'.")
        swapped = isinstance(self.module, (_ConvTransposeNd, nn.Embedding))  # (input, output, ...)
        side = int((group == "row") != swapped)
        return gate_shape(weight.shape, side, getattr(self.module, "groups", 1))


def places(model: nn.Module) -> Iterator[Place]:
    """Every weight of every layer of a known kind, in model order; a module used twice comes once."""
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            attributes = [attribute for attribute in ATTENTION if getattr(module, attribute) is not None]
        else:
            attributes = ["weight"] if isinstance(module, KINDS) else []
        yield from (Place(name, module, attribute) for attribute in attributes)


def choose(model: nn.Module, depth: Depth, layers: Layers = None) -> list[tuple[Place, int | None]]:
    """The places that ``layers`` and ``depth`` speak of, each with its depth; None: to be left alone.

    See ``module.factorize`` for what they may be. Raises UsageError for a depth that is none, a pattern or a type
    that fits no layer, and if nothing is chosen.
    """
    check_depth(depth)
    found = list(places(model))
    if layers is not None:
        found = wanted(model, found, layers)
    depths = depth if isinstance(depth, Mapping) else {"*": depth}
    for pattern in depths:
        if pattern != "*" and not any(fits(pattern, place.layer) for place in found):
            raise UsageError(f"depth: no layer is named {pattern!r}{nearest(pattern, names(found))}")
    patterns = [*(pattern for pattern in depths if pattern != "*"), *(["*"] if "*" in depths else [])]
    chosen = []
    for place in found:
        found_by = next((pattern for pattern in patterns if fits(pattern, place.layer)), None)
        implied = layers is None and found_by == "*"
        if found_by is not None and not (implied and isinstance(place.module, nn.Embedding)):
            chosen.append((place, None if depths[found_by] == 1 else depths[found_by]))
    if all(depth is None for _, depth in chosen):
        raise UsageError("No layer is chosen: the model has no Linear or Conv layer, or none that is to be factorized.")
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
    return isinstance(value, int) and not isinstance(value, bool)


def wanted(model: nn.Module, found: list[Place], layers: Choice) -> list[Place]:
    """The places among ``found`` that ``layers`` choose; UsageError for an item that chooses none."""
    if callable(layers) and not isinstance(layers, type):
        return [place for place in found if layers(place.layer, place.module)]
    items = [layers] if isinstance(layers, (str, type)) else list(layers)
    modules = dict(model.named_modules())
    kept: set[Place] = set()
    for item in items:
        if isinstance(item, str):
            fitting = [place for place in found if fits(item, place.layer)]
        elif isinstance(item, type):
            fitting = [p for p in found if any(isinstance(modules[outer], item) for outer in ("", *around(p.layer)))]
        else:
            raise UsageError(f"layers: names, types or a function of name and module are needed, not {item!r}.")
        if not fitting:
            text = item if isinstance(item, str) else item.__name__
            what = "is named" if isinstance(item, str) else "is a"
            raise UsageError(f"layers: no layer {what} {text!r}{nearest(text, names(found))}")
        kept.update(fitting)
    return [place for place in found if place in kept]


def fits(pattern: str, layer: str) -> bool:
    """Whether a shell pattern fits the layer's name, or the name of a module that the layer lies in."""
    return any(fnmatchcase(name, pattern) for name in around(layer))


def around(layer: str) -> list[str]:
    """The names of the modules from the outermost to the layer itself: "a.b" gives "a", "a.b"."""
    parts = layer.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def names(found: list[Place]) -> list[str]:
    """What patterns could have meant: all names in ``around`` the places, without repetition."""
    return list(dict.fromkeys(name for place in found for name in around(place.layer) if name))


def owners(model: nn.Module, weight: Tensor) -> list[Place]:
    """All attributes of all modules that are this very parameter, in model order: more than one if it is tied."""
    return [
        Place(name, module, attribute)
        for name, module in model.named_modules()
        for attribute, value in module._parameters.items()
        if value is weight
    ]
