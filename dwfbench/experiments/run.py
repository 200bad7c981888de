"""Curves -> tasks -> records: skips what is stored, trains what is not, and stores every run as it ends."""

import itertools
import math
import time
from collections.abc import Collection, Mapping
from dataclasses import replace

from torch import nn

from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.data import dataset as data
from dwfbench.execution.collect import machine, results
from dwfbench.execution.listener import Progress
from dwfbench.execution.worker import Engine, Task
from dwfbench.experiments.plan import Curve, Request, bare_spec
from dwfbench.methods.stage import shared_epochs
from dwfbench.models.prunable import prunable
from dwfbench.runs.locks import Claims
from dwfbench.runs.record import Record
from dwfbench.runs.spec import RunSpec
from dwfbench.runs.store import Store
from dwfbench.sparsity.count import macs
from dwfbench.training import loop
from dwfbench.training.checkpoint import Folder, stop
from dwfbench.training.lanes import chunks, knobless, laneless

COMPILE_STEPS = 5_000
"""Steps of a curve from which compiling pays: it costs about ten seconds and saves two milliseconds or more a step."""

SMALL_STEP = 5e7
"""Multiply-accumulates of a batch up to which one thread is no slower than two: LeNet-300-100 at a batch of 128 needs
3.4e7, and with two a step takes 1.35 times as long; at 512 two are a little faster (benchmarks/README.md)."""

RETRIED = ("diverged", "failed")
"""Statuses of stored runs that `run` tries again."""


def pending(
    curve: Curve, store: Store, dataset: data.Dataset, force: bool, retried: Collection[str] = RETRIED
) -> list[RunSpec]:
    """Runs without a record, or with one of a status that is tried again (all of them with ``force``).

    Raises UsageError for a stored run of other data under the same name: the two would look like one experiment. A
    stand-in for data is not compared.
    """
    missing = []
    for spec in curve.specs:
        record = store.read(spec.id)
        if record is None or record.status in retried or force:
            missing.append(spec)
        elif dataset.checksum and record.provenance.data_checksum != dataset.checksum:
            raise UsageError(
                f"{store.folder} holds the run {spec.id} of other data named {dataset.name} (its checksum differs); "
                "choose another folder with --results, or train it again with --force."
            )
    return missing


def execute(
    curves: list[Curve],
    dataset: data.Dataset,
    store: Store,
    engine: Engine,
    progress: Progress,
    force: bool = False,
    retried: Collection[str] = RETRIED,
) -> dict[str, str]:
    """Train what is missing and store every run as soon as it is done; status by run id.

    What fails (out of memory, a bug in a plug-in) is tried again in smaller groups, then stored as failed, and the
    next run goes on. What another command is training in the same folder is left to it, waited for, and trained here
    only if that command ended without a record; else its outcome is ours. UsageError and KeyboardInterrupt pass
    through; stored runs stay. Damaged records are told before their runs are trained again.
    ``force`` trains stored runs, too, and all of them from their beginning, whatever checkpoints there are; ``retried``
    are the statuses of stored runs that are trained again without it.
    """
    told = len(store.damaged)
    waiting = [pending(curve, store, dataset, force, retried) for curve in curves]  # refuses before training
    for sentence in store.damaged[told:]:
        progress.note(sentence)
    missing = [[run.id for run in runs] for runs in waiting]
    for curve, run_ids in zip(curves, missing, strict=True):
        progress.curve(curve.method.label(), curve.specs, len(run_ids), curve.specs[0].epochs)
    earlier_records = {run_id: store.read(run_id) for run_ids in missing for run_id in run_ids}
    specs = [spec for curve in curves for spec in curve.specs]
    outcome: dict[str, str] = {}
    with Claims(store.folder) as claims:
        claimed_ids = claims.take(earlier_records)
        busy_runs = {run_id: record for run_id, record in earlier_records.items() if run_id not in claimed_ids}
        claimed_ids = unchanged(claimed_ids, earlier_records, store)  # another command may have stored some since
        if busy_runs:
            sentence = f"Another command is training {len(busy_runs)} of these runs in {store.folder}"
            progress.note(f"{sentence}; they are left to it, and waited for at the end.")
        if force and engine.checkpoints is not None:
            Folder(engine.checkpoints).forget(identities([spec for spec in specs if spec.id in claimed_ids]))
        while True:
            for result in results(tasks(curves, claimed_ids, dataset, engine), dataset, engine, progress):
                store.write(result.record, result.history, result.state)
                if engine.checkpoints is not None:
                    for name in result.outdated:
                        Folder(engine.checkpoints).drop(name)
                outcome[result.record.id] = result.record.status
                claims.give_back(result.record.id)
                progress.run(result.record, result.history)
            if not busy_runs:
                break
            claimed_ids = left_behind(busy_runs, claims, store)
        for run_id in earlier_records.keys() - outcome.keys():  # what another command made of its runs
            if (status := store.status(run_id)) is not None:
                outcome[run_id] = status
    if engine.checkpoints:  # a command that is killed between a record and its checkpoint leaves that
        # One that failed goes on the next time, such as one that timed out.
        failed = [spec for spec in specs if outcome.get(spec.id) == "failed"]
        Folder(engine.checkpoints).sweep(identities(specs) - identities(failed))
    return outcome


def identities(runs: list[RunSpec]) -> set[str]:
    """The identities of runs, and those of the epochs that they share with others."""
    return {spec.identity for run in runs for spec in (run, knobless(run))}


def left_behind(busy_runs: dict[str, Record | None], claims: Claims, store: Store) -> set[str]:
    """Wait until other commands have ended with some of their runs; those of them without a new record.

    ``busy_runs`` are the runs that they train, with the records of before; those that they have ended with are removed.
    """
    while not (ended_ids := claims.take(busy_runs)):
        stop.obey()
        time.sleep(1)
    untouched = unchanged(ended_ids, busy_runs, store)
    for run_id in ended_ids:
        del busy_runs[run_id]
    return untouched


