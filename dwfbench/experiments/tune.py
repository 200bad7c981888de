"""Tuning with equal budgets: the same number of trials for every method, judged on the validation part alone.

A *trial* is a curve at one learning rate (and one value of what else the method declares as tunable), a *study* the
trials of one method. Trials are runs like any others, stored under RESULTS/tuning/, but the test set is not looked at.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dwfbench.analysis.height import mean_height
from dwfbench.base.errors import UsageError
from dwfbench.data.dataset import Dataset
from dwfbench.execution.worker import Engine, Progress
from dwfbench.experiments import knobs, plan, targets
from dwfbench.experiments.plan import Curve, Request
from dwfbench.methods.registry import create
from dwfbench.runs.record import Origin, Study, Trial, Tuned, study_of
from dwfbench.runs.spec import RunSpec
from dwfbench.runs.store import Store, read_json, write_json

TRIALS = 6
RATES = (0.03, 0.5)
TARGETS = (5.0, 40.0, 300.0)
MAX_RUNS = 5
"""Strengths of a trial, for methods that must search for their compression."""


@dataclass(frozen=True)
class Budget:
    """What every method is given: ``trials`` over learning rates from ``rates[0]`` to ``rates[1]``, evenly in their
    logarithm, judged over compression ratios from ``span[0]`` to ``span[1]``; ``seed`` shuffles the grid."""

    trials: int = TRIALS
    rates: tuple[float, float] = RATES
    span: tuple[float, float] = (TARGETS[0], TARGETS[-1])
    seed: int = 0

    def __post_init__(self):
        if not 1 <= self.trials <= knobs.MOST:
            raise UsageError(f"--trials must be from 1 to {knobs.MOST:,}, not {self.trials}.")
        if not 0 < self.rates[0] < self.rates[1]:
            raise UsageError(f"--lr-range takes two positive learning rates, the smaller first, not {self.rates}.")
        if not 1 <= self.span[0] < self.span[1]:
            raise UsageError("--area takes two compression ratios, the smaller first.")


def short(request: Request) -> Request:
    """The request with what a trial's curve needs: few targets, few strengths."""
    given = request.settings
    listed = knobs.as_list(given["compression"]) if given.get("compression") is not None else TARGETS
    dropped = ("strength", "points")
    settings = {name: value for name, value in given.items() if name not in dropped}
    return replace(
        request, settings={**settings, "compression": list(listed), "max_runs": given.get("max_runs", MAX_RUNS)}
    )


def study_name(request: Request, dataset: Dataset) -> str:
    """Twelve hex digits for what a study is of: all settings but those that it chooses, the seed and the knob."""
    fixed = {name: value for name, value in request.method.changed().items() if name not in request.method.tunable()}
    base = plan.base_spec(request, dataset)
    return replace(base, options=fixed, lr=RunSpec.lr, seed=0).id


def terms_of(request: Request, budget: Budget) -> dict[str, Any]:
    """What a study was given, as it is stored."""
    return {
        "trials": budget.trials,
        "seeds": knobs.seeds_of(request.settings),
        "rates": list(budget.rates),
        "range": list(budget.span),
        "seed": budget.seed,
    }


