"""How long a command will take: a few steps of every curve are measured, the rest is arithmetic."""

import time
from typing import NamedTuple

import torch

from dwfbench.data import augment
from dwfbench.data.dataset import Dataset
from dwfbench.dwf.parametrization import Parametrization
from dwfbench.execution.worker import Engine, Task
from dwfbench.experiments import run as runner
from dwfbench.experiments.plan import Curve
from dwfbench.methods.contract import Method
from dwfbench.methods.stage import shared_epochs
from dwfbench.runs.spec import RunSpec
from dwfbench.training import loop

STEPS = 10
PATIENCE = 3.0
"""Seconds that a curve's measured steps may take; one step must do where ten would take longer."""


IN_STEP = ("decay", "penalty", "project")
"""Hooks that are called in a step."""


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
        key = (
            *stepped(curve),
            one.batch_size,
            one.augment,
            one.precision,
            one.optimizer,
            one.momentum,
            one.clip_norm,
            lanes,
        )
        if key not in measured:
            measured[key] = seconds_per_step(curve, dataset, lanes)
        times.append(measured[key])
    return times


def stepped(curve: Curve) -> tuple[Method | None, Parametrization]:
    """What the cost of a curve's first step depends on: the method only if it has a say in the step."""
    method, stage = curve.method, curve.method.stages(curve.specs[0].epochs)[0]
    plain = all(getattr(type(method), name) is getattr(Method, name) for name in IN_STEP)
    return None if plain else method, stage.parametrization


def seconds_per_step(curve: Curve, dataset: Dataset, lanes: int = 1) -> float:
    """Seconds that an eager step of the real trainer takes a run, where ``lanes`` are trained at once."""
    specs = list(curve.specs[:lanes])
    trainer = loop.Trainer(specs[0], curve.method, dataset)
    group = trainer.start(specs, "estimate")
    step, part = trainer.step_of(group), dataset.train
    index = torch.arange(specs[0].batch_size, device=part.labels.device)
    view = augment.draw(specs[0].augment, len(index), torch.Generator()).to(index.device)
    rate = torch.full((len(specs),), 1e-9, device=index.device)  # at this rate no lane diverges

    def measure(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            losses = step(group.state, part.images, part.labels, index, view, rate)
        losses.tolist()  # a device is waited for
        return (time.perf_counter() - started) / steps / len(specs)

    measure(1)
    first = measure(1)
    return first if first * STEPS > PATIENCE else measure(STEPS)


def hours(parts: list[Part], seconds: list[float], dataset: Dataset, jobs: int) -> float:
    """Hours of training at the given ``seconds`` a step and run of every part.

    Epochs that the runs of a seed share count once; ``jobs`` processes work side by side, as far as there are tasks.
    """
    total = 0.0
    for (curve, runs, _), step in zip(parts, seconds, strict=True):
        one = curve.specs[0]
        shared = shared_epochs(curve.method.stages(one.epochs))
        epochs = shared * len({run.seed for run in runs}) + (one.epochs - shared) * len(runs)
        total += step * epochs * loop.steps_in_epoch(len(dataset.train), one.batch_size)
    return total / 3600 / min(jobs, sum(len(part.tasks) for part in parts))


def duration(hours: float) -> str:
    if hours >= 1:
        return f"about {hours:,.{1 if hours < 10 else 0}f} hours"
    return f"about {60 * hours:.2g} minutes" if hours * 60 >= 1 else "less than a minute"
