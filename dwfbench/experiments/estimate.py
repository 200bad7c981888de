"""How long a command will take: a few steps of every curve are measured, the rest is arithmetic."""

import contextlib
import time
from dataclasses import replace
from typing import NamedTuple

from dwfbench.data.dataset import Dataset, Split
from dwfbench.execution.worker import Engine, Task
from dwfbench.experiments import run as runner
from dwfbench.experiments.plan import Curve
from dwfbench.methods.contract import Method
from dwfbench.runs.spec import RunSpec
from dwfbench.training import loop

STEPS = 10
PATIENCE = 3.0
"""Seconds that a curve's measured steps may take; one step must do where ten would take longer."""

IN_STEP = ("reparametrize", "effective", "penalty_gradient", "project")
"""Hooks by which a method changes what a step costs."""


class Part(NamedTuple):
    """What is left to train of a curve, and how the runner would divide it."""

    curve: Curve
    runs: list[RunSpec]
    tasks: list[Task]


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
    seconds = step_times(parts, dataset)
    low, high = (f"{edge:.2g}" for edge in (min(seconds), max(seconds)))
    step = low if low == high else f"{low} to {high}"
    compiling = "; compiling makes them faster" if any(task.compile for part in parts for task in part.tasks) else ""
    return (
        f"{runs} run{'s' * (runs > 1)} to train, {duration(hours(parts, seconds, dataset, engine.jobs))} on this "
        f"device ({step} s a step and run, at most {STEPS} eager steps of a curve measured{compiling}; scores and "
        "evaluation are not counted)."
    )


def step_times(parts: list[Part], dataset: Dataset) -> list[float]:
    """``seconds_per_step`` of every part; curves with the same step are measured once."""
    measured: dict[tuple, float] = {}
    times = []
    for curve, _, tasks in parts:
        one, lanes = curve.specs[0], tasks[0].lanes
        key = (stepped(curve.method), one.batch_size, one.augment, one.precision, one.momentum, one.clip_norm, lanes)
        if key not in measured:
            measured[key] = seconds_per_step(curve, dataset, lanes)
        times.append(measured[key])
    return times


def seconds_per_step(curve: Curve, dataset: Dataset, lanes: int = 1) -> float:
    """Seconds that an eager step of the real trainer takes a run, where ``lanes`` are trained at once."""
    first = measure(curve, dataset, lanes, 1)
    return first if first * STEPS > PATIENCE else measure(curve, dataset, lanes, STEPS)


def measure(curve: Curve, dataset: Dataset, lanes: int, steps: int) -> float:
    """Train on the first ``steps`` batches alone for two epochs, if there are two; the last one counts."""
    # At this rate no lane diverges, which would end its training.
    specs = [replace(one, lr=1e-9) for one in curve.specs[:lanes]]
    samples = min(steps, len(dataset.train) // specs[0].batch_size) * specs[0].batch_size
    few = Split(dataset.train.images[:samples], dataset.train.labels[:samples])
    none = Split(few.images[:0], few.labels[:0])
    trainer = loop.Trainer(specs[0], stepped(curve.method), replace(dataset, train=few, val=none))
    clock = [time.perf_counter()]

    def tick(*_) -> None:
        clock.append(time.perf_counter())
        if len(clock) == 3:
            raise Enough

    with contextlib.suppress(Enough):
        list(trainer.train(specs, len(specs), tick))
    return (clock[-1] - clock[-2]) * specs[0].batch_size / samples / len(specs)


class Enough(Exception):
    """Two epochs have been seen."""


def stepped(chosen: Method) -> Method:
    """The method, or the empty one if its steps are plain: scores can take minutes, and masks cost a step nothing."""
    plain = all(getattr(type(chosen), name) is getattr(Method, name) for name in IN_STEP)
    return Method() if plain else chosen


def hours(parts: list[Part], seconds: list[float], dataset: Dataset, jobs: int) -> float:
    """Hours of training at the given ``seconds`` a step and run of every part.

    Epochs that the runs of a seed share count once; ``jobs`` processes work side by side, as far as there are tasks.
    """
    total = 0.0
    for (curve, runs, _), step in zip(parts, seconds, strict=True):
        one = curve.specs[0]
        shared = curve.method.shared_epochs(one.epochs)
        epochs = shared * len({run.seed for run in runs}) + (one.epochs - shared) * len(runs)
        total += step * epochs * loop.steps_in_epoch(len(dataset.train), one.batch_size)
    return total / 3600 / min(jobs, sum(len(part.tasks) for part in parts))


def duration(hours: float) -> str:
    if hours >= 1:
        return f"about {hours:,.{1 if hours < 10 else 0}f} hours"
    return f"about {60 * hours:.2g} minutes" if hours * 60 >= 1 else "less than a minute"
