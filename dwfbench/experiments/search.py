"""Even curves: where to put further strengths so that a curve has runs around every compression asked for.

Compression as a function of strength is known only by training. It rises, mostly, and steeply in places; so it is
searched like a root: between two trained strengths, and outwards where a target lies beyond them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

BRACKET = 2.0
"""A target is met when the runs next to it, below and above, differ by no more than this factor in compression."""

CLOSEST = 1.04
"""Strengths nearer to each other than this factor are not told apart: there the curve jumps."""

STEP = 1.5
"""Factor by which the search goes on beyond the trained strengths."""


class Trained(NamedTuple):
    """A strength and the compression of its seeds: least, geometric mean of those that live, largest."""

    strength: float
    least: float
    mean: float
    largest: float


def further(
    trained: Mapping[float, Sequence[float]], targets: Sequence[float], most: int, bracket: float = BRACKET
) -> list[float]:
    """Strengths to train next, rising, with three digits; none once every target is met or out of reach.

    ``trained`` maps each strength to the compression ratios of its seeds, infinite for a network that died. There
    will be no more than ``most`` strengths in all; where those do not suffice, the widest gaps in log compression are
    filled first. Every seed must reach the lowest and the highest target, or its curve could not be read there.
    """
    known = [spread(strength, ratios) for strength, ratios in sorted(trained.items()) if ratios]
    # A network that died below a strength that lives was bad luck, not too much of the penalty.
    alive = [point.strength for point in known if point.mean < math.inf]
    known = [point for point in known if point.mean < math.inf or point.strength > max(alive, default=0)]
    if not known:
        return []
    chosen: list[float] = []
    for gap, strength in sorted((proposal(known, target, bracket) for target in targets), reverse=True):
        room = gap > 0 and len(trained) + len(chosen) < most
        if room and all(apart(strength, other) for other in (*trained, *chosen)):
            chosen.append(strength)
    return sorted(chosen)


def spread(strength: float, ratios: Sequence[float]) -> Trained:
    alive = [ratio for ratio in ratios if ratio < math.inf]
    if not alive:
        return Trained(strength, math.inf, math.inf, math.inf)
    return Trained(strength, min(alive), math.exp(sum(map(math.log, alive)) / len(alive)), max(alive))


def proposal(known: list[Trained], target: float, bracket: float) -> tuple[float, float]:
    """(gap in log compression around a target, strength to train there); a gap of 0 if nothing is to be gained."""
    below = [point for point in known if point.largest <= target]
    if not below:
        return math.inf, rounded(known[0].strength / STEP)
    low = below[-1]
    above = [point for point in known if point.least >= target]
    if not above:
        return math.inf, rounded(known[-1].strength * STEP)
    if above[-1].strength <= low.strength:  # met to the digit, or compression falls again with the strength
        return 0.0, low.strength
    high = next(point for point in above if point.strength > low.strength)
    # Where seeds lie on both sides of the target at strengths between, the gap is that between the means.
    between = [point for point in known if low.strength <= point.strength <= high.strength]
    low = [point for point in between if point.mean <= target][-1]
    high = next(point for point in between if point.strength > low.strength)
    gap = math.log(high.mean / low.mean) if high.mean < math.inf else math.inf
    width = math.log(high.strength / low.strength)
    if gap <= math.log(bracket) * (1 + 1e-9) or width < 2.2 * math.log(CLOSEST):
        return 0.0, low.strength
    # A straight line in log-log, kept off the ends, where a steep curve would draw every proposal.
    margin = max(0.2, 1.1 * math.log(CLOSEST) / width)
    share = 0.5 if gap == math.inf else min(max(math.log(target / low.mean) / gap, margin), 1 - margin)
    strength = rounded(low.strength * math.exp(share * width))
    if not (apart(strength, low.strength) and apart(strength, high.strength)):  # by rounding
        strength = rounded(low.strength * math.exp(width / 2))
    return gap, strength


def apart(one: float, other: float) -> bool:
    """Whether two strengths are told apart, see CLOSEST."""
    return max(one, other) >= CLOSEST * min(one, other)


def rounded(value: float) -> float:
    """Three digits: readable, and the same identity on every machine."""
    return float(f"{value:.3g}")
