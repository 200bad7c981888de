"""How long a command will take: a few steps of every curve are trained as they will be, the rest is arithmetic.

Measured is the real trainer, compiled where runs will be: some steps, a row of the history, a test on a few images.
Scores are not counted, which take a second or two a run.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch

from dwfbench.base.text import short
from dwfbench.data.dataset import Dataset, Split
from dwfbench.dwf.parametrization import Parametrization
from dwfbench.execution.worker import Engine, Task
from dwfbench.experiments import run as runner
from dwfbench.experiments.plan import Curve
from dwfbench.methods.contract import Method
from dwfbench.methods.stage import shared_epochs
from dwfbench.runs.spec import RunSpec
from dwfbench.training import loop
from dwfbench.training.evaluate import evaluate

STEPS = 50
"""Steps that are measured; fewer where they would take longer than PATIENCE."""
PATIENCE = 2.0
"""Seconds for the measured steps of a curve."""
EVALUATED = 250
"""Images on which a row of the history and the assessment are measured; their time grows with the number of images."""
TESTS = 4
"""How often a run is tested: as it is, before its sparsification, and where further thresholds remove weights."""

IN_STEP = ("decay", "penalty", "project")
"""Hooks that are called in a step."""


class Part(NamedTuple):
    """What is left to train of a curve, and how the runner would divide it."""

    curve: Curve
    runs: list[RunSpec]
    tasks: list[Task]


class Costs(NamedTuple):
    """Seconds: of compiling a curve's step; of a step of one run, of a row of its history, and of its assessment."""

    compiling: float
    step: float
    row: float
    end: float


def sentence(curves: list[Curve], pending: list[list[RunSpec]], dataset: Dataset, engine: Engine) -> str:
    """The number of runs to train and the time they take; ``pending`` are those of each curve."""
    parts = [
        Part(curve, runs, runner.divide(curve, runs, dataset, engine))
        for curve, runs in zip(curves, pending, strict=True)
        if runs
    ]
    if not parts:
        return "Nothing is left to train."
    runs = sum(len(part.runs) for part in parts)
    if engine.cluster is not None:
        return f"{runs} run{'s' * (runs > 1)} to train, in {sum(len(part.tasks) for part in parts)} groups."
    costs = all_costs(parts, dataset)
    low, high = (short(1000 * edge, 2) for edge in (min(costs).step, max(costs, key=lambda cost: cost.step).step))
    step = low if low == high else f"{low} to {high}"
    return (
        f"{runs} run{'s' * (runs > 1)} to train, {duration(seconds(parts, costs, dataset, engine))} on this device as "
        f"busy as it is now ({step} ms a step and run, measured)."
    )


def all_costs(parts: list[Part], dataset: Dataset) -> list[Costs]:
    """The costs of every part; curves with the same step are measured once."""
    measured: dict[tuple, Costs] = {}
    costs = []
    for curve, _, tasks in parts:
        one, task = curve.specs[0], tasks[0]
        settings = (one.batch_size, one.augment, one.precision, one.optimizer, one.momentum, one.clip_norm)
        key = (*stepped(curve), *settings, task.lanes, task.compile)
        if key not in measured:
            measured[key] = measure(curve, task, dataset)
        costs.append(measured[key])
    return costs


def stepped(curve: Curve) -> tuple[Method | None, Parametrization]:
    """What the cost of a curve's first step depends on: the method only if it has a say in the step."""
    method, stage = curve.method, curve.method.stages(curve.specs[0].epochs)[0]
    plain = all(getattr(type(method), name) is getattr(Method, name) for name in IN_STEP)
    return None if plain else method, stage.parametrization


def measure(curve: Curve, task: Task, dataset: Dataset) -> Costs:
    """What the trainer takes a run, where ``task.lanes`` are trained at once, on a little of the data."""
    specs = list(task.specs[: task.lanes])
    few = replace(dataset, val=first(dataset.val), test=first(dataset.test))
    trainer = loop.Trainer(specs[0], curve.method, few, compile=task.compile)
    group = trainer.start(specs, "estimate")

    in_epoch = loop.steps_in_epoch(len(dataset.train), specs[0].batch_size)
    skipped = min(1, in_epoch - 1)  # the first step, before which methods score

    def trained(steps: int) -> float:
        clock = Clock(few)
        group.position = skipped
        rates = torch.full((skipped + steps, len(specs)), 1e-9, device=trainer.device)  # no lane diverges at it
        trainer.train_epoch(group, rates)
        return clock.seconds()

    begun = trained(1)
    step = trained(1)
    if (steps := min(STEPS, in_epoch - skipped, int(PATIENCE / step))) > 1:
        step = trained(steps) / steps
    clock = Clock(few)
    trainer.record(group, torch.full((len(specs),), 1e-9, device=trainer.device))
    row = clock.seconds() * share(dataset.val)
    clock = Clock(few)
    evaluate(trainer.network, {**trainer.weights(group), **group.state.others, **group.state.buffers}, few.test, few)
    test = clock.seconds() * share(dataset.test)
    compiling = begun - step if task.compile else 0.0
    return Costs(compiling, *(cost / len(specs) for cost in (step, row, TESTS * test)))


class Clock:
    """The time since it was made, in which a device has finished its work."""

    def __init__(self, dataset: Dataset):
        self.finish: Callable[[], object] = lambda: dataset.mean.sum().item()
        self.finish()
        self.started = time.perf_counter()

    def seconds(self) -> float:
        self.finish()
        return time.perf_counter() - self.started


def first(split: Split) -> Split:
    return Split(split.images[:EVALUATED], split.labels[:EVALUATED])


def share(split: Split) -> float:
    """By what the time on the first EVALUATED images grows on all of them."""
    return max(1.0, len(split) / EVALUATED)


def seconds(parts: list[Part], costs: list[Costs], dataset: Dataset, engine: Engine) -> float:
    """Of the whole command.

    Epochs that the runs of a seed share count once; ``jobs`` processes work side by side, as far as there are tasks.
    """
    work = 0.0
    for (curve, runs, _), cost in zip(parts, costs, strict=True):
        one = curve.specs[0]
        shared = shared_epochs(curve.method.stages(one.epochs))
        epochs = shared * len({run.seed for run in runs}) + (one.epochs - shared) * len(runs)
        steps = loop.steps_in_epoch(len(dataset.train), one.batch_size)
        work += epochs * (steps * cost.step + cost.row / engine.eval_every) + len(runs) * cost.end
    compiling = sum({id(cost): cost.compiling for cost in costs}.values())
    return compiling + work / min(engine.jobs, sum(len(part.tasks) for part in parts))


def duration(seconds: float) -> str:
    """In words, to two digits."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"about {float(f'{seconds / size:.2g}'):g} {unit}"
    return f"about {max(1.0, float(f'{seconds:.2g}')):g} seconds"
