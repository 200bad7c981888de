"""Where to train next, so that a seed has runs around every compression asked for, with as few runs as can be.

Compression as a function of strength is known only by training. It rises, mostly, and steeply in places; so it is
searched like a root: between two trained strengths by the secant, kept off the ends, and outwards where a target lies
beyond them. Until there are two runs, a guess of the curve's ends stands in for them. All of it works on log strength
and log compression, but for the secant: a power of CR (STRAIGHT) lies nearer to a straight line than its logarithm.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from dwfbench.analysis.matched import MAX_GAP, is_at, near

PLANNED = 0.95
"""Part of the largest gap, in log CR, that is planned with: runs land beside where they were aimed at."""

STRAIGHT = 0.4
"""CR to this power is the secant's scale: of 0 (log CR) to 0.6 the one with the fewest runs on stored curves."""

CLOSEST = 1.01
"""Strengths nearer to each other than this factor are not told apart: there the curve jumps."""

EDGE = 1.05
"""The same of a strength that lives and one at which the network dies: where exactly is luck."""

STEP = (1.1, 3.0)
"""Least and largest factor by which the search goes on beyond the trained strengths."""

LEVEL = 1.05
"""A curve that rises by less than this factor over the largest step has levelled off."""

ASLEEP = 1e3
"""Unless it is still at CR 1: up to strengths this many times the lowest one it may yet rise."""

Guess = Sequence[tuple[float, float]]
"""(strength, compression ratio) pairs, rising, that stand in for runs while there are fewer than two."""


class Point(NamedTuple):
    """A strength and its compression ratio, as logarithms; infinite for a network that died."""

    strength: float
    ratio: float
    trained: bool = True


class Rule(NamedTuple):
    """By which targets are reached: the largest gap around them, and of how many weights, see ``analysis.matched``."""

    gap: float = MAX_GAP
    numel: float = math.inf


RULE = Rule()


def neighbours(ratios: Iterable[float], target: float, numel: float = math.inf) -> tuple[float | None, float | None]:
    """The compression ratios next to a target, below and above; both the same one if it is at the target."""
    living = [ratio for ratio in ratios if ratio < math.inf]
    nearest = min(living, key=lambda ratio: abs(math.log(ratio / target)), default=math.inf)
    if is_at(nearest, target, numel):
        return nearest, nearest
    below = max((ratio for ratio in living if ratio < target), default=None)
    return below, min((ratio for ratio in living if ratio > target), default=None)


def reached(ratios: Iterable[float], target: float, rule: Rule = RULE) -> bool:
    """Whether a curve with runs at these ratios can be read at the target."""
    below, above = neighbours(ratios, target, rule.numel)
    return below is not None and above is not None and bool(near(below, above, *rule))


def needed(trained: Mapping[float, float], targets: Iterable[float], numel: float = math.inf) -> list[float]:
    """The strengths of the runs next to the targets, and the first that died beyond those that live, rising."""
    alive = {ratio: strength for strength, ratio in trained.items() if ratio < math.inf}
    around = [neighbours(alive, target, numel) for target in targets]
    chosen = {alive[ratio] for pair in around for ratio in pair if ratio is not None}
    dead = [strength for strength, ratio in trained.items() if ratio == math.inf and strength > max(chosen, default=0)]
    short = any(None in pair for pair in around)
    return sorted(chosen | ({min(dead)} if dead and short else set()))


def further(
    trained: Mapping[float, float | None],
    targets: Sequence[float],
    most: int,
    guess: Guess = (),
    rule: Rule = RULE,
) -> list[float]:
    """Strengths to train next, rising; none once every target is reached, given up, or ``most`` strengths are spent.

    ``trained`` maps each strength to the compression ratio of its run, infinite for a network that died, None where
    nothing is known. Between two neighbouring strengths there is one proposal at most, so that the next ones know more;
    where ``most`` does not suffice for all, the widest gaps in compression come first.
    """
    ratios = {strength: ratio for strength, ratio in trained.items() if ratio is not None}
    known = curve(ratios, guess)
    spans: dict[tuple[Point | None, Point | None], list[float]] = {}
    for target in sorted(set(targets)):
        if known and not reached(ratios.values(), target, rule):
            spans.setdefault(around(known, math.log(target)), []).append(math.log(target))
    proposals = [(width(*span), proposal(known, *span, inside, math.log(rule.gap))) for span, inside in spans.items()]
    chosen: list[float] = []
    for _, log_strength in sorted(proposals, key=lambda pair: pair[0], reverse=True):
        others = [*trained, *chosen]
        strength = None if log_strength is None else rounded(math.exp(log_strength), others)
        if strength is not None and len(others) < most:
            chosen.append(strength)
    return sorted(chosen)


def curve(ratios: Mapping[float, float], guess: Guess) -> list[Point]:
    """What is known of the curve, in the order of strengths: runs that live, the first beyond them that died, guesses.

    A network that died below a strength that lives was bad luck, not too much of the penalty.
    """
    points = sorted(Point(math.log(strength), math.log(ratio)) for strength, ratio in ratios.items())
    alive = [point for point in points if point.ratio < math.inf]
    dead = [point for point in points if point.ratio == math.inf and (not alive or point > alive[-1])]
    runs = alive + dead[:1]
    if len(alive) >= 2:
        return runs
    ends = [Point(math.log(strength), math.log(ratio), trained=False) for strength, ratio in guess]
    fitting = [end for end in ends if all((end.strength < run.strength) == (end.ratio < run.ratio) for run in runs)]
    return sorted(runs + fitting)


