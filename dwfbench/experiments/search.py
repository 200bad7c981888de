"""Where to train next, so that a seed has runs around every compression asked for, with as few runs as can be.

Compression as a function of strength is known only by training. It rises, mostly, and steeply in places; so it is
searched like a root: between two trained strengths by the secant, kept off the ends, and outwards where a target lies
beyond them. The secant is drawn on the scale of a guess of the curve (``scale``), since curves of one kind have one
shape but for their place and width; until there are two runs, the guess stands in for them.

No search needs fewer runs than there are targets and chains of targets that can share runs: around CR 2, 5, 10, 30,
100, 300 and 1000 lie 10 at least, 4 for the first three, and 3 each for 30 with 100 and 300 with 1000.
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from dwfbench.analysis.matched import MAX_GAP, is_at, near

PLANNED = 0.95
"""Part of the largest gap, in log CR, that is planned with: runs land beside where they were aimed at."""

STRAIGHT = 0.4
"""CR to this power is the secant's scale without a guess of the shape."""

CLOSEST = 1.01
"""Strengths nearer to each other than this factor are not told apart: there the curve jumps."""

EDGE = 1.05
"""The same of a strength that lives and one at which the network dies: where exactly is luck."""

STEP = (1.1, 3.0)
"""Least and largest factor by which the search goes on beyond the trained strengths."""

LUCK = 2
"""As many runs that died beyond all that live, or before any lived, are no bad luck."""

LEVEL = 1.05
"""A curve that rises by less than this factor over the largest step has levelled off."""

ASLEEP = 1e3
"""Unless it is still below CR 1.5: up to strengths this many times the lowest one it may yet rise."""

MARGIN = 0.1
"""Part of the way between two runs off which a proposal is kept: a steep curve would draw every one to an end."""

Guess = Sequence[tuple[float, float]]
"""(strength, compression ratio) pairs, rising: the shape of the curve, from three pairs on, and its ends."""


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
    max_runs: int,
    guess: Guess = (),
    rule: Rule = RULE,
) -> list[float]:
    """Strengths to train next, rising; none once every target is reached, given up, or ``max_runs`` are spent.

    ``trained`` maps each strength to the compression ratio of its run, infinite for a network that died, None where
    nothing is known. Between two neighbouring strengths there is one proposal at most, so that the next ones know more;
    where ``max_runs`` does not suffice for all, the widest gaps in compression come first.
    """
    ratios = known_of(trained)
    if len(ratios) == LUCK < max_runs and set(ratios.values()) == {math.inf}:  # stronger ones may live all the same
        return [float(f"{STEP[1] * max(ratios):.3g}")]
    points, position = curve(ratios, guess), scale(guess)
    spans: dict[tuple[Point | None, Point | None], list[float]] = {}
    for target in sorted(set(targets)):
        if points and not reached(ratios.values(), target, rule):
            spans.setdefault(around(points, math.log(target)), []).append(math.log(target))
    proposals = []
    for (low, high), inside in spans.items():
        aims = plan(run_at(low), run_at(high), inside, math.log(rule.gap))
        aim = proposal(points, low, high, aims, position)
        proposals.append((width(low, high), aim if aim is None else past_deaths(aim, low, high, ratios)))
    chosen: list[float] = []
    for _, log_strength in sorted(proposals, key=lambda pair: pair[0], reverse=True):
        taken_strengths = [*trained, *chosen]
        strength = None if log_strength is None else rounded(math.exp(log_strength), taken_strengths)
        if strength is not None and len(taken_strengths) < max_runs:
            chosen.append(strength)
    return sorted(chosen)


def beside(targets: Iterable[float], guess: Guess, rule: Rule = RULE) -> list[float]:
    """The fewest strengths, rising, that bracket all targets if the curve is what is guessed."""
    knots = [(math.log(ratio), math.log(strength)) for strength, ratio in guess]
    aims = plan(None, None, sorted(map(math.log, set(targets))), math.log(rule.gap))
    return sorted({float(f"{math.exp(through(knots, aim)):.3g}") for aim in aims})


def known_of(trained: Mapping[float, float | None]) -> dict[float, float]:
    """The strengths whose compression ratio is known."""
    return {strength: ratio for strength, ratio in trained.items() if ratio is not None}


