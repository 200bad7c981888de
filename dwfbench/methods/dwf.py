"""Deep Weight Factorization as a method: ``factors.py`` and ``gates.py`` behind the Method contract.

Per weight tensor there are D trainable factors of its shape. Algorithm 1 draws them, plain L2 decay of
2 * strength / D acts on them, and collapse plus the float32 threshold (Algorithm 2) end the run. With a ``group``
there are one tensor of the weight's shape and D - 1 gates a group instead (``gates.py``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.data.dataset import Dataset
from dwfbench.dwf import gates, places
from dwfbench.dwf.factors import (
    DEFAULT_MIN_ABS,
    budget_to_reach_zero,
    initial_factors,
    misalignment_of,
    product,
    total,
)
from dwfbench.methods.contract import Method, option
from dwfbench.runs.spec import RunSpec


class FactorMethod(Method):
    """What methods that train a product of factors share: (strength / D) sum_d ||w_d||^2.

    The factors of a weight are trainable tensors of its shape, named ``fc1.weight.0`` ... ``fc1.weight.{D-1}``: apart
    rather than stacked, so that the compiler can fuse a step's work on all of them into one pass over memory.
    """

    knob: ClassVar[str] = "strength"
    decays: ClassVar[bool] = False
    depth: int

    def factors(self, weights: dict[str, Tensor], generator: torch.Generator) -> Mapping[str, Iterable[Tensor]]:
        """The D initial factors of every weight."""
        raise NotImplementedError

    def norm(self, weights: dict[str, Tensor]) -> Tensor:
        return total(weight.abs().pow(2 / self.depth).sum() for weight in weights.values())

    def needed_budget(self, weights: dict[str, Tensor]) -> float:
        typical = torch.cat([weight.detach().abs().flatten() for weight in weights.values()]).median()
        return budget_to_reach_zero(float(typical))

    def reparametrize(self, weights: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        initial = self.factors(weights, generator)
        return {f"{name}.{d}": factor for name, factors in initial.items() for d, factor in enumerate(factors)}

    def effective(self, trainable: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: product(factors) for name, factors in factors_by_weight(trainable).items()}

    def misalignment(self, trainable: dict[str, Tensor]) -> Tensor:
        return total(misalignment_of(factors) for factors in factors_by_weight(trainable).values())

    def penalty_gradient(self, tensor: Tensor, strength: Tensor) -> Tensor:
        return 2 * strength / self.depth * tensor


def factors_by_weight(trainable: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """The factors ``fc1.weight.0``, ``fc1.weight.1``, ... under ``fc1.weight``."""
    factors: dict[str, list[Tensor]] = {}
    for name, factor in trainable.items():
        factors.setdefault(name.rpartition(".")[0], []).append(factor)
    return factors


@dataclass(frozen=True)
class Dwf(FactorMethod):
    """DWF as re-implemented from the paper; see the module's docstring and ``dwfbench.dwf.factors``."""

    name: ClassVar[str] = "dwf"
    summary: ClassVar[str] = "weights as products of D factors under plain L2 decay: an L_{2/D} penalty by SGD alone"
    source: ClassVar[str] = "Kolb, Weber, Bischl, Ruegamer, ICLR 2025, arXiv 2502.02496"

    depth: int = option(3, "number of factors D", low=2, high=64)
    min_abs: float = option(DEFAULT_MIN_ABS, "smallest initial |weight|, at most sigma / 4 of the layer", low=0)
    rescale_init: bool = option(False, "scale fresh factors so that the weights' deviation is sigma exactly")
    group: str = option(
        "none", "weights that vanish together: none, channel (of an output) or row (of an input)", choices=gates.GROUPS
    )

    def label(self) -> str:
        rest = {key: value for key, value in self.changed().items() if key != "depth"}
        words = [f"D={self.depth}", *(f"{key.replace('_', ' ')}={value}" for key, value in rest.items())]
        return f"dwf {', '.join(words)}"

    def check(self, spec: RunSpec, data: Dataset) -> None:
        """With groups: no option of Algorithm 1, and no layer whose groups a weight's shape alone does not tell."""
        if self.group == "none":
            return
        if self.rescale_init or self.min_abs != DEFAULT_MIN_ABS:
            raise UsageError(f"With group={self.group} nothing is drawn: leave out min-abs and rescale-init.")
        network = models.build(spec.model, data.input_shape, data.classes, spec.seed)
        for place in places.places(network):
            if not isinstance(place.module, nn.Linear | _ConvNd):
                continue
            weight = place.module.weight
            if place.gate_shape(self.group, weight) != self.gate_shape(weight):
                raise UsageError(
                    f"The layer {place.layer} is a transposed or grouped convolution, for which group={self.group} is "
                    "offered by dwfbench.factorize only."
                )

    def gate_shape(self, weight: Tensor) -> tuple[int, ...]:
        """That of the gates of a weight (output, input, ...)."""
        return gates.gate_shape(weight.shape, gates.GROUPS.index(self.group) - 1)

    def factors(self, weights: dict[str, Tensor], generator: torch.Generator) -> Mapping[str, Iterable[Tensor]]:
        if self.group != "none":
            return {name: gates.open_gates(w, self.depth, self.gate_shape(w)) for name, w in weights.items()}
        return {
            name: initial_factors(name, weight, self.depth, self.min_abs, generator, self.rescale_init)
            for name, weight in weights.items()
        }

    def effective(self, trainable: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.group == "none":
            return super().effective(trainable)
        return {name: gates.gated(factors) for name, factors in factors_by_weight(trainable).items()}

    def misalignment(self, trainable: dict[str, Tensor]) -> Tensor:
        if self.group == "none":
            return super().misalignment(trainable)
        return total(gates.gate_misalignment(factors) for factors in factors_by_weight(trainable).values())

    def norm(self, weights: dict[str, Tensor]) -> Tensor:
        if self.group == "none":
            return super().norm(weights)
        return total(gates.group_norm(weight, self.gate_shape(weight), self.depth) for weight in weights.values())

    def needed_budget(self, weights: dict[str, Tensor]) -> float:
        """For groups, that which closes those of half of the weights: later than half of the weights alone would go."""
        if self.group == "none":
            return super().needed_budget(weights)
        return gates.budget_to_close((weight, self.gate_shape(weight)) for weight in weights.values())
