"""The Method contract: everything in which methods differ. All else is the trainer's, and the same for all.

A method is a frozen dataclass whose fields are its options (flags of ``dwfbench run``, keys of recipes). It is
found through the entry-point group ``dwfbench.methods``, ours and third parties' alike. Every hook has a default
that does nothing, so an empty subclass is dense training and a new method is one short file.

Tensors named ``weights`` are dicts of the prunable weights (Linear and Conv), keyed by parameter name. Hooks that
run inside a step (``effective``, ``penalty_gradient``, ``project``) see trainable tensors and must be built from
differentiable or elementwise torch operations only: they run under vmap and torch.compile.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import metadata
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dwfbench.data import Dataset
from dwfbench.errors import UsageError
from dwfbench.factorization import FLOAT32_EPSILON
from dwfbench.schedule import Phase
from dwfbench.sparsity import top_k_masks
from dwfbench.spec import RunSpec, coerce, nearest, setting

__all__ = ["Method", "Phase", "Start", "create", "known", "option"]

option = setting
"""An option of a method: a dataclass field with default, help text and range. See ``dwfbench.spec.setting``."""


@dataclass(frozen=True)
class Start:
    """What a method may look at before training: the initial network and data of the training part.

    ``batch(per_class)`` gives a class-balanced batch (inputs, targets); ``generator`` is the seed's own.
    """

    network: nn.Module
    input_shape: tuple[int, ...]
    compression: float | None
    batch: Callable[[int], tuple[Tensor, Tensor]]
    generator: torch.Generator


@dataclass(frozen=True)
class Method:
    """A way of making a network sparse. Subclasses are frozen dataclasses; fields are options."""

    name: ClassVar[str] = ""
    knob: ClassVar[str | None] = None  # "strength", "compression" or None
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    decays: ClassVar[bool] = True  # whether RunSpec.weight_decay applies; False for methods with a penalty

    def __post_init__(self):
        for item in fields(self):
            object.__setattr__(self, item.name, coerce(item, getattr(self, item.name)))

    def label(self) -> str:
        """The method's name in tables and legends: with the options that differ from their defaults."""
        changed = self.changed()
        if not changed:
            return self.name
        words = [
            key.replace("_", " ") if value is True else f"{key.replace('_', ' ')}={value}"
            for key, value in changed.items()
        ]
        return f"{self.name} ({', '.join(words)})"

    def changed(self) -> dict[str, Any]:
        """The options that differ from their defaults: what goes into RunSpec.options."""
        return {
            item.name: getattr(self, item.name) for item in fields(self) if getattr(self, item.name) != item.default
        }

    def check(self, spec: RunSpec, data: Dataset) -> None:
        """Raise UsageError if the options do not fit the run or its data (e.g. more fine-tuning than epochs).

        Asked when a command is planned, so that nothing has been trained in vain.
        """

    def tunable(self) -> dict[str, tuple]:
        """Options that tuning tries beside the learning rate, each with its values: {"finetune_lr": (0.3, 1.0)}."""
        return {}

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """How the epoch budget is spent; each phase has a cosine of its own. The epochs must add up to ``epochs``."""
        return (Phase(epochs),)

    def needed_budget(self, weights: dict[str, Tensor]) -> float | None:
        """Decay budget (``factorization.decay_budget``) at which half of the initial ``weights`` would decay to zero.

        The lower end of the default strengths. None for methods that do not work by decay.
        """
        return None

    def shared_epochs(self, epochs: int) -> int:
        """How many of the first epochs the knob plays no part in: the runs of a seed share them.

        Either 0, all of them, or the epochs of the first phases.
        """
        return 0

    # -- (a) before training

    def scores(self, start: Start) -> dict[str, Tensor] | None:
        """Scores of the initial weights, the larger the better kept; asked once a seed, for all compressions."""
        return None

    def initial_masks(self, start: Start, scores: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
        """Boolean masks (True: kept) from the initial network and its ``scores``, or None for no mask."""
        return None if scores is None else top_k_masks(scores, start.compression)

    # -- (b) what is trained

    def reparametrize(self, weights: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """The trainable tensors that stand for the initial dense ``weights``: any names, any shapes.

        A tensor that is masked has its weight's name and shape.
        """
        return weights

    def effective(self, trainable: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights that the network uses, differentiable in the trainable tensors."""
        return trainable

    def misalignment(self, trainable: dict[str, Tensor]) -> Tensor | None:
        """Distance of the factors from balance (DWF, section 4.2), or None for methods without factors."""
        return None

    # -- (c) penalties

    def penalty_gradient(self, tensor: Tensor, strength: Tensor) -> Tensor | None:
        """What the penalty adds to a trainable tensor's gradient; ``strength`` broadcasts against it."""
        return None

    @property
    def power(self) -> float | None:
        """The exponent p of a penalty strength * sum |w|^p, whose sum the history records; None without one."""
        return None

    # -- (d) after a step, at a phase's end

    def project(self, tensor: Tensor, strength: Tensor, rate: Tensor) -> Tensor | None:
        """The trainable tensor after an optimiser step; ``rate`` is learning rate / (1 - momentum)."""
        return None

    def masks_after(self, phase: int, weights: dict[str, Tensor], compression: float | None) -> dict | None:
        """Boolean masks to train on with after phase ``phase`` (0-based; not asked after the last), or None."""
        return None

    # -- (e) the end

    def sparsify(self, weights: dict[str, Tensor], compression: float | None) -> dict[str, Tensor]:
        """The plain sparse weights that are counted, tested and stored: below float32's epsilon is zero."""
        return {name: torch.where(weight.abs() < FLOAT32_EPSILON, 0, weight) for name, weight in weights.items()}


def known() -> dict[str, metadata.EntryPoint]:
    """Entry points of all installed methods, by name."""
    return {point.name: point for point in metadata.entry_points(group="dwfbench.methods")}


def load(name: str) -> type[Method]:
    """The class of a method. UsageError for an unknown name (with the nearest one) or a plug-in that fails."""
    points = known()
    if name not in points:
        raise UsageError(f"There is no method {name!r}{nearest(name, points)} `dwfbench list methods` shows them.")
    try:
        return points[name].load()
    except Exception as error:  # a broken plug-in is named; it must not look like our own failure
        raise UsageError(f"The method {name!r} ({points[name].value}) cannot be loaded: {error}.") from error


def create(name: str, options: dict[str, Any]) -> Method:
    """A method with its options; UsageError for an unknown option, naming the nearest."""
    kind = load(name)
    names = [item.name for item in fields(kind)]
    for key in options:
        if key not in names:
            raise UsageError(f"The method {name} has no option {key!r}{nearest(key, names)}")
    return kind(**options)
