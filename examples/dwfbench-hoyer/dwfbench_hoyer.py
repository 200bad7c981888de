"""Hoyer-square regularisation: H(w) = (sum |w|)^2 / sum w^2 of every weight tensor, from 1 to its number of weights.

Yang, Wen and Li, "DeepHoyer: Learning Sparser Neural Network with Differentiable Scale-Invariant Sparsity Measures",
ICLR 2020. H does not change when a tensor is scaled, so unlike L1 it does not shrink the large weights: its gradient
2 s (sign(w) - s w), with s = sum |w| / sum w^2, pulls weights below 1 / s to zero and pushes those above it away.

As in the paper, small weights are cut after training; here at a fixed threshold, and without the paper's fine-tuning.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dwfbench.method import Method, option


def hoyer_square(weight: Tensor) -> Tensor:
    """H of a tensor, 0 where all of it is 0."""
    return weight.abs().sum().square() / weight.square().sum().clamp_min(torch.finfo(weight.dtype).tiny)


@dataclass(frozen=True)
class Hoyer(Method):
    """Minimises L(w) + strength * sum over the tensors of H(w)."""

    name: ClassVar[str] = "hoyer"
    knob: ClassVar[str] = "strength"
    summary: ClassVar[str] = "Hoyer-square penalty on plain weights, then a threshold"
    source: ClassVar[str] = "Yang, Wen and Li, ICLR 2020, arXiv 1908.09979"
    look: ClassVar[tuple] = ("#00798c", "p")  # in figures: colour and marker
    decays: ClassVar[bool] = False  # no weight decay beside the penalty

    threshold: float = option(1e-3, "final threshold on |w|", low=0)

    def penalty(self, trainable: dict[str, Tensor]) -> Tensor:
        return sum(hoyer_square(weight) for weight in trainable.values())

    def final_threshold(self) -> float:
        return self.threshold
