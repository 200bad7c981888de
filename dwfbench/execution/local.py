"""Worker processes of this machine. One that dies or hangs takes no other's work with it."""

import math
import pickle
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import connection
from typing import Any

import torch.multiprocessing

from dwfbench.base import plugins
from dwfbench.base.errors import UsageError
from dwfbench.base.foreign import contained, told
from dwfbench.base.machine import deaf_to_interrupts, follow_parent
from dwfbench.data import dataset as data
from dwfbench.execution.listener import EVENTS, Progress, Teller
from dwfbench.execution.worker import (
    GRACE,
    Engine,
    Outcome,
    Result,
    Task,
    Unfinished,
    begin,
    patience,
    timed_out,
)
from dwfbench.training.checkpoint import stop

DIED = "the worker process died twice, perhaps for want of memory; try fewer --jobs"


def death(code: int | None) -> str:
    """Why a worker process is no more that ended with this exit code; negative: by a signal."""
    if code is None or code <= 0:
        return DIED
    return f"the worker process was ended twice by code of others, with exit code {code}"


def outcomes(tasks: list[Task], dataset: data.Dataset, engine: Engine, progress: Progress) -> Iterator[Outcome]:
    """What became of the tasks' runs, from ``engine.jobs`` processes.

    What a process leaves that dies (killed for its memory, a crash in a library) is tried again at the end, with no
    other process beside it. What takes too long is not tried again.
    """
    unfinished = []
    for outcome in train(tasks, engine.jobs, dataset, engine, progress):
        if isinstance(outcome, Unfinished) and outcome.died:
            unfinished.append(outcome.task)
        else:
            yield outcome
    if unfinished:
        progress.note("A worker process died; what it left is tried again, without others beside it.")
    yield from train(unfinished, 1, dataset, engine, progress)


def train(tasks: list[Task], jobs: int, dataset: data.Dataset, engine: Engine, progress: Progress) -> Iterator[Outcome]:
    """What became of the tasks' runs, each tried once."""
    waiting, on_cpu = deque(tasks), dataset.to("cpu")
    seats = [Seat(on_cpu, engine) for _ in range(min(jobs, len(tasks)))]
    try:
        while not stop.asked and (waiting or any(seat.task for seat in seats)):
            for seat in seats:
                if waiting and seat.task is None:
                    seat.give(waiting.popleft())
            yield from heard(seats, progress)
        for seat in seats:
            seat.ask_to_stop()
        deadline = time.monotonic() + GRACE
        while any(seat.task for seat in seats) and time.monotonic() < deadline:
            yield from (outcome for outcome in heard(seats, progress) if isinstance(outcome, Result))
        stop.obey()
    finally:  # after an interrupt or an error, too: nothing more is wanted from any process
        patient = not stop.asked  # else they had their time above, or a second interrupt came
        deadline = time.monotonic() + GRACE * patient
        for seat in seats:
            seat.ask_to_stop()
        try:
            for seat in seats:
                seat.wait(deadline)
        finally:  # a second interrupt does not wait
            for seat in seats:
                seat.end()


def heard(seats: list["Seat"], progress: Progress) -> Iterator[Outcome]:
    """What processes that train have told, once one has, or a moment has passed."""
    busy = [seat for seat in seats if seat.task]
    connection.wait([seat.pipe for seat in busy], timeout=0.2)
    for seat in busy:
        yield from seat.hear(progress)


class Seat:
    """A place for one worker process, which is started with its first task, and again after its end.

    ``task`` is what is left of the one that it trains. ``late``: it was asked to stop because that took too long.
    """

    def __init__(self, dataset: data.Dataset, engine: Engine):
        self.dataset, self.engine = dataset, engine
        self.process: Any = None
        self.task: Task | None = None
        self.late = False
        self.deadline = math.inf

    def give(self, task: Task) -> None:
        """A task to train. The time that it may take includes the start of the process."""
        if self.process is None:
            context = torch.multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
            self.pipe, worker_end = context.Pipe()
            args = (worker_end, self.dataset, self.engine, plugins.files())
            self.process = context.Process(target=serve, args=args)
            with deaf_to_interrupts():
                self.process.start()
            worker_end.close()  # so that the pipe ends with the process
        self.task, self.deadline = task, time.monotonic() + patience(self.engine)
        with suppress(OSError):  # a process that has died since: reading from the pipe will tell
            self.pipe.send(task)

    def hear(self, progress: Progress) -> Iterator[Outcome]:
        """What the process has told since the last call. Raises what its training raised."""
        while self.task is not None and self.pipe.poll():
            try:
                event, *details = pickle.loads(self.pipe.recv_bytes())
            except (EOFError, OSError):
                task, late = self.task, self.late
                self.process.join(GRACE)
                why = timed_out(self.engine) if late else death(self.process.exitcode)
                self.end()
                yield Unfinished(task, why, died=not late)
                return
            if event in EVENTS:
                getattr(progress, event)(*details)
            elif event == "result":
                (result,) = details
                self.task = self.task.without(result.record.id)
                yield result
                self.deadline = time.monotonic() + patience(self.engine)
            elif event == "error":
                raise UsageError(*details)
            elif event == "failed":
                task, self.task = self.task, None
                yield Unfinished(task, *details)
            elif self.late:  # it finished all the same, but takes no other task
                self.end()
            else:
                self.task = None
        if self.task is not None and time.monotonic() > self.deadline:
            self.hurry()

    def hurry(self) -> None:
        """Ask the process to stop, with a checkpoint; one that was asked before is killed."""
        if self.late:
            self.process.kill()
        else:
            self.process.terminate()
        self.late, self.deadline = True, time.monotonic() + min(GRACE, patience(self.engine))

    def ask_to_stop(self) -> None:
        """End the process after the step under way, with a checkpoint, if it trains."""
        if self.process is not None and self.task is not None:
            self.process.terminate()

    def wait(self, deadline: float) -> None:
        """Give a process, whose pipe ends now, until then for its own end."""
        if self.process is not None:
            self.pipe.close()
            self.process.join(max(0.0, deadline - time.monotonic()))

    def end(self) -> None:
        """The end of the process, if there still is one."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
        self.process, self.task, self.late = None, None, False


class PipeTeller(Teller):
    """What a worker process tells through its pipe: beside the calls of a listener result, done (with a task), failed
    (it comes to nothing; why) and error (of all; a sentence)."""

    def __init__(self, pipe: connection.Connection):
        self.pipe = pipe

    def tell(self, event: str, *details: Any) -> None:
        """Raises KeyboardInterrupt where nobody listens any more."""
        try:
            self.pipe.send_bytes(pickle.dumps((event, *details)))  # not send(): tensors would go through shared memory
        except OSError:
            raise KeyboardInterrupt from None


def serve(pipe: connection.Connection, dataset: data.Dataset, engine: Engine, files: list[plugins.File]) -> None:
    """A worker process: trains what comes through the pipe until that is closed, or the process is asked to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts all; the first process decides
    if engine.checkpoints is not None:
        signal.signal(signal.SIGTERM, stop.ask)
    follow_parent()
    worker, teller = None, PipeTeller(pipe)
    # A pipe that is closed with messages unread, as by a command that is killed, is reset, and does not just end.
    with suppress(EOFError, ConnectionError, KeyboardInterrupt):
        while True:
            content = pipe.recv_bytes()
            try:
                with contained():
                    worker = worker or begin(dataset, engine, files)
                    for result in worker.train(pickle.loads(content), teller):
                        teller.tell("result", result)
                teller.tell("done")
            except UsageError as error:
                teller.tell("error", str(error))
            except Exception as error:
                teller.tell("failed", told(error))
