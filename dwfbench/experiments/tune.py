"""Tuning with equal budgets: the same number of trials for every method, judged on the validation part alone.

A *trial* is a curve at one learning rate (and one value of what else the method declares as tunable) with runs around
the compression ratios that are judged, its targets; a *study* is the trials of one method. Each target has a winner of
its own, and rates are added while a winner is at their edge. Trials are runs like any others, stored under
RESULTS/tuning/, but the test set is not looked at.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dwfbench.analysis import matched
from dwfbench.analysis.soundness import guesses
from dwfbench.base.errors import UsageError
from dwfbench.data.dataset import Dataset
from dwfbench.execution.listener import Progress
from dwfbench.execution.worker import Engine
from dwfbench.experiments import knobs, plan, targets
from dwfbench.experiments.plan import Curve, Request
from dwfbench.experiments.search import Rule
from dwfbench.methods.registry import create
from dwfbench.runs.record import Origin, Study, Trial
from dwfbench.runs.spec import RunSpec
from dwfbench.runs.store import Store

TRIALS = 6
RATES = (0.03, 0.5)
WIDEN = 3
TARGETS = (5.0, 40.0, 300.0)
RUNS_PER_TARGET = 4
"""Runs of a trial's seed at most, for methods that must search for their compression."""

FAR = 2.0
"""Standard errors from which on a trial is simply worse."""
FIRST_SEED = 100
"""Where the seeds of trials are counted from: what is reported begins at 0."""


@dataclass(frozen=True)
class Budget:
    """What every method is given: ``trials`` over learning rates from ``rates[0]`` to ``rates[1]``, evenly in their
    logarithm, and up to ``widen`` further rates beyond either end; ``seed`` draws from the grid."""

    trials: int = TRIALS
    rates: tuple[float, float] = RATES
    widen: int = WIDEN
    seed: int = 0

    def __post_init__(self):
        if not 1 <= self.trials <= knobs.MOST:
            raise UsageError(f"--trials must be from 1 to {knobs.MOST:,}, not {self.trials}.")
        if not 0 < self.rates[0] < self.rates[1]:
            raise UsageError(f"--lr-range takes two positive learning rates, the smaller first, not {self.rates}.")
        if not 0 <= self.widen <= 20:
            raise UsageError(f"--widen must be from 0 to 20, not {self.widen}.")


def short(request: Request, points: int | None = None) -> Request:
    """The request with what a trial's curve needs: few targets, few strengths, seeds that are not reported.

    With ``points`` a trial has that many strengths, spread over the useful range and trained at once, whatever comes
    of them; without, it searches for its targets.
    """
    settings = request.settings
    listed = sorted(set(TARGETS if settings.get("compression") is None else knobs.listed(settings, "compression")))
    bare = {name: value for name, value in settings.items() if name not in ("strength", "points")}
    bare |= {} if points is None else {"points": points}
    count = len(knobs.seeds_of(settings))
    seeds = settings["seed"] if settings.get("seed") is not None else [FIRST_SEED + index for index in range(count)]
    max_runs = knobs.whole_number(settings, "max_runs", RUNS_PER_TARGET * len(listed))
    return replace(request, settings={**bare, "compression": listed, "max_runs": max_runs, "seed": seeds})


def trial_curve(request: Request, values: Mapping[str, Any], dataset: Dataset) -> Curve:
    """The curve of a trial, whose targets are searched for unless it has ``points``: of a pruner, too, which is asked
    for them first, as at high rates weights that lead to no output vanish, and a target without runs has no score."""
    tried = chosen(request, values)
    if request.method.knob == "compression":
        return replace(plan.curve(tried, dataset), targets=tuple(tried.settings["compression"]))
    if request.method.knob == "strength" and request.settings.get("points") is not None:
        settings = {name: value for name, value in tried.settings.items() if name != "compression"}
        tried = replace(tried, settings=settings)
    return plan.curve(tried, dataset)


def study_name(request: Request, dataset: Dataset) -> str:
    """Twelve hex digits for what a study is of: all settings but those that it chooses, the seed and the knob."""
    fixed = {name: value for name, value in request.method.changed().items() if name not in request.method.tunable()}
    base = plan.base_spec(request, dataset)
    return replace(base, options=fixed, lr=RunSpec.lr, seed=0).id


