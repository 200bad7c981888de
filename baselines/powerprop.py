"""Powerpropagation (Schwarz, Jayakumar, Pascanu, Latham and Teh, NeurIPS 2021, arXiv 2110.00296).

Every weight is trained as w = theta abs(theta)^(alpha - 1), so that large weights move fast and small ones hardly at
all; then magnitude pruning.

The trap: theta must start at sign(w) abs(w)^(1 / alpha) of the ordinary initial weight w. Were theta drawn like w, the
effective weights would be far too small to train.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from baselines.magnitude import Magnitude
from dwfbench.dwf.factors import redrawn_if_zero
from dwfbench.dwf.parametrization import Parametrization
from dwfbench.methods.contract import option
from dwfbench.methods.stage import Stage


@dataclass(frozen=True)
class Power(Parametrization):
    """A weight as theta abs(theta)^(alpha - 1)."""

    alpha: float

    def draw(self, name: str, weight: Tensor, generator: torch.Generator | None) -> Sequence[Tensor]:
        return self.keep(redrawn_if_zero(weight, generator))

    def keep(self, weight: Tensor) -> Sequence[Tensor]:
        return (weight.sign() * weight.abs().pow(1 / self.alpha),)

    def weight(self, *parts: Tensor) -> Tensor:
        (theta,) = parts
        if self.alpha == 1:
            return theta
        zero = theta == 0  # there abs(theta)^(alpha - 1) has no derivative for alpha < 2, but the weight has: 0
        base = theta.masked_fill(zero, 1.0)
        return (base * base.abs().pow(self.alpha - 1)).masked_fill(zero, 0.0)


@dataclass(frozen=True)
class Powerprop(Magnitude):
    """As ``magnitude``, in its budget and options, on weights that are powers of what is trained.

    Weight decay acts on what is trained. At alpha = 2 the decayed weights have an L1 penalty, as with two factors,
    unless the decay is decoupled from the gradient (AdamW).
    """

    name: ClassVar[str] = "powerprop"
    summary: ClassVar[str] = "weights theta |theta|^(alpha - 1), then as magnitude"
    source: ClassVar[str] = "Schwarz et al., NeurIPS 2021, arXiv 2110.00296"
    look: ClassVar[tuple] = ("#d4b106", "d")

    alpha: float = option(2.0, "power, 1: plain weights", low=1)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        return tuple(replace(stage, parametrization=Power(self.alpha)) for stage in super().stages(epochs))
