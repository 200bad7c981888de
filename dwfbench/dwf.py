"""Deep Weight Factorization as a method: ``factorization.py`` behind the Method contract.

Per weight tensor there are D trainable factors of its shape. Algorithm 1 draws them, plain L2 decay of
2 * strength / D acts on them, and collapse plus the float32 threshold (Algorithm 2) end the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dwfbench.factorization import DEFAULT_MIN_ABS, budget_to_reach_zero, initial_factors, misalignment_of, product
from dwfbench.method import Method, option


class FactorMethod(Method):
    """What methods that train a product of factors share: (strength / D) sum_d ||w_d||^2.

    The factors of a weight are trainable tensors of its shape, named ``fc1.weight.0`` ... ``fc1.weight.{D-1}``: apart
    rather than stacked, so that the compiler can fuse a step's work on all of them into one pass over memory.
    """

    knob: ClassVar[str] = "strength"
    decays: ClassVar[bool] = False
    depth: int

    def factors(self, weights: dict[str, Tensor], generator: torch.Generator) -> dict[str, Sequence[Tensor]]:
        """The D initial factors of every weight."""
        raise NotImplementedError

    @property
    def power(self) -> float:
        return 2 / self.depth

    def needed_budget(self, weights: dict[str, Tensor]) -> float:
        typical = torch.cat([weight.detach().abs().flatten() for weight in weights.values()]).median()
        return budget_to_reach_zero(float(typical))

    def reparametrize(self, weights: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        initial = self.factors(weights, generator)
        return {f"{name}.{d}": factor for name, factors in initial.items() for d, factor in enumerate(factors)}

    def effective(self, trainable: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: product(factors) for name, factors in factors_by_weight(trainable).items()}

    def misalignment(self, trainable: dict[str, Tensor]) -> Tensor:
        return sum(misalignment_of(factors) for factors in factors_by_weight(trainable).values())

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
    """DWF as re-implemented from the paper; see the module's docstring and ``dwfbench.factorization``."""

    name: ClassVar[str] = "dwf"
    summary: ClassVar[str] = "weights as products of D factors under plain L2 decay: an L_{2/D} penalty by SGD alone"
    source: ClassVar[str] = "Kolb, Weber, Bischl, Ruegamer, ICLR 2025, arXiv 2502.02496"

    depth: int = option(3, "number of factors D", low=2)
    min_abs: float = option(DEFAULT_MIN_ABS, "smallest initial |weight|, at most sigma / 4 of the layer", low=0)
    rescale_init: bool = option(False, "scale fresh factors so that the weights' deviation is sigma exactly")

    def label(self) -> str:
        rest = {key: value for key, value in self.changed().items() if key != "depth"}
        words = [f"D={self.depth}", *(f"{key.replace('_', ' ')}={value}" for key, value in rest.items())]
        return f"dwf {', '.join(words)}"

    def factors(self, weights: dict[str, Tensor], generator: torch.Generator) -> dict[str, Sequence[Tensor]]:
        return {
            name: initial_factors(name, weight, self.depth, self.min_abs, generator, self.rescale_init)
            for name, weight in weights.items()
        }
