"""A worker: trains tasks in its process and makes their records, in whichever process that is.

`local` runs workers in other processes of this machine, `ray` on the machines of a Ray cluster.
"""

import ctypes
import datetime
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch

from dwfbench.base import plugins
from dwfbench.base.errors import UsageError
from dwfbench.base.foreign import contained, told
from dwfbench.data import dataset as data
from dwfbench.execution.listener import Listener, Progress
from dwfbench.methods.contract import Method
from dwfbench.runs.history import plain
from dwfbench.runs.record import Provenance, Record, Tuned
from dwfbench.runs.spec import RunSpec
from dwfbench.training import assess, loop
from dwfbench.training import compile as compiler
from dwfbench.training.checkpoint import Checkpoints, Folder, Place, stop
from dwfbench.training.group import Trained
from dwfbench.training.lanes import laneless

GRACE = 60.0
"""Seconds that processes asked to stop have for the end of a step and a checkpoint."""


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster: its address, and what a group of lanes takes of it. Several groups share a GPU at ``gpus`` < 1."""

    address: str
    cpus: int
    gpus: float


@dataclass(frozen=True)
class Engine:
    """Where and how to train: nothing here changes a result beyond rounding.

    ``threads`` are shared by ``jobs`` processes; with a ``cluster``, they and ``device`` are those of one group. The
    history has a row every ``eval_every`` epochs. Training under way is kept in the folder ``checkpoints`` every
    ``checkpoint_minutes``, and when the process is asked to stop. A group that trains for more than
    ``timeout_minutes`` without finishing a run is ended, and what it left recorded as failed.
    """

    device: torch.device
    threads: int
    lanes: int | None = None  # None: chosen by ``choose_lanes``
    compile: bool | None = None  # None: chosen by ``worth_compiling``
    jobs: int = 1
    eval_every: int = 1
    checkpoints: Path | None = None
    checkpoint_minutes: float = 10.0
    timeout_minutes: float | None = None
    cluster: Cluster | None = None
    save_model: bool = False
    test: bool = True  # whether the test set is looked at; tuning does not
    argv: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    note: str | None = None

    @property
    def here(self) -> torch.device:
        """Where this process, which may only send tasks to others, needs the data."""
        return torch.device("cpu") if self.cluster else self.device


@dataclass(frozen=True)
class Machine:
    """What decides how a group is trained: whether steps can be compiled, and the device's free memory in bytes.

    ``memory`` is what a group may count on; 0 on a CPU, where nothing is decided by it.
    """

    compiler: bool
    memory: int

    @classmethod
    def of(cls, device: torch.device) -> "Machine":
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
        return cls(compiler.available(device), free)


@dataclass(frozen=True)
class Task:
    """Runs of one curve that one process trains, ``lanes`` at once."""

    method: Method
    specs: tuple[RunSpec, ...]
    lanes: int
    compile: bool
    tuned: Mapping[str, Tuned] = field(default_factory=dict)  # how a run's settings were chosen, by its id

    def without(self, run_id: str) -> "Task":
        """What is left of the task once that run is finished."""
        return replace(self, specs=tuple(spec for spec in self.specs if spec.id != run_id))


@dataclass(frozen=True)
class Result:
    """A run as it is stored: its record, its history, and its sparse state dict if that is wanted and it is ok.

    The state lies on the CPU: who stores it, another process or a cluster's driver, may have no such device.
    ``outdated`` names the checkpoints that are of no more use once it is stored.
    """

    record: Record
    history: list[dict]
    state: dict[str, torch.Tensor] | None
    outdated: tuple[str, ...] = ()


class Unfinished(NamedTuple):
    """What is left of a task that came to nothing, and why: the error of its runs. ``died``: with its process."""

    task: Task
    why: str
    died: bool = False


Outcome = Result | Unfinished
"""What became of a run, or of the runs that a task left."""

Outcomes = Callable[[list[Task], data.Dataset, Engine, Progress], Iterator[Outcome]]
"""The protocol of all engines: trains tasks, wherever that is, and tells what became of each run as soon as it ended.