def around(known: list[Point], target: float) -> tuple[Point | None, Point | None]:
    """Two points with neighbouring strengths and the target between their ratios, the nearest; None beyond the ends."""
    pairs = [pair for pair in itertools.pairwise(known) if pair[0].ratio <= target <= pair[1].ratio]
    if pairs:
        return min(pairs, key=lambda pair: width(*pair))
    return (None, known[0]) if all(point.ratio > target for point in known) else (known[-1], None)


def width(low: Point | None, high: Point | None) -> float:
    """Gap in log CR, infinite beyond the ends."""
    return math.inf if low is None or high is None else high.ratio - low.ratio


def proposal(
    known: list[Point], low: Point | None, high: Point | None, targets: list[float], gap: float
) -> float | None:
    """The log strength to train between two points (None: beyond the ends) for the targets there; None to give up."""
    ends = [end.ratio if end is not None and end.trained and end.ratio < math.inf else None for end in (low, high)]
    aims = plan(ends[0], ends[1], targets, gap)
    if low is None or high is None:
        return outwards(known, aims[-1] if low is None else aims[0], up=high is None)
    room = high.strength - low.strength
    closest = math.log(EDGE if high.ratio == math.inf else CLOSEST)
    if high.trained and low.trained and room < 2.2 * closest:
        return None
    if high.ratio == math.inf:
        return low.strength + room / 2
    aim, start, stop = (math.exp(STRAIGHT * log) for log in (aims[(len(aims) - 1) // 2], low.ratio, high.ratio))
    margin = min(max(0.2, 1.1 * closest / room), 0.5)  # a steep curve would draw every proposal to an end
    return low.strength + room * min(max((aim - start) / (stop - start), margin), 1 - margin)


def outwards(known: list[Point], aim: float, up: bool) -> float | None:
    """The log strength beyond the last, or below the first, where a straight line reaches the log CR ``aim``."""
    end, *inner = known[-1:-3:-1] if up else known[:2]
    least, largest = map(math.log, STEP)
    if end.ratio == math.inf:
        return end.strength - largest / 2  # no network lives yet
    step = largest
    if inner:
        run, rise = abs(end.strength - inner[0].strength), (end.ratio - inner[0].ratio) * (1 if up else -1)
        asleep = up and end.ratio < math.log(LEVEL) and end.strength - known[0].strength < math.log(ASLEEP)
        if rise >= math.log(LEVEL):
            start, stop, there = (math.exp(STRAIGHT * log) for log in (inner[0].ratio, end.ratio, aim))
            step = min(max(run * (there - stop) / (stop - start), least), largest)
        elif run > largest - 0.01 and not asleep:
            return None
    return end.strength + step if up else end.strength - step


def plan(low: float | None, high: float | None, targets: Sequence[float], gap: float) -> list[float]:
    """The fewest log CRs, rising, that bracket all targets, between runs at ``low`` and ``high`` (None: no run there).

    Targets that are near each other share runs: they are covered by a chain with equal gaps, which may begin and end at
    the two runs. Of plans with equally many the one whose narrowest chain has most to spare is taken.
    """

    def chains(first: int, last: int) -> Iterable[tuple[int, float, list[float]]]:
        """(runs, what each gap has to spare, their log CRs) of the chains that cover targets first to last - 1."""
        for start in dict.fromkeys((low if first == 0 else None, None)):
            for stop in dict.fromkeys((high if last == len(targets) else None, None)):
                begin = targets[first] if start is None else start
                end = targets[last - 1] if stop is None else stop
                gaps = max(math.ceil((end - begin) / (PLANNED * gap) - 1e-9), 1)
                spare = (gaps * gap - (end - begin)) / (gaps + (start is None) + (stop is None))
                begin, end = begin - spare * (start is None), end + spare * (stop is None)
                places = [begin + (end - begin) * k / gaps for k in range(gaps + 1)]
                inner = places[start is not None : gaps + (stop is None)]
                yield len(inner), spare, inner

    best: dict[int, tuple[int, float, list[float]]] = {len(targets): (0, math.inf, [])}
    for first in reversed(range(len(targets))):
        ways = [
            (runs + best[last][0], min(spare, best[last][1]), aims + best[last][2])
            for last in range(first + 1, len(targets) + 1)
            for runs, spare, aims in chains(first, last)
        ]
        best[first] = min(ways, key=lambda way: (way[0], -way[1]))
    return sorted(best[0][2]) or [sum(targets) / len(targets)]


def rounded(value: float, others: Collection[float] = ()) -> float | None:
    """Three digits: readable, and the same identity on every machine. Four where three are too near to another.

    None where four are too near, too.
    """
    for digits in (3, 4):
        short = float(f"{value:.{digits}g}")
        if all(max(short, other) >= CLOSEST * min(short, other) for other in others):
            return short
    return None
