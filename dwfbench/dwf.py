"""Deep Weight Factorization as a method: ``factorization.py`` behind the Method contract.

Per weight tensor the trainable tensor is the stack of its factors, shape (D, *shape). Algorithm 1 draws it, plain
L2 decay of 2 * strength / D acts on it, and collapse plus the float32 threshold (Algorithm 2) end the run.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dwfbench.factorization import DEFAULT_MIN_ABS, budget_to_reach_zero, initial_factors, misalignment_of, product
from dwfbench.method import Method, option


class FactorMethod(Method):
    """What methods that train a product of factors share: (strength / D) sum_d ||w_d||^2 on stacked factors."""

    knob: ClassVar[str] = "strength"
    decays: ClassVar[bool] = False

    def needed_budget(self, weights: dict[str, Tensor]) -> float:
        typical = torch.cat([weight.detach().abs().flatten() for weight in weights.values()]).median()
        return budget_to_reach_zero(float(typical))

    def effective(self, trainable: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: product(factors) for name, factors in trainable.items()}

    def misalignment(self, trainable: dict[str, Tensor]) -> Tensor:
        return torch.stack([misalignment_of(factors) for factors in trainable.values()]).sum()

    def penalty_gradient(self, tensor: Tensor, strength: Tensor) -> Tensor:
        # Tensors have a lane axis in front here, so the factors' axis is the second.
        return 2 * strength / tensor.shape[1] * tensor


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

    def reparametrize(self, weights: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        return {
            name: initial_factors(name, weight, self.depth, self.min_abs, generator, self.rescale_init)
            for name, weight in weights.items()
        }
