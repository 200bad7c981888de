"""Who trains: this process, or several worker processes of this machine, with one way of making records."""

import ctypes
import datetime
import functools
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.multiprocessing

from dwfbench import assessment, data, plugins, training
from dwfbench.checkpoints import Checkpoints, stop
from dwfbench.errors import UsageError
from dwfbench.group import Trained
from dwfbench.method import Method
from dwfbench.spec import RunSpec


@dataclass(frozen=True)
class Engine:
    """Where and how to train: nothing here changes a result beyond rounding.

    ``threads`` are shared by ``jobs`` processes. The history has a row every ``eval_every`` epochs. Training under way
    is kept in the folder ``checkpoints`` every ``checkpoint_minutes``, and when the process is asked to stop.
    """

    device: torch.device
    threads: int
    lanes: int | None = None  # None: chosen by ``choose_lanes``
    compile: bool | None = None  # None: chosen by ``worth_compiling``
    jobs: int = 1
    eval_every: int = 1
    checkpoints: Path | None = None
    checkpoint_minutes: float = 10.0
    save_model: bool = False
    test: bool = True  # whether the test set is looked at; tuning does not
    argv: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """Runs of one curve that one process trains, ``lanes`` at once."""

    method: Method
    specs: tuple[RunSpec, ...]
    lanes: int
    compile: bool
    tuned: Mapping[str, Any] | None = None  # how the settings were chosen, for the provenance


@dataclass(frozen=True)
class Result:
    """A run as it is stored: its record, its history, and its sparse state dict unless it failed.

    ``outdated`` names the checkpoints that are of no more use once it is stored.
    """

    record: dict[str, Any]
    history: list[dict]
    state: dict[str, torch.Tensor] | None
    outdated: tuple[str, ...] = ()