def terms_of(request: Request, budget: Budget) -> dict[str, Any]:
    """What a study was given, as it is stored."""
    points = request.settings.get("points")
    return {
        **({} if points is None else {"points": points}),
        "trials": budget.trials,
        "seeds": knobs.seeds_of(request.settings),
        "rates": list(budget.rates),
        "widen": budget.widen,
        "targets": [float(target) for target in request.settings["compression"]],
        "gap": knobs.gap_of(request.settings),
        "max_runs": request.settings["max_runs"],
        "seed": budget.seed,
    }


def rates_of(request: Request, budget: Budget) -> list[float]:
    """The learning rates to begin with. The more else is tunable, the fewer, as there are no more trials."""
    combinations = math.prod(len(values) for values in request.method.tunable().values())
    return knobs.log_spaced(*budget.rates, -(-budget.trials // combinations))


def grid(request: Request, budget: Budget) -> list[dict[str, Any]]:
    """The settings of the first trials: cells of the grid of rates and what else is tunable, drawn by the seed."""
    cells = product(request, rates_of(request, budget))
    order = np.random.RandomState(budget.seed).permutation(len(cells))
    return sorted((cells[index] for index in order[: budget.trials]), key=lambda values: list(values.values()))


def product(request: Request, rates: Sequence[float]) -> list[dict[str, Any]]:
    """All settings at these rates, in the order of the names of what is tunable."""
    space = {"lr": rates, **request.method.tunable()}
    names = sorted(space)
    cells = [dict(zip(names, values, strict=True)) for values in itertools.product(*(space[name] for name in names))]
    return [{name: cell[name] for name in space} for cell in cells]


def wider(request: Request, budget: Budget, trials: Sequence[Trial], dataset: Dataset) -> list[dict[str, Any]]:
    """Settings at the next rate beyond an end at which a target's winner is; none within the limit, or at one rate."""
    first_rates = rates_of(request, budget)
    if len(first_rates) < 2:
        return []
    tried, count = sorted(set(map(rate_of, trials))), len(knobs.seeds_of(request.settings))
    won = {rate_of(trials[winner]) for winner in winners(trials, dataset, count) if winner is not None}
    step = (first_rates[-1] / first_rates[0]) ** (1 / (len(first_rates) - 1))
    added = []
    if tried[0] in won and sum(rate < first_rates[0] for rate in tried) < budget.widen:
        added.append(float(f"{tried[0] / step:.3g}"))
    if tried[-1] in won and sum(rate > first_rates[-1] for rate in tried) < budget.widen:
        added.append(float(f"{tried[-1] * step:.3g}"))
    return product(request, added) if added else []


def rate_of(trial: Trial) -> float:
    """The learning rate of a trial."""
    rate = trial.values["lr"]
    assert isinstance(rate, (int, float))
    return rate


def winners(trials: Sequence[Trial], dataset: Dataset, seeds: int) -> list[int | None]:
    """The place of the trial that wins each target; None where none has a score that is better than chance.

    Trials within a standard error of the best at a target cannot be told apart there, and the best of them is often so
    by luck: depth 3 of DWF lost half a point by it (results/tuned/README.md). So the one wins that is nearest to the
    best over all targets at which they have scores; a distance counts in standard errors, up to ``FAR``, which a target
    without a score is away for a trial with runs that diverged: its settings are at the edge of stability.
    """
    chance = dataset.task.guess(dataset.val.labels) or 0.0
    tops = [max((score for score in scores if score is not None), default=0.0) for scores in by_target(trials)]
    errors = [standard_error(top, dataset, seeds) for top in tops]

    def distance(place: int, target: int) -> float:
        below = tops[target] - (trials[place].scores[target] or 0.0)
        return min(below / errors[target], FAR) if errors[target] else FAR * (below > 0)

    won: list[int | None] = []
    for target, scores in enumerate(by_target(trials)):
        scored = [place for place, score in enumerate(scores) if score is not None and not guesses(score, chance)]
        level = [place for place in scored if distance(place, target) <= 1]
        shared = [
            number
            for number in range(len(tops))
            if all(trials[place].scores[number] is not None or trials[place].bad for place in level)
        ]
        won.append(min(level, key=lambda place: sum(distance(place, number) for number in shared), default=None))
    return won


def by_target(trials: Sequence[Trial]) -> list[tuple[float | None, ...]]:
    """The scores of all trials, in their order, for each target."""
    return list(zip(*(trial.scores for trial in trials), strict=True))


def standard_error(score: float, dataset: Dataset, seeds: int) -> float:
    """Of an accuracy, the mean over so many seeds, by the number of validation images, and more than one of these, also
    where all are right; 0 for other scores."""
    if dataset.task.score is not None:
        return 0.0
    share, count = min(max(score, 0.0), 1.0), len(dataset.val) * seeds
    return max(math.sqrt(share * (1 - share) / count), 1.5 / count)


def best(trials: Sequence[Trial]) -> int:
    """The best trial's place: of those with most scores the highest mean, over the targets at which all have one."""
    missing = [trial.scores.count(None) for trial in trials]
    full = [place for place, count in enumerate(missing) if count == min(missing)]
    shared = [scores for scores in by_target([trials[place] for place in full]) if None not in scores]
    means = [mean(scores) for scores in zip(*shared, strict=True)] or [trials[place].value for place in full]
    return max(zip(means, full, strict=True), key=lambda pair: pair[0] or 0.0)[1]


def chosen(request: Request, values: Mapping[str, Any]) -> Request:
    """The request with the values of a trial."""
    options = request.method.changed() | {name: value for name, value in values.items() if name != "lr"}
    settings = {**request.settings, "lr": values["lr"]}
    return replace(request, method=create(request.method.name, options), settings=settings)


def tune(
    requests: Sequence[Request],
    budget: Budget,
    dataset: Dataset,
    folder: Path,
    engine: Engine,
    progress: Progress,
    provenance: Origin,
    force: bool = False,
) -> list[Study]:
    """The studies of all requests, trained where they are not stored, and written to ``folder``/studies.

    Raises UsageError without a validation part, and for a stored study of another budget unless ``force``.
    """
    if not len(dataset.val):
        raise UsageError("Tuning judges by the validation part, which is empty; give a --val-fraction above 0.")
    store = Store(folder)
    for request in requests:
        stored_study, terms = store.study(study_name(request, dataset)), terms_of(request, budget)
        if stored_study is not None and stored_study.budget != terms and not force:
            raise UsageError(
                f"{folder} holds a study of {request.method.label()} with another budget ({stored_study.budget}); "
                "give the same, choose another --results, or replace it with --force."
            )
    store.prepare()
    trials_of: list[list[Trial]] = [[] for _ in requests]
    cells = [grid(request, budget) for request in requests]
    while any(cells):
        tried = [(number, values) for number, pending in enumerate(cells) for values in pending]
        curves = [trial_curve(requests[number], values, dataset) for number, values in tried]
        blind = replace(engine, test=False)
        # A trial that diverged is judged by that; the same settings would diverge again.
        finished, _ = targets.execute_to_targets(curves, dataset, store, blind, progress, retried=["failed"])
        for (number, values), curve in zip(tried, finished, strict=True):
            trials_of[number].append(trial(values, curve, terms_of(requests[number], budget)["targets"], store))
        cells = [wider(request, budget, trials, dataset) if pending else []
                 for request, trials, pending in zip(requests, trials_of, cells, strict=True)]  # fmt: skip
        for request, pending in zip(requests, cells, strict=True):
            if pending:
                rates = ", ".join(f"{rate:g}" for rate in sorted({values["lr"] for values in pending}))
                progress.note(f"{request.method.label()}: a winner is at the edge; the learning rate {rates} is tried.")
    studies = [study(*pair, dataset, budget, provenance) for pair in zip(requests, trials_of, strict=True)]
    for new_study in studies:
        store.write_study(new_study.id, msgspec.to_builtins(new_study))
    return studies


def study(request: Request, trials: Sequence[Trial], dataset: Dataset, budget: Budget, provenance: Origin) -> Study:
    """A study as it is stored, its trials in the order of their rates; of equal ones the first that was tried wins."""
    ordered = sorted(trials, key=rate_of)
    places: dict[int | None, int] = {number: ordered.index(trial) for number, trial in enumerate(trials)}
    terms = terms_of(request, budget)
    listed = ", ".join(f"{target:g}" for target in terms["targets"])
    return Study(
        id=study_name(request, dataset),
        label=request.method.label(),
        method=request.method.name,
        model=plan.base_spec(request, dataset).model,
        dataset=dataset.name,
        objective=f"validation {dataset.task.name} at CR {listed}, each with a winner of its own",
        targets=terms["targets"],
        budget=terms,
        trials=ordered,
        winners=[places.get(winner) for winner in winners(trials, dataset, len(terms["seeds"]))],
        best=places[best(trials)],
        provenance=provenance,
    )


def trial(values: Mapping[str, Any], curve: Curve, judged: Sequence[float], store: Store) -> Trial:
    """A trial as it is stored: its score at each target, and their mean as its value."""
    records = [record for spec in curve.specs if (record := store.read(spec.id)) is not None]
    by_seed: dict[int, list[tuple[float, float]]] = {seed: [] for seed in curve.seeds}
    for record in records:
        if record.compression is not None and record.val_accuracy is not None:
            by_seed[record.spec.seed].append((record.compression, record.val_accuracy))
    knob = curve.method.knob
    scores = [mean(height(points, target, curve.rule, knob) for points in by_seed.values()) for target in judged]
    lowest = min(judged, default=0.0)
    return Trial(
        values=dict(values),
        value=mean(score for score in scores if score is not None),
        scores=scores,
        runs=[record.id for record in records],
        bad=sum(record.status != "ok" or targets.is_dead_below(record, lowest) for record in records),
    )


def mean(numbers: Iterable[float | None]) -> float | None:
    """None if there is no number, or one is None."""
    listed = list(numbers)
    present = [number for number in listed if number is not None]
    return sum(present) / len(present) if present and len(present) == len(listed) else None


def height(points: Sequence[tuple[float, float]], target: float, rule: Rule, knob: str | None) -> float | None:
    """Accuracy of one seed's (CR, accuracy) points at a target, by the rule of their curve; else None.

    A dense network, which has no knob, counts as it is.
    """
    ratios, heights = [ratio for ratio, _ in points], [accuracy for _, accuracy in points]
    return mean(heights) if knob is None else matched.height_at(ratios, heights, target, *rule)


def remarks(studies: Sequence[Study], rates: int) -> list[str]:
    """What is to be said of studies that were given so many trials: of their winners, rates and seeds."""
    notes = []
    for study in studies:
        tried = sorted(set(map(rate_of, study.trials)))
        first_rates = [rate for rate in tried if study.budget["rates"][0] <= rate <= study.budget["rates"][1]]
        names = ", ".join(name for name in study.trials[0].values if name != "lr")
        combinations = {tuple(value for name, value in trial.values.items() if name != "lr") for trial in study.trials}
        if names and len(first_rates) < rates:
            notes.append(
                f"{study.label}: {len(first_rates)} learning rates where others have {rates}, as {names} is tuned by "
                f"the same trials; --trials {rates * len(combinations)} gives it as many."
            )
        for place, (target, winner) in enumerate(zip(study.targets, study.winners, strict=True)):
            if winner is None:
                scored = any(trial.scores[place] is not None for trial in study.trials)
                lacking = "better than chance" if scored else "bracketed"
                notes.append(f"{study.label}: no trial is {lacking} at CR {target:g}, so that no settings won there.")
            elif len(tried) > 1 and (rate := rate_of(study.trials[winner])) in (tried[0], tried[-1]):
                end = "smallest" if rate == tried[0] else "largest"
                won = f"the {end} learning rate, {rate:g}, won at CR {target:g}"
                notes.append(f"{study.label}: {won}; a larger --widen goes on.")
    if any(len(study.budget["seeds"]) == 1 for study in studies):
        notes.append("With one seed a rate at the edge of stability may win by luck; --seeds 2 or more tell.")
    return notes
