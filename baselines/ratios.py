"""Random pruning with the layers' densities of another method: how much of a method is its ratios, how much its choice?

Liu et al., ICLR 2022 ("The unreasonable effectiveness of random pruning") and Su et al., NeurIPS 2020 ("Sanity-checking
pruning methods"), who found that SNIP and GraSP keep their accuracy when their masks are shuffled within layers.

The trap: to compare with the method itself, the densities must be those of the same seed's initial network.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dwfbench.data.dataset import Dataset
from dwfbench.methods.contract import Method, Moment, option
from dwfbench.methods.registry import create
from dwfbench.runs.spec import RunSpec
from dwfbench.sparsity.masks import largest

PRUNERS = ("snip", "grasp", "synflow")


@dataclass(frozen=True)
class Ratios(Method):
    """Computes the initial masks of the method ``of`` with its default options, and shuffles them within layers."""

    name: ClassVar[str] = "ratios"
    knob: ClassVar[str] = "compression"
    summary: ClassVar[str] = "at initialisation, keep random weights, as many in each layer as another method keeps"
    source: ClassVar[str] = "Su et al., NeurIPS 2020, arXiv 2009.11094; Liu et al., ICLR 2022, arXiv 2202.02643"
    look: ClassVar[tuple] = ("#661100", "p")

    of: str = option("synflow", "method whose layers' densities are taken", choices=PRUNERS)

    def label(self) -> str:
        return f"random (ratios of {self.of})"

    def copied_method(self) -> Method:
        return create(self.of, {})

    def check(self, spec: RunSpec, data: Dataset) -> None:
        self.copied_method().check(spec, data)

    def extra_passes(self, steps: int) -> int:
        return self.copied_method().extra_passes(steps)

    def scores(self, moment: Moment) -> dict[str, Tensor] | None:
        return self.copied_method().scores(moment)

    def masks(self, moment: Moment, scores: dict[str, Tensor] | None) -> dict[str, Tensor]:
        masks = self.copied_method().masks(moment, scores)
        assert masks is not None  # PRUNERS prune at initialisation
        drawn = {
            name: torch.rand(mask.shape, generator=moment.generator).to(mask.device) for name, mask in masks.items()
        }
        return {name: largest(drawn[name], int(mask.sum())) for name, mask in masks.items()}
