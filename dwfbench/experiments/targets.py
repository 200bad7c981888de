"""Curves that grow until they have runs around every compression asked for, and what to say where they do not.

The first seed is searched alone (``search``). The others are then trained at the strengths that it needed, and searched
where that does not bracket a target of theirs. A pruner is searched when it is tuned, since at high learning rates its
networks end sparser than asked; it begins at its targets.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from dwfbench.analysis.soundness import is_guessing
from dwfbench.base.text import short
from dwfbench.data import dataset as data
from dwfbench.execution.listener import Progress
from dwfbench.execution.worker import Engine
from dwfbench.experiments import search
from dwfbench.experiments.plan import Curve
from dwfbench.experiments.run import RETRIED, execute, pending
from dwfbench.experiments.search import known_of
from dwfbench.runs.record import Record
from dwfbench.runs.spec import RunSpec
from dwfbench.runs.store import Store

LIFELESS = "all are no better than chance, also where hardly compressed, a lower learning rate may do"

Records = Mapping[float, Record | None]
"""The records of one seed's runs by the knob, None for one that is not there."""

Ratios = dict[float, float | None]
"""Compression ratio by the knob, of one seed: infinite for a network that died, None where nothing is known.

The knob is a strength, or the ratio that a pruner is asked for.
"""


def execute_to_targets(
    curves: list[Curve],
    dataset: data.Dataset,
    store: Store,
    engine: Engine,
    progress: Progress,
    force: bool = False,
    retried: Collection[str] = RETRIED,
) -> tuple[list[Curve], dict[str, str]]:
    """As ``execute``; a curve with targets then grows by runs near those that are not reached, until all are.

    What is trained next depends on the records of the curve's own runs alone, so that an interrupted command that goes
    on chooses the same ones. Returns the curves with all their runs, and the status of every run trained, by id.
    """
    grown, todo, outcome = list(curves), list(curves), dict[str, str]()
    while todo:
        outcome |= execute(todo, dataset, store, engine, progress, force, retried)
        todo = []
        for number, curve in enumerate(grown):
            if added := further(curve, store):
                listed = ", ".join(f"{value:g}" for value in sorted({spec.knob or 0.0 for spec in added}))
                progress.note(f"{curve.method.label()}: towards its targets, {curve.method.knob} {listed}.")
                grown[number] = replace(curve, specs=(*curve.specs, *added))
                todo.append(replace(curve, specs=added))
    return grown, outcome


def resumed(curve: Curve, store: Store, dataset: data.Dataset) -> Curve:
    """The curve with the runs to which its search has led so far, the first of them that are missing included."""
    while not pending(curve, store, dataset, force=False) and (added := further(curve, store)):
        curve = replace(curve, specs=(*curve.specs, *added))
    return curve


def further(curve: Curve, store: Store) -> tuple[RunSpec, ...]:
    """The runs that a curve with targets still needs, by the compression of those that it has."""
    if not curve.targets:
        return ()
    by_seed = records_of(curve, store)
    first_seed, *other_seeds = curve.seeds
    if values := proposals(curve, by_seed[first_seed], curve.guess):
        return curve.at(values, first_seed)
    added: list[RunSpec] = []
    of_first = known_of(ratios(by_seed[first_seed]))
    guess = search.fitted(curve.guess, of_first)
    for seed in other_seeds:
        values = (
            proposals(curve, by_seed[seed], guess)
            if by_seed[seed]
            else search.needed(of_first, curve.targets, curve.rule.numel)
        )
        added += curve.at(values, seed)
    return tuple(added)


def proposals(curve: Curve, records: Records, guess: search.Guess) -> list[float]:
    """Values of the knob to train next, of a seed.

    A pruner can be asked for more than 1, and not for more than leaves a weight. If none of its networks lives, what it
    was asked for is not the reason.
    """
    if is_lifeless(records, min(curve.targets)):
        return []
    trained = ratios(records)
    values = search.further(trained, curve.targets, curve.max_runs, guess, curve.rule)
    if curve.method.knob != "compression":
        return values
    lives = any(ratio < math.inf for ratio in known_of(trained).values())
    return [value for value in values if lives and 1 < value < curve.rule.numel]


