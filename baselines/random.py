"""Random pruning, a serious baseline when the layers' densities are chosen well (Liu et al., ICLR 2022)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor, nn

from dwfbench.base.errors import UsageError
from dwfbench.methods.contract import Method, Start, option
from dwfbench.sparsity.count import kept, prunable

DISTRIBUTIONS = ("global", "uniform", "erk")


def layer_counts(shapes: Mapping[str, Sequence[int]], compression: float, distribution: str) -> dict[str, int]:
    """How many weights each layer keeps; they add up to exactly `kept(N, compression)`.

    "uniform": the same density everywhere. "erk" (Erdos-Renyi-Kernel; Evci et al., "Rigging the Lottery",
    ICML 2020, section 3): density proportional to sum(shape) / prod(shape); layers that would exceed 1 are
    dense and the rest is solved again. Counts are rounded by largest remainder (ties: the earlier layer), so
    a small layer may get none. Raises UsageError as `kept` does, and for another distribution ("global" fixes
    no counts).
    """
    if distribution not in ("uniform", "erk"):
        raise UsageError(f"no layer counts for distribution '{distribution}'; choose uniform or erk")
    numel = {name: math.prod(shape) for name, shape in shapes.items()}
    total = kept(sum(numel.values()), compression)
    # density = factor * sum / prod, so a layer's count is factor * sum: fractions keep the arithmetic exact.
    share = numel if distribution == "uniform" else {name: sum(shape) for name, shape in shapes.items()}
    quota: dict[str, Fraction] = {}
    while True:
        free = [name for name in shapes if name not in quota]
        factor = Fraction(total - sum(map(int, quota.values())), sum(share[name] for name in free))
        full = [name for name in free if factor * share[name] > numel[name]]
        if not full:
            break
        quota |= {name: Fraction(numel[name]) for name in full}
    quota |= {name: factor * share[name] for name in free}
    counts = {name: math.floor(quota[name]) for name in shapes}
    by_remainder = sorted(shapes, key=lambda name: counts[name] - quota[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _draw(numel: int, count: int, generator: torch.Generator | None) -> Tensor:
    mask = torch.zeros(numel, dtype=torch.bool)
    mask[torch.randperm(numel, generator=generator)[:count]] = True
    return mask


def masks(
    model: nn.Module,
    compression: float,
    distribution: str = "global",
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Boolean masks by parameter name that keep `kept(N, compression)` weights at random.

    "global" draws from all N weights alike; "uniform" and "erk" draw within layers (see `layer_counts`).
    Drawn on the CPU by `generator` (torch's own if None), so the masks are the same for every device. Raises
    UsageError for another distribution or a bad compression.
    """
    weights = prunable(model)
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


@dataclass(frozen=True)
class Random(Method):
    """Prunes the initial network at random, then trains what is left. With ERK, a serious baseline."""

    name: ClassVar[str] = "random"
    knob: ClassVar[str] = "compression"
    summary: ClassVar[str] = "at initialisation, keep random weights"
    source: ClassVar[str] = "ERK: Mocanu et al. 2018; Evci et al., ICML 2020, arXiv 1911.11134"

    distribution: str = option("global", "how layers share the kept weights", choices=DISTRIBUTIONS)

    def label(self) -> str:
        return f"random ({self.distribution})"

    def initial_masks(self, start: Start, scores: dict[str, Tensor] | None) -> dict[str, Tensor]:
        return masks(start.network, start.compression, self.distribution, start.generator)
