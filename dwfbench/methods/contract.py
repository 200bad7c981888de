"""The Method contract: everything in which methods differ. All else is the trainer's, and the same for all.

A method is a frozen dataclass whose fields are its options (flags of ``dwfbench run``, keys of recipes). It is
found through the entry-point group ``dwfbench.methods``, ours and third parties' alike, or in a single file (see
``dwfbench.base.plugins``). Every hook has a default that does nothing, so an empty subclass is dense training and a new
method is one short file; docs/adding-a-method.md shows the way.

Tensors named ``weights`` are dicts of the prunable weights (Linear and Conv), keyed by parameter name. Hooks that
run inside a step (``effective``, ``penalty_gradient``, ``project``) see trainable tensors and must be built from
differentiable or elementwise torch operations only: they run under vmap and torch.compile.
"""

from collections.abc import Callable, Collection
from dataclasses import Field, dataclass, fields
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dwfbench.base import plugins
from dwfbench.base.errors import UsageError
from dwfbench.data.dataset import Dataset
from dwfbench.dwf.factors import FLOAT32_EPSILON
from dwfbench.methods.schedule import Phase
from dwfbench.runs.spec import CURVE_KEYS, OWN, RunSpec, coerce, nearest, setting, settings
from dwfbench.sparsity.count import top_k_masks

__all__ = ["Method", "Moment", "Phase", "Start", "create", "known", "option"]

option = setting
"""An option of a method: a dataclass field with default, help text and range. See ``dwfbench.runs.spec.setting``."""


@dataclass(frozen=True)
class Start:
    """What a method may look at before training: the initial network and data of the training part.

    ``compression`` is a number for a method that is turned by it, and None for others; here as everywhere below.

    ``batch(per_class)`` gives a class-balanced batch (inputs, targets); ``generator`` is the seed's own.
    """

    network: nn.Module
    input_shape: tuple[int, ...]
    compression: Any
    batch: Callable[[int], tuple[Tensor, Tensor]]
    generator: torch.Generator


@dataclass(frozen=True)
class Moment:
    """What a method may look at when it changes its masks during training.

    ``step`` of ``steps`` is about to be trained. ``weights`` are the effective ones, ``masks`` the boolean masks so
    far. ``gradients()`` gives the loss's gradients by the trainable tensors, also where these are masked, on the
    batch of that step: a pass more than others need. ``generator`` is the seed's own for this step.
    """

    step: int
    steps: int
    weights: dict[str, Tensor]
    masks: dict[str, Tensor]
    compression: Any
    gradients: Callable[[], dict[str, Tensor]]
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
        """The method's name in tables and legends: with the options that differ from their defaults.

        Of a class from a file (``load``) it lacks the checksum: tables tell versions apart where there are several.
        """
        name, changed = self.name.partition("@")[0], self.changed()
        if not changed:
            return name
        words = [
            key.replace("_", " ") if value is True else f"{key.replace('_', ' ')}={value}"
            for key, value in changed.items()
        ]
        return f"{name} ({', '.join(words)})"

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
        """Decay budget (``factors.decay_budget``) at which half of the initial ``weights`` would decay to zero.

        The lower end of the default strengths. None for methods that do not work by decay.
        """
        return None

    def extra_passes(self, steps: int) -> int:
        """Passes (forward and backward, over one batch or one input) that the method needs beside its ``steps``."""
        return 0

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

    def norm(self, weights: dict[str, Tensor]) -> Tensor | None:
        """What the penalty multiplies by the strength, as a scalar of the effective ``weights``: for the history.

        For L1 the sum of all |w|. None for methods without a penalty.
        """
        return None

    # -- (d) after a step, at a phase's end

    def project(self, tensor: Tensor, strength: Tensor, rate: Tensor) -> Tensor | None:
        """The trainable tensor after an optimiser step; ``rate`` is learning rate / (1 - momentum)."""
        return None

    def masks_after(self, phase: int, weights: dict[str, Tensor], compression: Any) -> dict | None:
        """Boolean masks to train on with after phase ``phase`` (0-based; not asked after the last), or None."""
        return None

    def mask_steps(self, steps: int) -> Collection[int]:
        """The steps, of all ``steps`` counted from 0, before which ``masks_at`` is asked. Initial masks are needed."""
        return ()

    def masks_at(self, moment: Moment) -> dict[str, Tensor]:
        """Boolean masks from now on; a weight that comes back is 0 and without momentum."""
        return moment.masks

    def rewind_epoch(self, epochs: int) -> int | None:
        """After how many epochs the network is kept (0: the initial one), to go back to at every later phase's start.

        What goes back is all that is trained and the normalisation statistics; masks stay. None: nothing goes back.
        """
        return None

    # -- (e) the end

    def sparsify(self, weights: dict[str, Tensor], compression: Any) -> dict[str, Tensor]:
        """The plain sparse weights that are counted, tested and stored: below float32's epsilon is zero."""
        return {name: torch.where(weight.abs() < FLOAT32_EPSILON, 0, weight) for name, weight in weights.items()}