def curve(ratios: Mapping[float, float], guess: Guess) -> list[Point]:
    """What is known of the curve, in the order of strengths: runs that live, the first beyond them that died, guesses.

    A network that died below a strength that lives was bad luck, not too much of the penalty.
    """
    points = sorted(Point(math.log(strength), math.log(ratio)) for strength, ratio in ratios.items())
    alive = [point for point in points if point.ratio < math.inf]
    dead = [point for point in points if point.ratio == math.inf and (not alive or point > alive[-1])]
    if alive and 0 < len(dead) < LUCK and is_close(alive[-1], dead[0]):
        dead = []  # what is beyond nobody has tried
    runs = alive + dead[:1]
    if len(alive) >= 2 or not guess:
        return runs
    shift = alive[0].strength - scale(guess)(alive[0].ratio) if alive and len(guess) > 2 else 0.0
    # The lower end may lie higher than was guessed, and not lower: for methods that work by decay it follows from the
    # weights (``dwf.suggest``), and a steep curve, as one from trained weights, rises from there.
    moves = (max(shift, 0.0), shift)
    ends = [
        Point(math.log(strength) + move, math.log(ratio), False)
        for (strength, ratio), move in zip((guess[0], guess[-1]), moves, strict=True)
    ]
    fitting = [end for end in ends if all((end.strength < run.strength) == (end.ratio < run.ratio) for run in runs)]
    points = sorted(runs + fitting)
    # A guessed lower end next to which a run already has too high a CR was guessed too high: it is passed.
    if len(points) > 1 and not points[0].trained and points[1].trained and is_close(*points[:2]):
        return points[1:]
    return points


def closest(high: Point) -> float:
    """How near to a point, in log strength, another is told apart from it."""
    return math.log(EDGE if high.ratio == math.inf else CLOSEST)


def is_close(low: Point, high: Point) -> bool:
    """Whether no strength between two points is told apart from both."""
    return high.strength - low.strength < 2.2 * closest(high)


def scale(guess: Guess) -> Callable[[float], float]:
    """Where on the axis of log strengths a log CR lies, but for the place and the width of the curve."""
    if len(guess) < 3:
        return lambda ratio: math.exp(STRAIGHT * ratio)
    knots = [(math.log(ratio), math.log(strength)) for strength, ratio in guess]
    return lambda ratio: through(knots, ratio)


def through(knots: Sequence[tuple[float, float]], at: float) -> float:
    """The line through rising knots, as steep beyond the first and the last one as between the two next to it."""
    pairs = list(itertools.pairwise(knots))
    (left, start), (right, stop) = next((pair for pair in pairs if at <= pair[1][0]), pairs[-1])
    return start + (stop - start) * (at - left) / (right - left)


def fitted(guess: Guess, trained: Mapping[float, float]) -> Guess:
    """The guess, moved and stretched so that it goes through runs: of another seed, or of trials of these settings."""
    knots: list[tuple[float, float, float]] = []
    for strength, ratio in sorted(trained.items()):
        if LEVEL <= ratio < math.inf and (not knots or ratio > LEVEL * knots[-1][2]):
            knots.append((scale(guess)(math.log(ratio)), math.log(strength), ratio))
    if len(guess) < 3 or len(knots) < 2:
        return guess
    (first, low, _), (last, high, _) = knots[0], knots[-1]
    steep = (high - low) / (last - first)
    line = [(first - 1, low - steep), *((place, log) for place, log, _ in knots), (last + 1, high + steep)]
    ratios = sorted({ratio for _, ratio in guess} | {ratio for *_, ratio in knots})
    return [(math.exp(through(line, scale(guess)(math.log(ratio)))), ratio) for ratio in ratios]


def around(points: list[Point], target: float) -> tuple[Point | None, Point | None]:
    """Two points with neighbouring strengths and the target between their ratios, the nearest; None beyond the ends."""
    pairs = [pair for pair in itertools.pairwise(points) if pair[0].ratio <= target <= pair[1].ratio]
    if pairs:
        return min(pairs, key=lambda pair: width(*pair))
    return (None, points[0]) if all(point.ratio > target for point in points) else (points[-1], None)


