"""The Method contract: everything in which methods differ. All else is the trainer's, and the same for all.

A method is a frozen dataclass whose fields are its options (flags of ``dwfbench run``, keys of recipes), and a list of
*stages*. Every hook has a default, so an empty subclass is dense training, a pruner writes its ``scores`` alone and a
penalty its ``penalty``; docs/adding-a-method.md shows the way. How methods are found: ``registry.py``.

Tensors named ``weights`` are dicts of the prunable weights (see ``models.prunable``), keyed by parameter name, and all
tensors are those of one network. The hooks of a step (``penalty``, ``project``, and a stage's parametrization) see what
is trained; they run under vmap and torch.compile and are therefore built from differentiable or elementwise torch
operations only.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dwfbench.data.dataset import Dataset
from dwfbench.dwf.factors import FLOAT32_EPSILON
from dwfbench.methods.stage import Stage
from dwfbench.runs.spec import RunSpec, setting, settle
from dwfbench.sparsity.masks import DISTRIBUTIONS, informed_masks, top_k_masks

Tensors = dict[str, Tensor]

option = setting
"""An option of a method: a dataclass field with default, help text and range. See ``dwfbench.runs.spec.setting``."""


@dataclass(frozen=True)
class Moment:
    """When a method is asked for masks, and what it may look at.

    - ``step`` of ``steps``, counted from 0, is about to be trained; it is the first of stage ``stage`` if ``begins``
    - ``weights``: the network's prunable weights now, and ``masks`` the boolean masks so far (True: kept)
    - ``compression``: the knob of a method that is turned by it, and None for others
    - ``generator``: the seed's own stream of random numbers for this moment
    - ``network()``: a copy of the network as it is now; ``input_shape`` is that of a sample, without the batch axis
    - ``batch(per_class)``: a class-balanced batch (inputs, targets) of the training part
    - ``loss(outputs, targets)``: the mean loss of a batch, by which the network is trained
    - ``gradients()``: the loss's gradients by what is trained, by name, also where it is masked, on the batch of that
      step: a pass more than others need
    """

    weights: Tensors
    masks: Tensors
    compression: Any
    step: int = 0
    steps: int = 1
    stage: int = 0
    begins: bool = True
    generator: torch.Generator = field(default_factory=torch.Generator)
    input_shape: tuple[int, ...] = ()
    network: Callable[[], nn.Module] = nn.Identity
    batch: Callable[[int], tuple[Tensor, Tensor]] = lambda per_class: (torch.empty(0), torch.empty(0))
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    gradients: Callable[[], Tensors] = dict


@dataclass(frozen=True)
class Method:
    """A way of making a network sparse. Subclasses are frozen dataclasses; fields are options."""

    name: ClassVar[str] = ""
    knob: ClassVar[str | None] = None  # "strength", "compression" or None
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    look: ClassVar[tuple] = ()  # colour and marker in figures, a literal: they read it from the source
    decays: ClassVar[bool] = True  # whether RunSpec.weight_decay applies; False for methods with a penalty

    def __post_init__(self):
        settle(self)

    def label(self) -> str:
        """The method's name in tables and legends: with the options that differ from their defaults.

        Of a class from a file it lacks the checksum: tables tell versions apart where there are several.
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

    # -- (a) when a command is planned

    def check(self, spec: RunSpec, data: Dataset) -> None:
        """Raise UsageError if the options do not fit the run or its data (e.g. more fine-tuning than epochs).

        Asked when a command is planned, so that nothing has been trained in vain.
        """

    def tunable(self) -> dict[str, tuple]:
        """Options that tuning tries beside the learning rate, each with its values: {"finetune_lr": (0.3, 1.0)}."""
        return {}

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        """How the epoch budget is spent. The stages' epochs must add up to ``epochs``."""
        return (Stage(epochs),)

    def needed_budget(self, weights: Tensors) -> float | None:
        """Decay budget (``factors.decay_budget``) at which half of the initial ``weights`` would decay to zero.

        The lower end of the default strengths. None for methods that do not work by decay.
        """
        return None

    def extra_passes(self, steps: int) -> int:
        """Passes (forward and backward, over one batch or one input) that the method needs beside its ``steps``."""
        return 0

    # -- (b) masks: asked for before the first step of every stage, and before the steps that the method names

    def mask_steps(self, steps: int) -> Collection[int]:
        """Further steps, of all ``steps`` counted from 0, before which masks are asked for."""
        return ()

    def scores(self, moment: Moment) -> Tensors | None:
        """Scores of the weights, the larger the better kept, or None: masks stay as they are.

        Those before the first step of all are asked for once a seed, so they must not depend on the compression.
        """
        return None

    def masks(self, moment: Moment, scores: Tensors | None) -> Tensors | None:
        """Boolean masks (True: kept) from now on, shaped as the weights, or None: they stay as they are.

        ``scores`` are the method's own of this moment; by default exactly the weights of largest score are kept. A
        weight that comes back is 0 and without moments.
        """
        return None if scores is None else top_k_masks(scores, self.target(moment))

    def target(self, moment: Moment) -> float:
        """The compression ratio of the masks to be chosen: by default at once that of the run."""
        return moment.compression

    # -- (c) every step

    def decay(self, strength: Tensor) -> Tensor | None:
        """The coefficient of plain weight decay, c in gradient + c * tensor, of everything that is trained for weights.

        For penalties that are L2 decay of what is trained, as DWF's; ``strength`` is a scalar. None: the run's
        weight_decay, if the method ``decays``.
        """
        return None

    def penalty(self, trainable: Tensors) -> Tensor | None:
        """What the strength multiplies, as a scalar of what is trained; its gradient joins the loss's. None: nothing.

        By name, a weight's parts as in ``dwfbench.dwf.parametrization.part_names``: the weights themselves where
        they are trained as they are.
        """
        return None

    def shrinkage(self) -> float:
        """c in c / 2 times the sum of w^2 over the network's weights themselves, whatever is trained for them.

        It joins the objective in every stage, whether penalised or not, and does not depend on the strength.
        """
        return 0.0

    def project(self, tensor: Tensor, strength: Tensor, rate: Tensor) -> Tensor | None:
        """A trained tensor after an optimiser step, or None: as it is.

        ``rate`` is by what a steady gradient moves it: learning rate / (1 - momentum), Adam's learning rate.
        """
        return None

    # -- (d) for the history and at the end

    def norm(self, weights: Tensors) -> Tensor | None:
        """What the penalty comes to for the network's ``weights``, at the least: a scalar, or None without a penalty.

        For L1 the sum of all |w|. Where weights are trained as they are it is the penalty itself.
        """
        return self.penalty(weights)

    def sparsify(self, weights: Tensors, compression: Any) -> Tensors:
        """The network's weights at the end, pruned where the method prunes after training: by default as they are."""
        return weights

    def final_threshold(self) -> float:
        """Below it the absolute value of a weight counts as zero at the end, after ``sparsify``, which happens first.

        Float32's epsilon for every method that has no threshold of its own (Algorithm 2 of DWF).
        """
        return FLOAT32_EPSILON


@dataclass(frozen=True)
class Pruner(Method):
    """A method that keeps the weights of largest score, which layers share as asked; a subclass writes ``scores``."""

    knob: ClassVar[str | None] = "compression"

    distribution: str = option("global", "how layers share the kept weights", choices=DISTRIBUTIONS)

    def masks(self, moment: Moment, scores: Tensors | None) -> Tensors | None:
        if scores is None:
            return None
        if moment.step == 0:  # later, weights that are zero are known to be worth nothing
            return informed_masks(scores, self.target(moment), self.distribution, moment.generator)
        return top_k_masks(scores, self.target(moment), self.distribution)