A task whose process dies, or that finishes nothing for ``timeout_minutes``, takes no other with it, and none of its own
runs that are finished. A UsageError within a task ends them all, and so do ``stop.asked``, looked at at least between
steps, and whoever closes the iterator: processes elsewhere are then asked to stop, have GRACE for a checkpoint, and are
killed. What they finish after ``stop.asked`` is still told.
"""


class Worker:
    """Trains tasks in this process, one after the other; the step of a curve is compiled once.

    Checkpoints are kept in ``place``, or else in the engine's folder, if it has one.
    """

    def __init__(self, dataset: data.Dataset, engine: Engine, place: Place | None = None):
        self.dataset, self.engine = dataset, engine
        self.place = Folder(engine.checkpoints) if place is None and engine.checkpoints else place
        self.provenance = {
            **assess.environment(engine.device, engine.threads // engine.jobs),
            **{"argv": list(engine.argv), "tags": list(engine.tags), "note": engine.note},
            "data_checksum": dataset.checksum,
        }
        self.trainers: dict[tuple, loop.Trainer] = {}
        self.compiler_failed = False
        self.notes_told: set[str] = set()

    def train(self, task: Task, listener: Listener) -> Iterator[Result]:
        """The results of a task's runs, failures included, each as soon as it is there."""
        started, pending, lanes = now(), list(task.specs), task.lanes
        rows_told = {spec.id: 0 for spec in pending}  # by history; epochs that runs share are known after them

        def on_epoch(group: list[Trained], epochs: int) -> None:
            rows = {lane.spec.id: [plain(row) for row in lane.history[rows_told[lane.spec.id] :]]
                    for lane in group if lane.spec.id in rows_told}  # fmt: skip
            rows_told.update({run_id: rows_told[run_id] + len(new) for run_id, new in rows.items()})
            listener.epoch(task.method.label(), len(group), plain(group[len(group) // 2].history[-1]), epochs, rows)

        while pending:
            stop.obey()
            compile = task.compile and not self.compiler_failed
            try:
                with contained():
                    trainer = self.trainer(task, compile, listener)
                    for trained in trainer.train(pending, lanes, on_epoch):
                        clock = time.perf_counter()
                        results, state = assess.assess(trained, task.method, self.dataset, self.engine.test)
                        trained.seconds += time.perf_counter() - clock
                        for note in trained.notes:
                            self.say(f"{task.method.label()}: {note}.", listener)
                        pending.remove(trained.spec)
                        yield self.result(trained, task, results, state, compile, started)
                continue
            except UsageError:
                raise
            except Exception as error:  # dealt with below, where the memory that its frames hold is free again
                why = told(error)
                memory = isinstance(error, (torch.OutOfMemoryError, MemoryError))
            self.trainers.clear()
            if compile and self.engine.compile is None and not memory:
                self.compiler_failed = True
                listener.note(f"The compiled step failed ({why}); training without the compiler.")
            elif lanes > 1:
                lanes = max(1, min(lanes, len(pending)) // 2)
                listener.note(f"A group of runs failed ({why}); trying {lanes} at once.")
            else:
                failed = Trained(pending.pop(0))
                results = {"status": "failed", "error": why}
                yield self.result(failed, task, results, None, compile, started)

    def say(self, text: str, listener: Listener) -> None:
        """A note that is told once."""
        if text not in self.notes_told:
            self.notes_told.add(text)
            listener.note(text)

    def trainer(self, task: Task, compile: bool, listener: Listener) -> loop.Trainer:
        """The curve's trainer; that of the curve before is dropped."""
        engine = self.engine
        shared = laneless(task.specs[0])
        key = (shared.id, compile)
        if key not in self.trainers:
            self.trainers.clear()
            if compile:
                listener.compiling(task.method.label())
            checkpoints = None
            if self.place is not None:
                checkpoints = Checkpoints(self.place, engine.checkpoint_minutes, listener.note)
            self.trainers[key] = loop.Trainer(
                shared,
                task.method,
                self.dataset,
                compile=compile,
                eval_every=engine.eval_every,
                checkpoints=checkpoints,
            )
            if engine.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(engine.device)
        return self.trainers[key]

    def result(self, trained: Trained, task: Task, results, state, compiled: bool, started: str) -> Result:
        spec = trained.spec
        steps = spec.epochs * loop.steps_in_epoch(len(self.dataset.train), spec.batch_size)
        plugged_in = plugins.versions({"method": spec.method, "model": spec.model, "data set": spec.dataset})
        provenance = Provenance(
            **{**self.provenance, "versions": self.provenance["versions"] | plugged_in},
            lanes=trained.lanes,
            precision=spec.precision,
            compiled=compiled,
            tuned=task.tuned.get(spec.id),
            started=started,
            ended=now(),
        )
        record = Record(
            **assess.describe(spec, task.method),
            **results,
            extra_passes=task.method.extra_passes(steps),
            seconds=trained.seconds,
            overhead_seconds=trained.overhead_seconds,
            peak_memory_bytes=assess.peak_memory(self.engine.device),
            provenance=provenance,
        )
        weights = None
        if state is not None and self.engine.save_model:
            weights = {name: value.cpu() for name, value in state.items()}
        return Result(record, trained.history, weights, trained.outdated)


def failures(task: Task, dataset: data.Dataset, engine: Engine, error: str) -> list[Result]:
    """Records of the runs of a task that came to nothing elsewhere."""
    worker = Worker(dataset, replace(engine, device=engine.here))  # a cluster's device may be none of this machine
    results = {"status": "failed", "error": error}
    return [worker.result(Trained(spec), task, results, None, task.compile, now()) for spec in task.specs]


def patience(engine: Engine) -> float:
    """Seconds that a process has to finish its next run."""
    return math.inf if engine.timeout_minutes is None else 60 * engine.timeout_minutes


def timed_out(engine: Engine) -> str:
    return f"timed out: the group trained for more than the {engine.timeout_minutes:g} minutes of --timeout-minutes"


def begin(dataset: data.Dataset, engine: Engine, files: list[plugins.File], place: Place | None = None) -> Worker:
    """The worker of a process of its own, which knows the methods and models of ``files``, too."""
    prepare_process(engine.threads // engine.jobs)
    for file in files:
        plugins.take(file)
    return Worker(dataset.to(engine.device), engine, place)


def prepare_process(threads: int) -> None:
    """Threads, number formats and memory of this process."""
    torch.set_num_threads(threads)
    keep_memory()
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    torch.set_flush_denormal(True)  # weights on their way to zero become denormal, which is slow
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it misses CUDA where there is none


def keep_memory() -> None:
    """Let glibc keep what is freed for the next step instead of giving it back to the system after every one.

    Faulting it in again makes a step of LeNet-5 half as slow again (benchmarks/README.md). Elsewhere nothing happens.
    """
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    try:
        allocator = ctypes.CDLL(None)
        allocator.mallopt(trim_threshold, 2**31 - 1)
        allocator.mallopt(mmap_threshold, 2**25)  # the most that glibc takes
    except (AttributeError, OSError):  # another C library
        pass


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