def known() -> dict[str, EntryPoint]:
    """Entry points of all installed methods, by name; without those that ``plugins.find`` refuses."""
    return plugins.find("method")[0]


def load(name: str) -> type[Method]:
    """The class of a method: an installed one by its name, or ``path/to/file.py:Class``.

    A class from a file is named ``Class@<checksum>``, and is found under that name too in this process. UsageError
    for an unknown name (with the nearest one), and for a class that fails or breaks the contract.
    """
    if plugins.names_file(name):
        return _from_file(plugins.read("method", name))
    if (found := plugins.taken("method", name)) is not None:
        return found
    points, refused = plugins.find("method")
    if name in refused:
        plugins.tell(refused[name])
    if name not in points:
        plugins.refuse_forgotten("method", name)
        raise UsageError(f"There is no method {name!r}{nearest(name, points)} `dwfbench list methods` shows them.")
    kind = plugins.load("method", points[name])
    if why := fault(kind, name):
        raise UsageError(plugins.broken("method", points[name], why))
    return kind


def _from_file(file: plugins.File) -> type[Method]:
    if file.attribute in known():
        raise UsageError(f"There is a method {file.attribute!r} already; give the class in {file.path} another name.")
    kind = plugins.take(file)
    if why := fault(kind, file.identity):
        raise UsageError(f"The method {file.path}:{file.attribute} cannot be used: {why}.")
    return kind


RESERVED = (
    *(*settings(), *OWN, *CURVE_KEYS, "methods", "title", "when"),
    *("recipe", "config", "data_dir", "results", "device", "threads", "lanes", "jobs", "compile", "eval_every"),
    *(
        "checkpoint_minutes",
        "timeout_minutes",
        "ray",
        "cpus_per_group",
        "gpus_per_group",
        "tuned",
        "save_model",
        "dry_run",
        "force",
        "debug",
        "trials",
        "lr_range",
        "area",
        "help",
    ),
)
"""What an option of a method cannot be called: flags of commands, and keys of recipes."""

KINDS = (bool, int, float, str, int | None, float | None, str | None)
"""What an option of a method can be."""


def fault(kind: Any, name: str) -> str | None:
    """What in a class breaks the contract of a method called ``name``, as half a sentence; None where all is well."""
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        return "it is not a subclass of dwfbench.method.Method"
    if kind.name != name:
        return f"its class has the name {kind.name!r} and not {name!r}"
    if kind.knob not in (None, "strength", "compression"):
        return f"its knob must be 'strength', 'compression' or None, not {kind.knob!r}"
    if not all(isinstance(text, str) for text in (kind.summary, kind.source)):
        return "its summary and source must be texts"
    if any(isinstance(value, Field) for value in vars(kind).values()):
        return "its class has options but is not decorated with @dataclass(frozen=True)"
    for item in fields(kind):
        if "help" not in item.metadata:
            return f"its option {item.name!r} is not made with dwfbench.method.option"
        if item.name in RESERVED:
            return f"its option {item.name!r} has the name of a flag or key that all methods share"
        if item.type not in KINDS:
            allowed = (
                "bool, int, float or str (or None), and not a text, which `from __future__ import annotations` makes"
            )
            return f"its option {item.name!r} must be annotated with {allowed}"
    try:
        kind().label()
    except (Exception, SystemExit) as error:
        return f"it cannot be made with its defaults ({plugins.reason(error)})"
    return None


def create(name: str, options: dict[str, Any]) -> Method:
    """A method with its options; UsageError for an unknown option, naming the nearest."""
    kind = load(name)
    names = [item.name for item in fields(kind)]
    for key in options:
        if key not in names:
            raise UsageError(f"The method {name} has no option {key!r}{nearest(key, names)}")
    return kind(**options)
