"""Worker processes of this machine. One that dies or hangs takes no other's work with it."""

import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import connection, parent_process
from typing import Any

import torch.multiprocessing

from dwfbench.base import plugins
from dwfbench.data import dataset as data
from dwfbench.execution.worker import GRACE, Engine, Outcome, Progress, Silent, Task, begin, timed_out
from dwfbench.training.checkpoint import stop

DIED = "the worker process died twice, perhaps for want of memory; try fewer --jobs"


def outcomes(tasks: list[Task], dataset: data.Dataset, engine: Engine, progress: Progress) -> Iterator[Outcome]:
    """What became of the tasks, from ``engine.jobs`` processes.

    What a process leaves that dies (killed for its memory, a crash in a library) is tried again at the end, with no
    other process beside it. What takes too long is not tried again.
    """
    left = []
    for task, outcome in train(tasks, engine.jobs, dataset, engine, progress):
        if outcome == DIED:
            left.append(task)
        else:
            yield task, outcome
    if left:
        progress.note("A worker process died; what it left is tried again, without others beside it.")
    yield from train(left, 1, dataset, engine, progress)


def train(tasks: list[Task], jobs: int, dataset: data.Dataset, engine: Engine, progress: Progress) -> Iterator[Outcome]:
    """What became of the tasks, each tried once."""
    waiting, here = deque(tasks), dataset.to("cpu")
    seats = [Seat(here, engine) for _ in range(min(jobs, len(tasks)))]
    try:
        while waiting or any(seat.task for seat in seats):
            for seat in seats:
                if waiting and seat.task is None:
                    seat.give(waiting.popleft())
            busy = [seat for seat in seats if seat.task]
            connection.wait([seat.pipe for seat in busy], timeout=0.2)
            stop.obey()
            for seat in busy:
                if seat.pipe.poll():
                    yield seat.take(progress)
                elif time.monotonic() > seat.deadline:
                    yield seat.end(timed_out(engine))
    finally:  # after an interrupt or an error, too: nothing more is wanted from any process
        for seat in seats:
            seat.ask_to_stop()
        try:
            deadline = time.monotonic() + GRACE
            for seat in seats:
                seat.wait(deadline)
        finally:  # a second interrupt does not wait
            for seat in seats:
                seat.kill()


class Seat:
    """A place for one worker process, which is started with its first task, and again after its death."""

    def __init__(self, dataset: data.Dataset, engine: Engine):
        self.dataset, self.engine = dataset, engine
        self.process: Any = None
        self.task: Any = None
        self.deadline = float("inf")

    def give(self, task: Task) -> None:
        """A task to train. The time that it may take includes the start of the process."""
        if self.process is None:
            context = torch.multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
            self.pipe, theirs = context.Pipe()
            args = (theirs, self.dataset, self.engine, plugins.files())
            self.process = context.Process(target=serve, args=args)
            self.process.start()
            theirs.close()  # so that the pipe ends with the process
        self.task = task
        if self.engine.timeout_minutes is not None:
            self.deadline = time.monotonic() + 60 * self.engine.timeout_minutes
        with suppress(OSError):  # a process that has died since: reading from the pipe will tell
            self.pipe.send(task)

    def take(self, progress: Progress) -> Outcome:
        """What became of the task, once the pipe has something to read. Raises what its training raised."""
        try:
            said = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            return self.end(DIED)
        task, self.task = self.task, None
        if isinstance(said, Exception):
            raise said
        results, notes = said
        for note in notes:
            progress.note(note)
        return task, results

    def end(self, why: str) -> Outcome:
        """The end of the process, which has died or takes too long."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        task, self.task, self.process = self.task, None, None
        return task, why

    def ask_to_stop(self) -> None:
        """End the process after the step under way, with a checkpoint, or at once if it has nothing to do."""
        if self.process is not None:
            self.pipe.close()  # for one that waits, the end
            if self.task is not None:
                self.process.terminate()

    def wait(self, deadline: float) -> None:
        """Give a process that was asked to stop until then for it."""
        if self.process is not None:
            self.process.join(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()


def serve(pipe: connection.Connection, dataset: data.Dataset, engine: Engine, files: list[plugins.File]) -> None:
    """A worker process: trains what comes through the pipe until that is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts all; the first process decides
    if engine.checkpoints is not None:
        signal.signal(signal.SIGTERM, stop.ask)
    threading.Thread(target=follow_parent, daemon=True).start()
    worker = begin(dataset, engine, files)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        listener = Silent()
        try:
            said: Any = (list(worker.train(task, listener)), listener.notes)
        except KeyboardInterrupt:  # asked to stop
            return
        except Exception as error:
            said = error
        try:
            pipe.send_bytes(pickle.dumps(said))  # not send(): tensors would go through shared memory
        except OSError:  # nobody waits for it any more
            return


def follow_parent() -> None:
    """End with the process that started this one, even when it was killed."""
    if (parent := parent_process()) is not None:
        parent.join()
    os._exit(1)