def width(low: Point | None, high: Point | None) -> float:
    """Gap in log CR, infinite beyond the ends."""
    return math.inf if low is None or high is None else high.ratio - low.ratio


def run_at(point: Point | None) -> float | None:
    """The log CR of a run that lives; None of what is none."""
    return point.ratio if point is not None and point.trained and point.ratio < math.inf else None


def proposal(
    points: list[Point],
    low: Point | None,
    high: Point | None,
    aims: Sequence[float],
    position: Callable[[float], float],
) -> float | None:
    """The log strength to train between two points (None: beyond the ends) for one of the log CRs aimed at; None to
    give up."""
    if low is None or high is None:
        return outwards(points, aims[-1] if low is None else aims[0], high is None, position)
    room = high.strength - low.strength
    if high.trained and low.trained and is_close(low, high):
        return None
    if high.ratio == math.inf or crawls(points, low, high):
        return low.strength + room / 2
    aim, start, stop = map(position, (aims[(len(aims) - 1) // 2], low.ratio, high.ratio))
    margin = min(max(MARGIN, 1.1 * closest(high) / room), 0.5)
    return low.strength + room * min(max((aim - start) / (stop - start), margin), 1 - margin)


def past_deaths(aim: float, low: Point | None, high: Point | None, ratios: Mapping[float, float]) -> float | None:
    """The log strength, or another one where a run died there by bad luck: between two runs the middle of the widest
    room that is left, beyond the last one a little further; None to give up."""
    start, stop = low.strength if low else -math.inf, high.strength if high else math.inf
    places = sorted(math.log(strength) for strength, ratio in ratios.items() if ratio == math.inf)
    dead = [place for place in places if start < place < stop]
    if all(abs(aim - place) >= math.log(CLOSEST) for place in dead):
        return aim
    if low is None or high is None:
        further_on = dead[0] - math.log(STEP[0]) if low is None else dead[-1] + math.log(STEP[0])
        return further_on if len(dead) < LUCK else None
    left, right = max(itertools.pairwise([start, *dead, stop]), key=lambda room: room[1] - room[0])
    return (left + right) / 2 if right - left > 2.2 * math.log(CLOSEST) else None


def crawls(points: list[Point], low: Point, high: Point) -> bool:
    """Whether the secant between two runs would go on from one end in small steps, as it does towards a jump: beyond
    that end, where it came from, the curve is level for a step as small."""
    place = points.index(low)
    pairs = [(low, points[place - 1])] * (place > 0) + [(high, after) for after in points[place + 2 : place + 3]]
    return any(
        end.trained
        and other.trained
        and abs(end.ratio - other.ratio) < math.log(CLOSEST)
        and abs(end.strength - other.strength) < (high.strength - low.strength) / 2
        for end, other in pairs
    )


def outwards(points: list[Point], aim: float, up: bool, position: Callable[[float], float]) -> float | None:
    """The log strength beyond the last, or below the first, where a straight line reaches the log CR ``aim``."""
    end, *inner = points[-1:-3:-1] if up else points[:2]
    smallest, largest = map(math.log, STEP)
    if end.ratio == math.inf:
        return end.strength - largest / 2  # no network lives yet
    step = largest
    if inner:
        run, rise = abs(end.strength - inner[0].strength), (end.ratio - inner[0].ratio) * (1 if up else -1)
        asleep = up and end.ratio < math.log(1.5) and end.strength - points[0].strength < math.log(ASLEEP)
        if rise >= math.log(LEVEL):
            start, stop, goal = map(position, (inner[0].ratio, end.ratio, aim))
            step = min(max(run * (goal - stop) / (stop - start), smallest), largest)
        elif inner[0].trained and run > largest - 0.01 and not asleep:
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


def rounded(value: float, strengths: Collection[float] = ()) -> float | None:
    """Three digits: readable, and the same identity on every machine. Four where three are too near to another.

    None where four are too near, too.
    """
    for digits in (3, 4):
        short = float(f"{value:.{digits}g}")
        if all(max(short, strength) >= CLOSEST * min(short, strength) for strength in strengths):
            return short
    return None
