"""Soft threshold weight reparametrization (Kusupati et al., ICML 2020, arXiv 2002.03231): thresholds that are learned.

Each layer is used as S(w, s) = sign(w) relu(abs(w) - sigmoid(s)), w and s trained by SGD with the same weight decay.

The trap: there is no target. The initial s is far below 0, where the threshold is 0; weight decay drives it up towards
sigmoid(0), so decay, learning rates and epochs together decide the sparsity. With too small a budget nothing happens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dwfbench.dwf.factors import median_size, redrawn_if_zero
from dwfbench.dwf.parametrization import Parametrization
from dwfbench.methods.contract import Method, option
from dwfbench.methods.stage import Stage


@dataclass(frozen=True)
class SoftThreshold(Parametrization):
    """A weight from a tensor of its shape and a number s: sign(w) relu(abs(w) - sigmoid(s))."""

    start: float

    @property
    def parts(self) -> int:
        return 2

    def draw(self, name: str, weight: Tensor, generator: torch.Generator | None) -> Sequence[Tensor]:
        return self.keep(redrawn_if_zero(weight, generator))

    def keep(self, weight: Tensor) -> Sequence[Tensor]:
        """With s at its start, where sigmoid(s) is next to 0; the weight is kept up to that."""
        return weight, weight.new_full((), self.start)

    def weight(self, *parts: Tensor) -> Tensor:
        weight, threshold = parts
        return weight.sign() * (weight.abs() - threshold.sigmoid()).relu()


@dataclass(frozen=True)
class Str(Method):
    """The strength is the weight decay of weights and thresholds: gradient of (strength / 2) (||w||^2 + s^2)."""

    name: ClassVar[str] = "str"
    knob: ClassVar[str] = "strength"
    summary: ClassVar[str] = "weights under soft thresholds, one a layer, that are learned under weight decay"
    source: ClassVar[str] = "Kusupati et al., ICML 2020, arXiv 2002.03231"
    look: ClassVar[tuple] = ("#6f42c1", "^")
    decays: ClassVar[bool] = False

    start: float = option(-200.0, "initial s of every layer; our own choice", high=0)

    def needed_budget(self, weights: dict[str, Tensor]) -> float | None:
        """Decay alone takes s to ``start`` exp(-budget); half of the initial weights are cut where it is
        logit(median abs(w)). None where that lies outside of ``start`` and 0, between which decay moves s."""
        typical = median_size(weights.values())
        logit = math.log(typical / (1 - typical)) if typical < 1 else math.inf
        return math.log(self.start / logit) if self.start < logit < 0 else None

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        return (Stage(epochs, parametrization=SoftThreshold(self.start)),)

    def decay(self, strength: Tensor) -> Tensor:
        return strength
