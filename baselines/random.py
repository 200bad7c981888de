"""Random pruning, a serious baseline when the layers' densities are chosen well (Liu et al., ICLR 2022)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dwfbench.base.errors import UsageError
from dwfbench.methods.contract import Moment, Pruner
from dwfbench.models.prunable import prunable
from dwfbench.sparsity.masks import DISTRIBUTIONS, kept, layer_counts


def masks(
    model: nn.Module,
    compression: float,
    distribution: str = "global",
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Boolean masks by parameter name that keep `kept(N, compression)` of the model's weights at random; see `draw`."""
    return draw(prunable(model), compression, distribution, generator)


def draw(
    weights: Mapping[str, Tensor],
    compression: float,
    distribution: str = "global",
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Boolean masks, shaped as the weights, that keep `kept(N, compression)` of them at random.

    "global" draws from all N weights alike; "uniform" and "erk" draw within layers (see `layer_counts`).
    Drawn on the CPU by `generator` (torch's own if None), so the masks are the same for every device. Raises
    UsageError for another distribution or a bad compression.
    """
    numel = {name: w.numel() for name, w in weights.items()}
    if distribution not in DISTRIBUTIONS:
        raise UsageError(f"unknown distribution '{distribution}'; choose one of {', '.join(DISTRIBUTIONS)}")
    if distribution == "global":
        total = sum(numel.values())
        flat = _draw(total, kept(total, compression), generator).split(list(numel.values()))
    else:
        counts = layer_counts({name: w.shape for name, w in weights.items()}, compression, distribution)
        flat = [_draw(numel[name], counts[name], generator) for name in weights]
    return {name: m.view(w.shape).to(w.device) for (name, w), m in zip(weights.items(), flat, strict=True)}


def _draw(numel: int, count: int, generator: torch.Generator | None) -> Tensor:
    mask = torch.zeros(numel, dtype=torch.bool)
    mask[torch.randperm(numel, generator=generator)[:count]] = True
    return mask


@dataclass(frozen=True)
class Random(Pruner):
    """Prunes the initial network at random, then trains what is left. With ERK, a serious baseline."""

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "at initialisation, keep random weights"
    source: ClassVar[str] = "ERK: Mocanu et al. 2018; Evci et al., ICML 2020, arXiv 1911.11134"
    look: ClassVar[tuple] = ("#999933", "*")

    def label(self) -> str:
        return f"random ({self.distribution})"

    def masks(self, moment: Moment, scores: dict[str, Tensor] | None) -> dict[str, Tensor]:
        return draw(moment.weights, moment.compression, self.distribution, moment.generator)
