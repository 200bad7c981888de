"""LAMP (Lee, Park, Mo, Ahn and Shin, ICLR 2021, arXiv 2010.07611): magnitude pruning with scores that fit all layers.

The trap: the sum in the denominator is over the weights of the layer that are at least as large as the weight itself,
so that the largest one of each layer scores 1 and no layer is emptied. Summed over all weights of the layer, it would
be another rescaling of magnitudes.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.magnitude import Magnitude


def scores(weight: Tensor) -> Tensor:
    """w^2 / (sum of v^2 over the weights v of the layer with abs(v) >= abs(w)), in [0, 1] (equation 3); 0 for w = 0.

    In float64, and of equal weights the later counts as the larger, as in the paper's ordering by index.
    """
    squares, order = weight.detach().double().square().flatten().sort(stable=True)
    above = squares.flip(0).cumsum(0).flip(0)
    result = torch.zeros_like(squares)
    result[order] = torch.where(squares > 0, squares / above, 0.0)
    return result.view(weight.shape)


@dataclass(frozen=True)
class Lamp(Magnitude):
    """As ``magnitude``, in its budget and options, by LAMP scores instead of abs(w)."""

    name: ClassVar[str] = "lamp"
    summary: ClassVar[str] = "as magnitude, by scores that are comparable across layers"
    source: ClassVar[str] = "Lee, Park, Mo, Ahn and Shin, ICLR 2021, arXiv 2010.07611"
    look: ClassVar[tuple] = ("#8c564b", ">")

    def importance(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: scores(weight) for name, weight in weights.items()}