def is_lifeless(records: Records, lowest: float) -> bool:
    """Whether all networks of a seed, two at least, diverged or are no better than chance, and of the latter there is
    one less compressed than the lowest target: its settings are the reason, and no other knob helps."""
    dead = [record for record in records.values() if record and (record.status == "diverged" or is_guessing(record))]
    return len(dead) == len(records) > 1 and any(is_dead_below(record, lowest) for record in dead)


def is_dead_below(record: Record, target: float) -> bool:
    """Whether a network is no better than chance although its compression ratio is below a target."""
    return record.compression is not None and record.compression < target and is_guessing(record)


def records_of(curve: Curve, store: Store) -> Mapping[int, Records]:
    """The stored records of a curve with targets, by seed."""
    by_seed: dict[int, dict[float, Record | None]] = {seed: {} for seed in curve.seeds}
    for spec in curve.specs:
        assert spec.knob is not None  # a method without one has no targets
        by_seed[spec.seed][spec.knob] = store.read(spec.id)
    return by_seed


def ratios(records: Records) -> Ratios:
    """What is known of a seed; a run that failed, such as one out of memory, says nothing about its compression."""
    return {
        knob: None if record is None or record.status == "failed" else record.compression or math.inf
        for knob, record in records.items()
    }


def missed(curve: Curve, store: Store) -> list[str]:
    """Sentences on targets of a curve that a seed has not reached: which seeds, the nearest runs, what to do; one for
    all of which the same is to be said."""
    by_seed = {seed: (records, ratios(records)) for seed, records in records_of(curve, store).items()}
    targets_of: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for target in sorted(set(curve.targets)):
        seeds_of: dict[str, list[int]] = {}
        for seed, (records, trained) in by_seed.items():
            if not search.reached(known_of(trained).values(), target, curve.rule):
                lifeless = is_lifeless(records, min(curve.targets))
                advised = LIFELESS if lifeless else advice(curve, trained, target)
                why = f"{nearest(curve, known_of(trained), target)}; {advised}"
                seeds_of.setdefault(why, []).append(seed)
        for why, seeds in seeds_of.items():
            targets_of.setdefault((why, tuple(seeds)), []).append(short(target))
    return [
        f"{curve.method.label()}: CR {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not reached by "
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}: {why}."
        for (why, seeds), missing in targets_of.items()
    ]


def nearest(curve: Curve, trained: Mapping[float, float], target: float) -> str:
    """The runs next to a target in words."""
    strengths = {ratio: strength for strength, ratio in trained.items()}
    sides = zip(("below", "above"), search.neighbours(trained.values(), target, curve.rule.numel), strict=True)
    words = [
        f"no run {side}" if ratio is None else f"CR {short(ratio)} (strength {strengths[ratio]:g}) {side}"
        for side, ratio in sides
    ]
    return " and ".join(words)


def advice(curve: Curve, trained: Mapping[float, float | None], target: float) -> str:
    """What to do for a target that a seed has not reached."""
    if not trained:
        return "the first seed found no strengths for it"
    if len(trained) >= curve.max_runs:
        return f"all {curve.max_runs} strengths of --max-runs are spent, give more"
    if None in trained.values():
        return "runs failed, train them again"
    known = known_of(trained)
    below, above = search.neighbours(known.values(), target, curve.rule.numel)
    if below is not None and above is not None:
        return "the curve jumps there, a larger --max-gap accepts that"
    if known[max(known) if above is None else min(known)] == math.inf:
        side = "stronger" if above is None else "weaker"
        return f"{side} runs diverge, a lower learning rate may go on"
    return "the curve levels off, other settings may go on"