class Progress(Protocol):
    """What is told of the progress; ``dwfbench.progress`` shows it."""

    def curve(self, label: str, runs: int, pending: int, epochs: int) -> None: ...
    def epoch(self, label: str, lanes: list[Trained], epochs: int) -> None: ...
    def run(self, record: Mapping[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...


class Worker:
    """Trains tasks in this process, one after the other; the step of a curve is compiled once."""

    def __init__(self, dataset: data.Dataset, engine: Engine):
        self.dataset, self.engine = dataset, engine
        self.provenance = {
            **assessment.environment(engine.device, engine.threads // engine.jobs),
            "argv": list(engine.argv),
            "data_checksum": dataset.checksum,
        }
        self.trainers: dict[tuple, training.Trainer] = {}
        self.compiler_failed = False

    def train(self, task: Task, progress: Progress) -> Iterator[Result]:
        """The results of a task's runs, failures included, each as soon as it is there."""
        started, left, lanes = now(), list(task.specs), task.lanes
        label = task.method.label()
        while left:
            stop.obey()
            compile = task.compile and not self.compiler_failed
            try:
                trainer = self.trainer(task, compile, progress)
                for trained in trainer.train(left, lanes, functools.partial(progress.epoch, label)):
                    clock = time.perf_counter()
                    results, state = assessment.assess(trained, task.method, self.dataset, self.engine.test)
                    trained.seconds += time.perf_counter() - clock
                    left.remove(trained.spec)
                    yield self.result(trained, task, results, state, compile, started)
                continue
            except UsageError:
                raise
            except Exception as error:  # dealt with below, where the memory that its frames hold is free again
                reason, kind = first_line(error), type(error).__name__
                memory = isinstance(error, torch.OutOfMemoryError)
            self.trainers.clear()
            if compile and self.engine.compile is None and not memory:
                self.compiler_failed = True
                progress.note(f"The compiled step failed ({reason}); training without the compiler.")
            elif lanes > 1 and len(left) > 1:
                lanes = min(lanes, len(left)) // 2
                progress.note(f"A group of runs failed ({reason}); trying {lanes} at once.")
            else:
                failed = Trained(left.pop(0))
                results = {"status": "failed", "error": f"{kind}: {reason}"}
                yield self.result(failed, task, results, None, compile, started)

    def trainer(self, task: Task, compile: bool, progress: Progress) -> training.Trainer:
        """The curve's trainer; that of the curve before is dropped."""
        engine = self.engine
        first = replace(task.specs[0], seed=0, strength=None, compression=None)
        key = (first.id, compile)
        if key not in self.trainers:
            self.trainers.clear()
            folder, checkpoints = engine.checkpoints, None
            if folder is not None:
                checkpoints = Checkpoints(folder, engine.checkpoint_minutes, progress.note)
            self.trainers[key] = training.Trainer(
                first,
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
        one = trained.spec
        steps = one.epochs * training.steps_in_epoch(len(self.dataset.train), one.batch_size)
        record = {
            **assessment.describe(one, task.method),
            **results,
            "extra_passes": task.method.extra_passes(steps),
            "seconds": trained.seconds,
            "overhead_seconds": trained.overhead_seconds,
            "peak_memory_bytes": assessment.peak_memory(self.engine.device),
            "provenance": {
                **self.provenance,
                "versions": self.provenance["versions"] | self.plugin_versions(trained.spec),
                "lanes": trained.lanes,
                "precision": trained.spec.precision,
                "compiled": compiled,
                "tuned": task.tuned,
                "started": started,
                "ended": now(),
            },
        }
        return Result(record, trained.history, state, trained.outdated)

    def plugin_versions(self, spec: RunSpec) -> dict[str, str]:
        """The packages that a run's method, model and data set come from, other than dwfbench: with versions."""
        return plugins.versions({"method": spec.method, "model": spec.model, "data set": spec.dataset})


# ---------------------------------------------------------------- several processes


class Silent:
    """The progress of a worker process, whose results alone are told; its notes come with them."""

    def __init__(self):
        self.notes: list[str] = []

    def epoch(self, label: str, lanes: list[Trained], epochs: int) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


def train(tasks: list[Task], dataset: data.Dataset, engine: Engine, progress: Progress) -> Iterator[Result]:
    """The results of all tasks, from ``engine.jobs`` processes, as they come.

    A process that dies (killed for its memory, a crash in a library) takes no other task with it: what was under
    way or waiting is trained in fresh processes, one task each, and what kills its process again is recorded as
    failed.
    """
    lost = []
    for task, results, notes in run_all(tasks, engine.jobs, dataset, engine):
        if results is None:
            lost.append(task)
            continue
        for note in notes:
            progress.note(note)
        yield from results
    if lost:
        progress.note("A worker process died; what it left is tried again, each task in a process of its own.")
    for task in lost:
        for _, results, _ in run_all([task], 1, dataset, engine):
            yield from results or failures(task, dataset, engine)


def run_all(
    tasks: list[Task], jobs: int, dataset: data.Dataset, engine: Engine
) -> Iterator[tuple[Task, list[Result] | None, list[str]]]:
    """Each task with its results and notes; None for results that died with their process."""
    context = torch.multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
    here = dataset.to("cpu")
    pool = ProcessPoolExecutor(
        min(jobs, len(tasks)), context, initializer=begin, initargs=(here, engine, plugins.files())
    )
    try:
        futures = {pool.submit(perform, task): task for task in tasks}
        for future in completed(futures):
            try:
                results, notes = future.result()
            except BrokenProcessPool:
                results, notes = None, []
            yield futures[future], results, notes
        pool.shutdown()
    except BaseException:  # an interrupt among them: nothing more is wanted from any process
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise


def completed(futures: Iterable[Future]) -> Iterator[Future]:
    """Futures as they complete; meanwhile this process looks whether it was asked to stop."""
    left = set(futures)
    while left:
        stop.obey()
        done, left = wait(left, timeout=0.2, return_when=FIRST_COMPLETED)
        yield from done


def begin(dataset: data.Dataset, engine: Engine, files: list[plugins.File]) -> None:
    """What a worker process does first."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts all; the first process decides
    if engine.checkpoints is not None:
        signal.signal(signal.SIGTERM, stop.ask)
    threading.Thread(target=follow_parent, daemon=True).start()
    prepare_process(engine.threads // engine.jobs)
    for file in files:  # methods and models from files are known by these processes too
        plugins.take(file)
    _worker = Worker(dataset.to(engine.device), engine)


def follow_parent() -> None:
    """End with the process that started this one, even when it was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)


def perform(task: Task) -> tuple[list[Result], list[str]]:
    listener = Silent()
    return list(_worker.train(task, listener)), listener.notes


def failures(task: Task, dataset: data.Dataset, engine: Engine) -> list[Result]:
    """Records of runs whose process died twice."""
    worker = Worker(dataset, engine)
    what = {"status": "failed", "error": "the worker process died twice, perhaps for want of memory; try fewer --jobs"}
    ended = [Trained(one) for one in task.specs]
    return [worker.result(trained, task, what, None, task.compile, now()) for trained in ended]


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


# ---------------------------------------------------------------- small things


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
