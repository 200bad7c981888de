"""Masks from scores: how many weights are kept, how layers share them, and which they are."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from dwfbench.base.errors import UsageError
from dwfbench.models.prunable import NOTHING

DISTRIBUTIONS = ("global", "uniform", "erk")
"""How layers share the kept weights: not fixed beforehand; the same density everywhere; Erdos-Renyi-Kernel."""


def kept(numel: int, compression: float) -> int:
    """Weights kept of `numel` at a compression ratio: max(1, numel / compression), halves rounded up.

    Raises UsageError if there are no weights, or the ratio is below 1, infinite or NaN.
    """
    if not (math.isfinite(compression) and compression >= 1):
        raise UsageError(f"compression is {compression}, but must be a finite number of at least 1")
    if numel < 1:
        raise UsageError(NOTHING)
    return max(1, math.floor(numel / compression + 0.5))


def top_k_masks(scores: Mapping[str, Tensor], compression: float, distribution: str = "global") -> dict[str, Tensor]:
    """Boolean masks, shaped as the scores, that keep the `kept(N, compression)` largest of all N scores.

    Exactly that many are kept: among equal scores the earlier one wins (order of the mapping, then flat
    index). With the distribution "uniform" or "erk" every layer keeps as many of its largest as `layer_counts` says.
    A score of -inf is that of a weight that is not kept while there are others.
    Raises UsageError as `kept` does, for NaN scores and for an unknown distribution.
    """
    total = kept(sum(s.numel() for s in scores.values()), compression)
    flat = torch.cat([s.detach().flatten() for s in scores.values()])
    if flat.isnan().any():
        raise UsageError("some scores are NaN; check the inputs and the weights")
    if distribution != "global":
        present = {name: int((s > -math.inf).sum()) for name, s in scores.items()}
        counts = layer_counts({name: s.shape for name, s in scores.items()}, compression, distribution, present)
        return {name: largest(s, counts[name]) for name, s in scores.items()}
    parts = largest(flat, total).split([s.numel() for s in scores.values()])
    return {name: part.view(s.shape) for (name, s), part in zip(scores.items(), parts, strict=True)}


def silent(scores: Mapping[str, Tensor]) -> list[str]:
    """The names of the layers whose scores are all zero, so that they rank nothing."""
    return [name for name, score in scores.items() if score.numel() and not score.any()]


def informed_masks(
    scores: Mapping[str, Tensor],
    compression: float,
    distribution: str = "global",
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """As ``top_k_masks``, but a ``silent`` layer keeps its share at random instead of its first weights or none.

    A classifier that starts at zero has such scores by SNIP, and so have all layers before it. With the distribution
    "global" its share is that of equal density everywhere; the layers that do have scores share the rest.
    """
    mute = silent(scores)
    if not mute:
        return top_k_masks(scores, compression, distribution)
    shapes = {name: score.shape for name, score in scores.items()}
    counts = layer_counts(shapes, compression, "uniform" if distribution == "global" else distribution)
    drawn = {name: torch.rand(shapes[name], generator=generator).to(scores[name].device) for name in mute}
    heard = {name: score for name, score in scores.items() if name not in drawn}
    kept_count = sum(counts[name] for name in heard)
    if distribution == "global" and kept_count:
        masks = top_k_masks(heard, sum(score.numel() for score in heard.values()) / kept_count)
    else:
        masks = {name: largest(score, counts[name]) for name, score in heard.items()}
    return {name: masks[name] if name in masks else largest(drawn[name], counts[name]) for name in scores}


def largest(scores: Tensor, count: int) -> Tensor:
    """Boolean mask, shaped as the scores, of the `count` largest, 0 to all; among equal ones the earlier wins."""
    flat = scores.detach().flatten()
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    smallest = flat.topk(count, sorted=False).values.min()  # linear in N, where a stable sort is ten times slower
    above, tied = flat > smallest, flat == smallest
    return (above | (tied & (tied.cumsum(0) <= count - above.sum()))).view(scores.shape)


def layer_counts(
    shapes: Mapping[str, Sequence[int]], compression: float, distribution: str, present: Mapping[str, int] | None = None
) -> dict[str, int]:
    """How many weights each layer keeps; they add up to exactly `kept(N, compression)`.

    "uniform": the same density everywhere. "erk" (Erdos-Renyi-Kernel; Evci et al., "Rigging the Lottery",
    ICML 2020, section 3): density proportional to sum(shape) / prod(shape); layers that would exceed 1 are
    dense and the rest is solved again. Counts are rounded by largest remainder (ties: the earlier layer), so
    a small layer may get none. A layer gets no more than are `present` in it, if all together have enough: rounding
    alone could give it back what a lower compression took. Raises UsageError as `kept` does, and for another
    distribution ("global" fixes no counts).
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
    by_remainder = sorted(shapes, key=lambda name: math.floor(quota[name]) - quota[name])
    most = dict(present or numel)
    if sum(most.values()) < total:
        most = numel
    counts = {name: min(math.floor(quota[name]), most[name]) for name in shapes}
    while missing := total - sum(counts.values()):
        for name in [name for name in by_remainder if counts[name] < most[name]][:missing]:
            counts[name] += 1
    return counts