def grid(request: Request, budget: Budget) -> list[dict[str, Any]]:
    """The settings of every trial: cells of the grid of learning rates and what else is tunable, drawn by the seed.

    The more is tunable, the fewer learning rates there are, so that the grid has hardly more cells than trials.
    """
    others = request.method.tunable()
    count = -(-budget.trials // math.prod(len(values) for values in others.values()))
    space = {"lr": knobs.log_spaced(*budget.rates, count), **others}
    names = sorted(space)
    cells = [dict(zip(names, values, strict=True)) for values in itertools.product(*(space[name] for name in names))]
    order = np.random.RandomState(budget.seed).permutation(len(cells))
    drawn = [{name: cells[index][name] for name in space} for index in order[: budget.trials]]
    return sorted(drawn, key=lambda values: list(values.values()))


def chosen(request: Request, values: Mapping[str, Any]) -> Request:
    """The request with the values of a trial."""
    method = request.method
    options = {name: value for name, value in values.items() if name != "lr"}
    settings = {**request.settings, "lr": values["lr"]}
    return replace(request, method=create(method.name, method.changed() | options), settings=settings)


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
    names = [study_name(request, dataset) for request in requests]
    for name, request in zip(names, requests, strict=True):
        stored, terms = read(folder, name), terms_of(request, budget)
        if stored is not None and stored.budget != terms and not force:
            raise UsageError(
                f"{folder} holds a study of {request.method.label()} with another budget ({stored.budget}); "
                "give the same, choose another --results, or replace it with --force."
            )
    cells = [grid(request, budget) for request in requests]
    curves = [
        plan.curve(chosen(request, values), dataset)
        for request, trials in zip(requests, cells, strict=True)
        for values in trials
    ]
    store = Store(folder)
    store.prepare()
    finished, _ = targets.execute_to_targets(curves, dataset, store, replace(engine, test=False), progress)
    left = iter(finished)
    studies = []
    for name, request, trials in zip(names, requests, cells, strict=True):
        results = [trial(values, next(left), store, budget, dataset.classes) for values in trials]
        study = Study(
            id=name,
            label=request.method.label(),
            method=request.method.name,
            model=plan.base_spec(request, dataset).model,
            dataset=dataset.name,
            objective=f"mean validation accuracy over log CR from {budget.span[0]:g} to {budget.span[1]:g}",
            range=list(budget.span),
            budget=terms_of(request, budget),
            trials=[tried for tried, _ in results],
            best=max(range(len(results)), key=lambda index: results[index][1]),
            provenance=provenance,
        )
        write_json(folder / "studies" / f"{name}.json", msgspec.to_builtins(study))
        studies.append(study)
    return studies


def trial(values: Mapping[str, Any], curve: Curve, store: Store, budget: Budget, classes: int) -> tuple[Trial, float]:
    """A trial as it is stored, and its value."""
    records = [record for one in curve.specs if (record := store.read(one.id)) is not None]
    by_seed: dict[int, list[tuple[float, float]]] = {one.seed: [] for one in curve.specs}
    for record in records:
        if record.compression is not None and record.val_accuracy is not None:
            by_seed[record.spec.seed].append((record.compression, record.val_accuracy))
    heights = [height(points, budget.span, 1 / classes, curve.method.knob) for points in by_seed.values()]
    value, bad = sum(heights) / len(heights), sum(record.status != "ok" for record in records)
    return Trial(values=dict(values), value=value, runs=[record.id for record in records], bad=bad), value


def height(
    points: Sequence[tuple[float, float]], span: tuple[float, float], chance: float, knob: str | None = "strength"
) -> float:
    """Mean accuracy over log CR in ``span``, of the (CR, accuracy) of one seed, joined by straight lines.

    Where the curve begins above the range's start, its first accuracy counts: that network is compressed as much as
    asked, and more. Where it ends below the range's end, ``chance`` counts: there is no such network. A dense network,
    which has no knob, counts as it is; without any point all is chance.
    """
    if not points:
        return chance
    if knob is None:
        return sum(accuracy for _, accuracy in points) / len(points)
    merged: dict[float, list[float]] = {}
    for ratio, accuracy in sorted(points):
        merged.setdefault(math.log(ratio), []).append(accuracy)
    log_cr = np.array(list(merged))
    heights = np.array([sum(values) / len(values) for values in merged.values()])
    start, stop = map(math.log, span)
    return mean_height(log_cr, heights, start, stop, after=chance)


def read(folder: Path, name: str) -> Study | None:
    """A stored study; None where there is none that can be read."""
    stored = read_json(folder / "studies" / f"{name}.json", study_of)
    return stored[1] if stored is not None and stored[1].id == name else None


def tuned(request: Request, dataset: Dataset, folder: Path) -> Curve:
    """The curve of a request with the settings that won its study.

    Raises UsageError where there is no study of these settings that can be read.
    """
    name = study_name(request, dataset)
    study = read(folder, name)
    if study is None:
        raise UsageError(
            f"There is no readable tuning of {request.method.label()} with these settings in {folder}; run "
            "`dwfbench tune` with the same method, options, model, data set and epochs first."
        )
    best = study.winner
    curve = plan.curve(chosen(request, best.values), dataset)
    told = Tuned(study=name, trials=len(study.trials), objective=best.value, values=best.values)
    return replace(curve, tuned=told)


def at_edge(study: Study) -> str | None:
    """Which end of the learning rates won, "smallest" or "largest"; None if the best lies between."""
    tried = [trial.values["lr"] for trial in study.trials]
    rates, best = sorted({rate for rate in tried if isinstance(rate, float)}), study.winner.values["lr"]
    if len(rates) == 1 or best not in (rates[0], rates[-1]):
        return None
    return "smallest" if best == rates[0] else "largest"
