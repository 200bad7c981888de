"""The one rule by which a curve is read where it has no run: between near neighbours, and nowhere else.

A curve here is the runs of one seed: rising compression ratios (CR) with a height each, which may be any accuracy.
Between two neighbouring runs at most a factor of `max_gap` apart the height is linear in log CR, so it stays within the
range of the two. Where they lie further apart there is no height, and beyond the first and the last run there is
none. A run at the CR asked for is used as it is. Tables, figures, claims and tuning all read curves by this file.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MAX_GAP = 2.0
"""The factor in CR by which neighbouring runs may differ for the curve to be read between them."""

SLACK = math.log1p(1e-3)
"""A run is at a CR if it misses it by 0.1 % or less: one asked for 10 that ended at 9.9996 counts as reached."""

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


@dataclass(frozen=True, eq=False)
class SeedCurve:
    """Rising log CRs, each once, and the heights there."""

    log_cr: np.ndarray
    height: np.ndarray

    @classmethod
    def of(cls, compressions: Sequence[float], heights: Sequence[float]) -> "SeedCurve":
        """The curve of runs in any order; the heights of runs of equal CR are averaged. There must be a run."""
        ratios, values = np.asarray(compressions, dtype=float), np.asarray(heights, dtype=float)
        order = np.lexsort((values, ratios))  # a sum depends on its order to the last digit
        ratios, values = ratios[order], values[order]
        new = np.append(True, ratios[1:] != ratios[:-1])
        if not new.all():
            first = np.flatnonzero(new)
            values = np.add.reduceat(values, first) / np.diff(first, append=len(ratios))
        return cls(np.log(ratios[new]), values)

    def at(self, compressions: Sequence[float] | np.ndarray, max_gap: float = MAX_GAP) -> Reading:
        """The heights at these CRs, and the neighbours they come from."""
        targets, last = np.log(np.asarray(compressions, dtype=float)), len(self.log_cr) - 1
        above = np.searchsorted(self.log_cr, targets)
        below = above - 1
        left, right = np.maximum(below, 0), np.minimum(above, last)
        to_left, to_right = targets - self.log_cr[left], self.log_cr[right] - targets
        nearest = np.where(np.abs(to_left) <= np.abs(to_right), left, right)
        met = np.minimum(np.abs(to_left), np.abs(to_right)) <= SLACK
        width = self.log_cr[right] - self.log_cr[left]
        between = (below >= 0) & (above <= last) & near(width, max_gap)
        share = np.where(width > 0, to_left / np.where(width > 0, width, 1), 0)
        line = (1 - share) * self.height[left] + share * self.height[right]
        height = np.where(met, self.height[nearest], np.where(between, line, np.nan))
        below, above = (np.where(met, nearest, place) for place in (below, above))
        return Reading(height, below, np.where(above > last, -1, above))

    def last_within(self, level: float, max_gap: float = MAX_GAP) -> Crossing:
        """The largest CR at which the curve is at least at this level."""
        within = np.flatnonzero(self.height >= level - ROUNDING)  # 98.3 - 1 must not exceed a measured 97.3
        if not len(within):
            return Crossing(np.nan, False, -1, 0)
        last = int(within[-1])
        if last == len(self.height) - 1:
            return Crossing(float(np.exp(self.log_cr[last])), True, last, last)
        width = self.log_cr[last + 1] - self.log_cr[last]
        if not near(width, max_gap):
            return Crossing(np.nan, False, last, last + 1)
        fall = max(self.height[last] - level, 0) / (self.height[last] - self.height[last + 1])
        return Crossing(float(np.exp(self.log_cr[last] + fall * width)), False, last, last + 1)

    def mean_height(self, low: float, high: float, outside: float, max_gap: float = MAX_GAP) -> float:
        """Mean height over log CR from `low` to `high`; where the curve has no runs on both sides, `outside` counts.

        NaN where the curve has a hole within the range, and where it does not reach into it.
        """
        start, stop = np.log(low), np.log(high)
        first, last = max(start, self.log_cr[0]), min(stop, self.log_cr[-1])
        if first >= last or self.holes(low, high, max_gap):
            return np.nan
        inner = self.log_cr[(self.log_cr > first) & (self.log_cr < last)]
        at = np.concatenate([[first], inner, [last]])
        reached = np.trapezoid(np.interp(at, self.log_cr, self.height), at)
        missed = sum(gap for gap in (first - start, stop - last) if gap > SLACK)
        return float((reached + missed * (outside if missed else 0)) / (last - first + missed))

    def holes(self, low: float, high: float, max_gap: float = MAX_GAP) -> list[Hole]:
        """The neighbouring runs too far apart between which CRs from `low` to `high` lie."""
        left, right = self.log_cr[:-1], self.log_cr[1:]
        wide = ~near(right - left, max_gap) & (right > np.log(low) + SLACK) & (left < np.log(high) - SLACK)
        return [(float(np.exp(left[place])), float(np.exp(right[place]))) for place in np.flatnonzero(wide)]


def near(width: np.ndarray | float, max_gap: float) -> np.ndarray:
    """Whether runs whose log CRs differ by `width` are near enough; SLACK more is forgiven, as pruners round."""
    return np.asarray(width) <= np.log(max_gap) + SLACK


def height_at(
    compressions: Sequence[float], heights: Sequence[float], compression: float, max_gap: float = MAX_GAP
) -> float | None:
    """The height at a CR of the runs of one seed; None where they do not say it, and of no runs."""
    if not len(compressions):
        return None
    height = float(SeedCurve.of(compressions, heights).at([compression], max_gap).height[0])
    return None if math.isnan(height) else height
