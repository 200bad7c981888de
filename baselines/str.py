"""Soft threshold weight reparametrization (Kusupati et al., ICML 2020, arXiv 2002.03231): thresholds that are learned.

Each layer is used as S(w, s) = sign(w) relu(abs(w) - sigmoid(s)), w and s trained by SGD with the same weight decay.

The trap: there is no target. The initial s is far below 0, where the threshold is 0; weight decay drives it up towards
sigmoid(0), so decay, learning rates and epochs together decide the sparsity. With too small a budget nothing happens.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dwfbench.methods.contract import Method, option

SUFFIX = ".threshold"


@dataclass(frozen=True)
class Str(Method):
    """The strength is the weight decay of weights and thresholds: gradient of (strength / 2) (||w||^2 + s^2)."""

    name: ClassVar[str] = "str"
    knob: ClassVar[str] = "strength"
    summary: ClassVar[str] = "weights under soft thresholds, one a layer, that are learned under weight decay"
    source: ClassVar[str] = "Kusupati et al., ICML 2020, arXiv 2002.03231"
    decays: ClassVar[bool] = False

    start: float = option(-200.0, "initial s of every layer; our own choice", high=0)

    def needed_budget(self, weights: dict[str, Tensor]) -> float:
        """Decay alone takes s to ``start`` exp(-budget); half of the initial weights are cut where it is
        logit(median abs(w))."""
        typical = float(torch.cat([weight.detach().abs().flatten() for weight in weights.values()]).median())
        return math.log(self.start / math.log(typical / (1 - typical)))

    def reparametrize(self, weights: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        return weights | {f"{name}{SUFFIX}": weight.new_full((), self.start) for name, weight in weights.items()}

    def effective(self, trainable: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: weight.sign() * (weight.abs() - trainable[f"{name}{SUFFIX}"].sigmoid()).relu()
            for name, weight in trainable.items()
            if not name.endswith(SUFFIX)
        }

    def penalty_gradient(self, tensor: Tensor, strength: Tensor) -> Tensor:
        return strength * tensor