def unchanged(run_ids: Collection[str], earlier_records: Mapping[str, Record | None], store: Store) -> set[str]:
    """Those of the runs whose stored record is that of before."""
    return {run_id for run_id in run_ids if store.read(run_id) == earlier_records[run_id]}


def tasks(curves: list[Curve], run_ids: Collection[str], dataset: data.Dataset, engine: Engine) -> list[Task]:
    """These runs of the curves as tasks."""
    runs_of_curves = [(curve, [spec for spec in curve.specs if spec.id in run_ids]) for curve in joined(curves)]
    tuned = {spec.id: curve.tuned for curve in curves if curve.tuned for spec in curve.specs}
    return [
        replace(task, tuned={spec.id: tuned[spec.id] for spec in task.specs if spec.id in tuned})
        for curve, runs in runs_of_curves
        if runs
        for task in divide(curve, runs, dataset, engine)
    ]


def joined(curves: list[Curve]) -> list[Curve]:
    """The curves, those that differ in their learning rate alone as one: a group of lanes may have several rates."""
    by_setting: dict[str, Curve] = {}
    for curve in curves:
        setting = laneless(curve.specs[0]).id
        if earlier := by_setting.get(setting):
            curve = replace(earlier, specs=(*earlier.specs, *curve.specs))
        by_setting[setting] = curve
    return list(by_setting.values())


def divide(curve: Curve, runs: list[RunSpec], dataset: data.Dataset, engine: Engine) -> list[Task]:
    """The runs of a curve as tasks; runs that share epochs stay together.

    What depends on their number depends on the whole curve, so that a resumed command gives the numbers of an
    uninterrupted one.
    """
    worth = worth_compiling(curve, dataset)
    compile = worth and machine(engine).compiler if engine.compile is None else engine.compile
    lanes = engine.lanes or choose_lanes(curve, dataset, engine, compile)
    if not shared_epochs(curve.method.stages(curve.specs[0].epochs)):
        # Cut from the whole curve: the groups of a resumed command are those of its checkpoints.
        missing = {spec.id for spec in runs}
        groups = [[spec for spec in chunk if spec.id in missing] for chunk in chunks(list(curve.specs), lanes)]
    elif lanes > 1:
        groups = [runs]
    else:
        groups = [list(family) for _, family in itertools.groupby(runs, key=lambda spec: spec.seed)]
    return [Task(curve.method, tuple(group), lanes, compile) for group in groups if group]


def choose_lanes(curve: Curve, dataset: data.Dataset, engine: Engine, compile: bool) -> int:
    """How many runs to train at once.

    On a CPU one: a compiled step of one lane already is little more than its matrix products, whose operands then
    stay in the cache. Only without the compiler, where a step of a small network is mostly overhead, eight lanes pay,
    and not for convolutions, which vmap turns into grouped ones at two to four times the cost. On CUDA as many as
    fit into half of the free memory, estimated at the factors, momentum, gradients and activations of a lane.
    Networks with dropout go alone: their random numbers would depend on the group.
    """
    spec, runs = curve.specs[0], len(curve.specs)
    network = models.build_for(spec, dataset)
    if any(map(has_dropout, network.modules())):
        return 1
    if engine.device.type == "cpu":
        slow = any(isinstance(layer, nn.modules.conv._ConvNd | nn.RNNBase) for layer in network.modules())
        return 1 if compile or slow else min(8, runs)
    weights = {name: value.detach() for name, value in prunable(network).items()}
    space = curve.method.stages(spec.epochs)[0].parametrization
    copies = 4 * space.parts * sum(value.numel() * value.element_size() for value in weights.values())
    activations = 64 * spec.batch_size * math.prod(dataset.input_shape) * 4
    return max(1, min(runs, 64, int(machine(engine).memory / 2 / (copies + activations))))


def choose_threads(requests: list[Request], dataset: data.Dataset, engine: Engine) -> int:
    """CPU threads of all processes together: those of the engine, or one a process where the steps are small.

    Threads wait for each other after every operation, and where that takes microseconds they lose more than they gain.
    Networks and batches alone decide, not a measurement, so that one command has the same numbers every time.
    """
    specs = [bare_spec(request.method, request.settings) for request in requests]
    largest = max(specs, key=lambda spec: spec.batch_size)  # they have one network
    small = engine.device.type == "cpu" and takes_small_steps(largest, dataset)
    return engine.jobs if small else engine.threads


def takes_small_steps(spec: RunSpec, dataset: data.Dataset) -> bool:
    """Whether a forward pass of a batch is few multiplications, in Linear layers alone: convolutions gain sooner."""
    network = models.build_for(spec, dataset)
    weighted = [layer for layer in network.modules() if any(value.ndim > 1 for value in layer.parameters(False))]
    if not all(isinstance(layer, nn.Linear) for layer in weighted):
        return False
    return spec.batch_size * macs(network, dataset.input_shape)[0] <= SMALL_STEP


def has_dropout(layer: nn.Module) -> bool:
    """Whether a layer draws random numbers in every pass; attention and RNN layers may, too."""
    if isinstance(layer, nn.MultiheadAttention | nn.RNNBase):
        return layer.dropout > 0
    return isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0


def worth_compiling(curve: Curve, dataset: data.Dataset) -> bool:
    """Whether the steps of a curve repay the compiler's start."""
    spec = curve.specs[0]
    steps = spec.epochs * loop.steps_in_epoch(len(dataset.train), spec.batch_size)
    return steps * len(curve.specs) >= COMPILE_STEPS
