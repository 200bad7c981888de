"""How long a command will take: a few steps of every curve are trained as they will be, the rest is arithmetic.

Counted are the start of the command and of its worker processes; in each process the compiler's start and, for every
curve, its compiled steps, as they are once the disk has them; steps, and as many more as a method says that its scores
and masks need passes; rows of the history; the assessment of each run. Not counted: reading or downloading the data,
choosing masks by scores, writing records, waiting for others.
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
from dwfbench.training import assess, loop
from dwfbench.training import compile as compiler
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
    """Seconds: of compiling one of a curve's steps; of a step of one run, of a row of its history, its assessment."""

    compiling: float
    step: float
    row: float
    end: float


def sentence(
    curves: list[Curve], pending: list[list[RunSpec]], dataset: Dataset, engine: Engine, started: float
) -> str:
    """The number of runs to train and the time they take; ``pending`` are those of each curve.

    ``started`` are the seconds that this command took until here, as the one that trains will.
    """
    missing = {run.id for runs in pending for run in runs}
    parts = [
        Part(curve, runs, runner.divide(curve, runs, dataset, engine))
        for curve in runner.joined(curves)
        if (runs := [run for run in curve.specs if run.id in missing])
    ]
    if not parts:
        return "Nothing is left to train."
    count = sum(len(part.runs) for part in parts)
    if engine.cluster is not None:
        return f"{count} run{'s' * (count > 1)} to train, in {sum(len(part.tasks) for part in parts)} groups."
    compiled = any(task.compile for part in parts for task in part.tasks)
    compiler_seconds = compiler_start(dataset) if compiled else 0.0
    costs = all_costs(parts, dataset)
    steps = [cost.step for cost in costs]
    low, high = (short(1000 * edge, 2) for edge in (min(steps), max(steps)))
    step = low if low == high else f"{low} to {high}"
    spent = seconds(parts, costs, started, compiler_seconds, dataset, engine)
    text = (
        f"{count} run{'s' * (count > 1)} to train, {duration(spent)} on this device as busy as it is now ({step} ms a "
        "step and run, measured)."
    )
    alone = [replace(part.tasks[0], specs=part.tasks[0].specs[:1]) for part in parts]
    further = [
        trained(part.curve, task, cost, dataset, engine)
        for part, task, cost in zip(parts, alone, costs, strict=True)
        if part.curve.targets
    ]
    return f"{text} Each run that a search adds takes {duration(max(further))}." if further else text


def compiler_start(dataset: Dataset) -> float:
    """Seconds until the compiler can compile a step: it is imported, and compiles a sum."""
    clock = Clock(dataset)
    compiler.compiled(lambda x: x + 1, dataset.mean.device)(dataset.mean)
    return clock.seconds()


def all_costs(parts: list[Part], dataset: Dataset) -> list[Costs]:
    """The costs of every part; curves with the same step are measured once."""
    measured: dict[tuple, Costs] = {}
    costs = []
    for curve, _, tasks in parts:
        spec, task = curve.specs[0], tasks[0]
        settings = (spec.batch_size, spec.augment, spec.precision, spec.optimizer, spec.momentum, spec.clip_norm)
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
    sample = replace(dataset, val=few_images(dataset.val), test=few_images(dataset.test))
    in_epoch = loop.steps_in_epoch(len(dataset.train), specs[0].batch_size)
    skipped = min(1, in_epoch - 1)  # the first step, before which methods score

    def trained(trainer: loop.Trainer, group: loop.Group, steps: int) -> float:
        clock = Clock(sample)
        group.position = skipped
        rates = torch.full((skipped + steps, len(specs)), 1e-9, device=trainer.device)  # no lane diverges at it
        trainer.train_epoch(group, rates)
        return clock.seconds()

    for _ in range(2 if task.compile else 1):  # the second time the disk has the code, as when the runs are trained
        trainer = loop.Trainer(specs[0], curve.method, sample, compile=task.compile)
        group = trainer.start(specs, "estimate")
        first_step = trained(trainer, group, 1)
    step = trained(trainer, group, 1)
    if (steps := min(STEPS, in_epoch - skipped, int(PATIENCE / step))) > 1:
        step = trained(trainer, group, steps) / steps

    def evaluated(split: Split) -> float:
        """Seconds for the images of a split beyond those of ``first``."""
        clock = Clock(sample)
        evaluate(trainer.network, {**trainer.weights(group), **group.state.others, **group.state.buffers},
                 few_images(split), sample)  # fmt: skip
        return clock.seconds() * (share(split) - 1)

    clock = Clock(sample)
    trainer.record(group, torch.full((len(specs),), 1e-9, device=trainer.device))
    row, validation = clock.seconds(), evaluated(dataset.val)
    lanes = trainer.finish(group, [])
    clock = Clock(sample)
    assess.assess(lanes[0], curve.method, sample)
    end = clock.seconds() + (validation + TESTS * evaluated(dataset.test)) / len(specs)
    return Costs(first_step - step if task.compile else 0.0, step / len(specs), (row + validation) / len(specs), end)


class Clock:
    """The time since it was made, in which a device has finished its work."""

    def __init__(self, dataset: Dataset):
        self.finish: Callable[[], object] = lambda: dataset.mean.sum().item()
        self.finish()
        self.started = time.perf_counter()

    def seconds(self) -> float:
        self.finish()
        return time.perf_counter() - self.started


def few_images(split: Split) -> Split:
    return Split(split.images[:EVALUATED], split.labels[:EVALUATED])


def share(split: Split) -> float:
    """By what the time on the first EVALUATED images grows on all of them."""
    return max(1.0, len(split) / EVALUATED)


def seconds(
    parts: list[Part], costs: list[Costs], started: float, compiler_seconds: float, dataset: Dataset, engine: Engine
) -> float:
    """Of the whole command: of the process that has most to do, after the start of the first one.

    Processes take tasks as they become free. Epochs that the runs of a seed share count once; the compiler is started
    in every process that needs it, and the steps of a curve, those of its later stages once, in all that train it.
    """
    tasks = [(part, cost, task) for part, cost in zip(parts, costs, strict=True) for task in part.tasks]
    processes = min(engine.jobs, len(tasks))
    spent = [started if processes > 1 else 0.0] * processes
    done: list[set] = [set() for _ in range(processes)]  # what each process has compiled
    for part, cost, task in tasks:
        process, spec = spent.index(min(spent)), part.curve.specs[0]
        variants = min(2, len(part.curve.method.stages(spec.epochs)))
        once = {"": compiler_seconds if task.compile else 0.0, spec.id: cost.compiling * variants}
        spent[process] += sum(cost for item, cost in once.items() if item not in done[process])
        done[process] |= once.keys()
        spent[process] += trained(part.curve, task, cost, dataset, engine)
    return started + max(spent)


def trained(curve: Curve, task: Task, cost: Costs, dataset: Dataset, engine: Engine) -> float:
    """Seconds of the runs of a task, without what its process does once."""
    spec, runs = curve.specs[0], task.specs
    shared = shared_epochs(curve.method.stages(spec.epochs))
    epochs = shared * len({run.seed for run in runs}) + (spec.epochs - shared) * len(runs)
    steps = loop.steps_in_epoch(len(dataset.train), spec.batch_size)
    masks = curve.method.extra_passes(spec.epochs * steps) * cost.step
    return epochs * (steps * cost.step + cost.row / engine.eval_every) + len(runs) * (masks + cost.end)


def duration(seconds: float) -> str:
    """In words, to two digits."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"about {float(f'{seconds / size:.2g}'):g} {unit}"
    return f"about {max(1.0, float(f'{seconds:.2g}')):g} seconds"
