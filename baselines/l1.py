"""L1 regularisation of the plain weights (the lasso; Tibshirani 1996), by subgradient or by proximal steps.

Subgradient: strength * sign(w) joins the gradient; weights end near zero, not at it, so a threshold ends the
run. Proximal (``--proximal``): after every step, soft-thresholding, which gives exact zeros; but the noise of the
gradients moves weights away from zero again, by less than the threshold that ends the run here, too.

The trap: under momentum m a constant gradient g moves a weight by lr * g / (1 - m) a step. The soft threshold
must be lr * strength / (1 - m) too, or the proximal form would solve the lasso with (1 - m) times the
strength.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dwfbench.dwf.factors import total
from dwfbench.methods.contract import Method, option


@dataclass(frozen=True)
class L1(Method):
    """Minimises L(w) + strength * ||w||_1 over plain weights."""

    name: ClassVar[str] = "l1"
    knob: ClassVar[str] = "strength"
    summary: ClassVar[str] = "L1 penalty on plain weights by subgradient, then a threshold; or proximal steps"
    source: ClassVar[str] = "Tibshirani, J. R. Stat. Soc. B 1996; Daubechies et al. 2004 for the proximal step"
    look: ClassVar[tuple] = ("#e69f00", "s")
    decays: ClassVar[bool] = False

    proximal: bool = option(False, "soft-threshold after every step instead of a subgradient")
    threshold: float = option(1e-3, "final threshold on |w|", low=0)

    def norm(self, weights: dict[str, Tensor]) -> Tensor:
        return total(weight.abs().sum() for weight in weights.values())

    def penalty(self, trainable: dict[str, Tensor]) -> Tensor | None:
        return None if self.proximal else self.norm(trainable)

    def project(self, tensor: Tensor, strength: Tensor, rate: Tensor) -> Tensor | None:
        return tensor.sign() * (tensor.abs() - rate * strength).clamp_min(0) if self.proximal else None

    def final_threshold(self) -> float:
        return self.threshold
