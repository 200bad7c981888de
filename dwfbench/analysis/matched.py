"""The one rule by which a curve is read where it has no run: between near neighbours, and nowhere else.

A curve here is the runs of one seed: rising compression ratios (CR) with a height each, which may be any accuracy.
Between two neighbouring runs at most a factor of `max_gap` apart the height is linear in log CR, so it stays within the
range of the two. Where they lie further apart there is no height, and beyond the first and the last run there is
none. A run at the CR asked for is used as it is. Tables, figures, claims, tuning and the search for strengths all read
curves by this file.

A run that was asked for a CR misses it in two ways. Weights are whole: of 430,500 the CR 1000 leaves 430.5, and a
pruner that keeps 431 is at CR 998.8. And some that are kept decay to zero: SynFlow's run for CR 300 ended at 301.5
after 120 epochs (results/budget/lenet-300-100.zip). So a run is at a CR if it misses it by half a weight or by 1 %,
over which accuracy changes by less than 0.1 points between 19 of 20 neighbouring runs of the stored curves. As much is
forgiven of a gap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MAX_GAP = 2.0
"""The factor in CR by which neighbouring runs may differ for the curve to be read between them."""

SLACK = 0.01
"""Part of a CR by which a run may miss it, if that is more than half a weight."""

ROUNDING = 1e-9
"""Points of accuracy that are no difference; one test sample of a million is 1e-4."""

Hole = tuple[float, float]
"""The CRs of two neighbouring runs that are too far apart to be read between."""


class Reading(NamedTuple):
    """What a curve says at CRs asked for: arrays of one length.

    `height` is NaN where it says nothing. `below` and `above` are the positions of the neighbouring runs, the same one
    twice for a run at that CR; -1 where there is none on that side.
    """

    height: np.ndarray
    below: np.ndarray
    above: np.ndarray


class Crossing(NamedTuple):
    """The largest CR with a height of at least a level.

    `compression` is NaN where no run is so high and where the curve falls below the level in a hole. `censored`: it
    never falls below, and `compression` is that of its last run, a lower bound. `below` and `above` are as in Reading.
    """

    compression: float
    censored: bool
    below: int
    above: int


def is_at(compression: np.ndarray | float, target: np.ndarray | float, numel: float = math.inf) -> np.ndarray:
    """Whether runs of so many prunable weights are at a CR: the part that they keep misses it by no more than that."""
    density, target_density = 1 / np.asarray(compression), 1 / np.asarray(target)
    return np.abs(density - target_density) <= np.maximum(0.5 / numel, SLACK * target_density)


def near(low: np.ndarray | float, high: np.ndarray | float, max_gap: float, numel: float = math.inf) -> np.ndarray:
    """Whether runs at the CRs `low` and `high` are at most a factor of `max_gap` apart, or that more."""
    denser, sparser = 1 / np.asarray(low), 1 / np.asarray(high)
    return (denser <= max_gap * (1 + SLACK) * sparser) | (denser - 0.5 / numel <= max_gap * (sparser + 0.5 / numel))


@dataclass(frozen=True, eq=False)
class SeedCurve:
    """Rising log CRs, each once, and the heights there; `numel` prunable weights are what the CRs are of."""

    log_cr: np.ndarray
    height: np.ndarray
    numel: float = math.inf

    @classmethod
    def of(cls, compressions: Sequence[float], heights: Sequence[float], numel: float = math.inf) -> "SeedCurve":
        """The curve of runs in any order; the heights of runs of equal CR are averaged. There must be a run."""
        ratios, values = np.asarray(compressions, dtype=float), np.asarray(heights, dtype=float)
        order = np.lexsort((values, ratios))  # a sum depends on its order to the last digit
        ratios, values = ratios[order], values[order]
        is_new = np.append(True, ratios[1:] != ratios[:-1])
        if not is_new.all():
            starts = np.flatnonzero(is_new)
            values = np.add.reduceat(values, starts) / np.diff(starts, append=len(ratios))
        return cls(np.log(ratios[is_new]), values, numel)

    def at(self, compressions: Sequence[float] | np.ndarray, max_gap: float = MAX_GAP) -> Reading:
        """The heights at these CRs, and the neighbours they come from."""
        targets, last = np.log(np.asarray(compressions, dtype=float)), len(self.log_cr) - 1
        above = np.searchsorted(self.log_cr, targets)
        below = above - 1
        left, right = np.maximum(below, 0), np.minimum(above, last)
        to_left, to_right = targets - self.log_cr[left], self.log_cr[right] - targets
        nearest = np.where(np.abs(to_left) <= np.abs(to_right), left, right)
        met = is_at(np.exp(self.log_cr[nearest]), np.exp(targets), self.numel)
        width = self.log_cr[right] - self.log_cr[left]
        between = (below >= 0) & (above <= last) & self.near(left, right, max_gap)
        share = np.where(width > 0, to_left / np.where(width > 0, width, 1), 0)
        line = (1 - share) * self.height[left] + share * self.height[right]
        height = np.where(met, self.height[nearest], np.where(between, line, np.nan))
        below, above = (np.where(met, nearest, neighbour) for neighbour in (below, above))
        return Reading(height, below, np.where(above > last, -1, above))

    def last_within(self, level: float, max_gap: float = MAX_GAP) -> Crossing:
        """The largest CR at which the curve is at least at this level."""
        within = np.flatnonzero(self.height >= level - ROUNDING)  # 98.3 - 1 must not exceed a measured 97.3
        if not len(within):
            return Crossing(np.nan, False, -1, 0)
        last = int(within[-1])
        if last == len(self.height) - 1:
            return Crossing(float(np.exp(self.log_cr[last])), True, last, last)
        if not self.near(last, last + 1, max_gap):
            return Crossing(np.nan, False, last, last + 1)
        width = self.log_cr[last + 1] - self.log_cr[last]
        fall = max(self.height[last] - level, 0) / (self.height[last] - self.height[last + 1])
        return Crossing(float(np.exp(self.log_cr[last] + fall * width)), False, last, last + 1)

    def mean_height(self, low: float, high: float, outside: float, max_gap: float = MAX_GAP) -> float:
        """Mean height over log CR from `low` to `high`; beyond the last run `outside` counts.

        NaN where the curve has a hole within the range, and where it does not reach into it.
        """
        first, last = max(np.log(low), self.log_cr[0]), min(np.log(high), self.log_cr[-1])
        if first >= last or self.holes(low, high, max_gap):
            return np.nan
        inner = self.log_cr[(self.log_cr > first) & (self.log_cr < last)]
        at = np.concatenate([[first], inner, [last]])
        reached = np.trapezoid(np.interp(at, self.log_cr, self.height), at)
        missed = math.log(high / self.last) if self.ends_within(high) else 0.0
        return float((reached + missed * (outside if missed else 0)) / (last - first + missed))

    @property
    def first(self) -> float:
        """The CR of the first run."""
        return float(np.exp(self.log_cr[0]))

    @property
    def last(self) -> float:
        """The CR of the last run."""
        return float(np.exp(self.log_cr[-1]))

    def begins_within(self, low: float) -> bool:
        """Whether the first run lies above the CR `low`, so that nothing is known there."""
        return self.first > low and not is_at(self.first, low, self.numel)

    def ends_within(self, high: float) -> bool:
        """Whether the last run lies below the CR `high`."""
        return self.last < high and not is_at(self.last, high, self.numel)

    def holes(self, low: float, high: float, max_gap: float = MAX_GAP) -> list[Hole]:
        """Where nothing is known of CRs from `low` to `high`: below the first run, and between neighbouring runs that
        are too far apart."""
        indices = np.arange(len(self.log_cr) - 1)
        left, right = np.exp(self.log_cr[:-1]), np.exp(self.log_cr[1:])
        inside = (right > low) & (left < high) & ~is_at(right, low, self.numel) & ~is_at(left, high, self.numel)
        wide = inside & ~self.near(indices, indices + 1, max_gap)
        start = [(low, min(self.first, high))] if self.begins_within(low) else []
        return start + [(float(left[index]), float(right[index])) for index in np.flatnonzero(wide)]

    def near(self, left: np.ndarray | int, right: np.ndarray | int, max_gap: float) -> np.ndarray:
        """Whether the runs at these places are near enough to read between."""
        return near(np.exp(self.log_cr[left]), np.exp(self.log_cr[right]), max_gap, self.numel)


def height_at(
    compressions: Sequence[float],
    heights: Sequence[float],
    compression: float,
    max_gap: float = MAX_GAP,
    numel: float = math.inf,
) -> float | None:
    """The height at a CR of the runs of one seed; None where they do not say it, and of no runs."""
    if not len(compressions):
        return None
    height = float(SeedCurve.of(compressions, heights, numel).at([compression], max_gap).height[0])
    return None if math.isnan(height) else height
