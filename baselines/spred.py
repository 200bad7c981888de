"""spred: L1 by redundant parametrization (Ziyin and Wang, ICML 2023, arXiv 2210.01212).

w = u * v with L2 decay on both factors has the minima of the lasso, like DWF at depth 2. The two differ only
in initialisation: here each factor is drawn as the layer's ordinary initialiser would draw the weight, so the
products start small (standard deviation sigma^2). The trap: started so, deep networks learn late or not at
all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dwfbench.dwf.factors import deviation
from dwfbench.dwf.parametrization import Product
from dwfbench.methods.dwf import FactorMethod


@dataclass(frozen=True)
class TwoDraws(Product):
    """Two factors: the seed's own initial weight, and a second draw of the same standard deviation."""

    depth: int = 2

    def draw(self, name: str, weight: Tensor, generator: torch.Generator | None) -> Sequence[Tensor]:
        measured = weight.std(correction=0).cpu()
        sigma = measured if measured else deviation(weight)  # a second factor of zero would stay so
        return weight, (torch.randn(weight.shape, generator=generator) * sigma).to(weight)


@dataclass(frozen=True)
class Spred(FactorMethod):
    """Minimises L(u * v) + (strength / 2) (||u||^2 + ||v||^2), i.e. L(w) + strength * ||w||_1."""

    name: ClassVar[str] = "spred"
    summary: ClassVar[str] = "two factors, each with the layer's ordinary initialisation, L2 decay on both"
    source: ClassVar[str] = "Ziyin and Wang, ICML 2023, arXiv 2210.01212"
    look: ClassVar[tuple] = ("#cc79a7", "P")

    depth = 2  # without an annotation: no option

    def parametrization(self) -> Product:
        return TwoDraws()
