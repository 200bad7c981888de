"""Groups of runs as tasks of a Ray cluster, which places, retries and cancels them; this process writes the results.

Workers need the same dwfbench and torch, and no shared disk: the data go to every node once, through Ray's object
store, and an actor on this machine, the desk, takes their progress and keeps their checkpoints in the results folder.
Ray is an extra: ``pip install "dwfbench[ray]"``.
"""

import functools
import hashlib
import itertools
import math
import pickle
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dwfbench.base import plugins
from dwfbench.base.errors import UsageError, first_line, reason
from dwfbench.base.foreign import contained
from dwfbench.data import dataset as data
from dwfbench.execution.listener import EVENTS, Progress, Teller
from dwfbench.execution.nodes import on_workers, refuse_others, versions
from dwfbench.execution.worker import (
    GRACE,
    Engine,
    Outcome,
    Result,
    Task,
    Unfinished,
    Worker,
    begin,
    patience,
    timed_out,
)
from dwfbench.training.checkpoint import Folder, Identity, stop

RETRIES = 3
"""How often a group is tried again whose process or node has died; then its runs are recorded as failed."""

POLL = 0.2
"""Seconds between two looks at what has come."""


# ---------------------------------------------------------------- the driver


def outcomes(tasks: list[Task], dataset: data.Dataset, engine: Engine, progress: Progress) -> Iterator[Outcome]:
    """What became of the tasks' runs, from the workers of the cluster.

    What a group leaves whose process or node dies is tried again on another, from its last checkpoint; what takes too
    long is not. Raises UsageError for a worker of another version, which may join at any time.
    """
    if not tasks:
        return
    desk, cluster = desk_of(engine.checkpoints), engine.cluster
    assert cluster is not None
    remote = on_workers(perform, num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=0)
    send = functools.partial(remote.remote, ray.put(Kit.of(dataset, engine)), desk)
    orders = [Order(task, send, patience(engine)) for task in tasks]
    try:
        while not stop.asked and unfinished(orders):
            yield from heard(orders, desk, engine, progress)
        for order in unfinished(orders):
            ray.cancel(order.ref)  # as an interrupt does: the workers end after their step, with a checkpoint
        deadline = time.monotonic() + GRACE
        while unfinished(orders) and time.monotonic() < deadline:
            yield from (outcome for outcome in heard(orders, desk, engine, progress) if isinstance(outcome, Result))
        stop.obey()
    finally:  # after an interrupt or an error: nothing more is wanted
        if unfinished(orders) and not stop.asked:
            for order in unfinished(orders):
                ray.cancel(order.ref)
            ray.wait([order.ref for order in unfinished(orders)], num_returns=len(unfinished(orders)), timeout=GRACE)
        for order in unfinished(orders):
            ray.cancel(order.ref, force=True)


class Order:
    """A task at the cluster: ``task`` is what is left of it, ``ref`` the worker's end, None once that was there.

    A run may take ``patience`` seconds. ``late``: it was asked to stop since that was over.
    """

    numbers = itertools.count()  # of all orders of this process, whose desks may have news of earlier ones

    def __init__(self, task: Task, send: Callable, patience: float):
        self.task, self.send, self.patience, self.number = task, send, patience, next(self.numbers)
        self.deaths, self.late, self.deadline = 0, False, math.inf
        self.ref = send(self.number, pickle.dumps(task))

    def begin(self) -> None:
        """A worker has begun with it, or with its next run."""
        self.deadline = time.monotonic() + self.patience

    def take(self, result: Result) -> Iterator[Result]:
        """A run that was told. One told twice, by a worker that was given up, counts once."""
        if any(spec.id == result.record.id for spec in self.task.specs):
            self.task = self.task.without(result.record.id)
            yield result
            self.begin()

    def hurry(self) -> None:
        """Ask the worker to stop, with a checkpoint; one that was asked before is killed."""
        ray.cancel(self.ref, force=self.late)
        self.late, self.deadline = True, time.monotonic() + min(GRACE, self.patience)

    def end(self, engine: Engine) -> Iterator[Unfinished]:
        """What the worker's end means. Raises the UsageError that it ended with."""
        ref, self.ref, self.deadline = self.ref, None, math.inf
        why = "it did not tell all of its results"
        try:
            ray.get(ref)
        except RayTaskError as error:
            if isinstance(error.cause, UsageError):
                raise error.cause from None
            self.deaths, why = RETRIES, reason(error.cause)
        except RayError as error:
            why = f"the worker process or its node died {RETRIES + 1} times ({type(error).__name__})"
        if not self.task.specs:
            return
        if self.late or self.deaths == RETRIES:
            yield Unfinished(self.task, timed_out(engine) if self.late else why)
        elif not stop.asked:
            self.deaths += 1
            self.ref = self.send(self.number, pickle.dumps(self.task))


def unfinished(orders: list[Order]) -> list[Order]:
    """The orders that are not at their end."""
    return [order for order in orders if order.ref is not None]


def heard(orders: list[Order], desk: "ray.actor.ActorHandle", engine: Engine, progress: Progress) -> Iterator[Outcome]:
    """What workers have told, and how they ended, once one has, or a moment has passed."""
    going, numbered = {order.ref: order for order in unfinished(orders)}, {order.number: order for order in orders}
    done, _ = ray.wait(list(going), num_returns=len(going), timeout=POLL)
    news: list[tuple] = ray.get(desk.news.remote())  # with all that those who are done have told
    for event, *details in news:
        if event in EVENTS:
            getattr(progress, event)(*details)
        elif (order := numbered.get(details[0])) is None:
            continue
        elif event == "began":
            order.begin()
        else:
            yield from order.take(pickle.loads(details[1]))
    for ref in done:
        yield from going[ref].end(engine)
    for order in unfinished(orders):
        if time.monotonic() > order.deadline:
            order.hurry()


class Desk:
    """An actor beside the driver: takes the workers' news and results, and keeps their checkpoints on this machine's
    disk."""

    def __init__(self, folder: Path | None):
        self.folder = Folder(folder) if folder else None
        self.events: list[tuple] = []

    def tell(self, *event: Any) -> None:
        self.events.append(event)

    def news(self) -> list[tuple]:
        """What was told since the last call."""
        news, self.events = self.events, []
        return news

    def read(self, key: str) -> bytes | None:
        return self.folder.read(key) if self.folder else None

    def write(self, key: str, content: bytes) -> None:
        if self.folder is not None:
            self.folder.write(key, content)

    def identities(self) -> dict[str, Identity]:
        return self.folder.identities() if self.folder else {}


@functools.cache
def desk_of(folder: Path | None) -> "ray.actor.ActorHandle":
    """The desk of a folder of checkpoints; on the driver's node, as it needs that disk."""
    node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": node}
    desk_class: Any = ray.remote(**options)(Desk)
    return desk_class.remote(folder.resolve() if folder else None)


# ---------------------------------------------------------------- the workers


@dataclass(frozen=True)
class Kit:
    """What all tasks of a command share. The arrays are read where Ray's object store has them, without a copy."""

    arrays: dict[str, Any]
    facts: dict[str, Any]
    engine: Engine
    files: list[plugins.File]
    versions: dict[str, str]
    checksum: str

    @classmethod
    def of(cls, dataset: data.Dataset, engine: Engine) -> "Kit":
        arrays = {f"{part}.{field.name}": getattr(getattr(dataset, part), field.name).cpu().numpy()
                  for part in ("train", "val", "test") for field in fields(data.Split)}  # fmt: skip
        arrays |= {name: getattr(dataset, name).cpu().numpy() for name in ("mean", "std")}
        facts = {name: getattr(dataset, name) for name in ("name", "classes", "checksum")}
        return cls(arrays, facts, engine, plugins.files(), versions(), checksum(arrays))

    def dataset(self) -> data.Dataset:
        """The data set again. Raises OSError when the arrays are not those that were sent."""
        if checksum(self.arrays) != self.checksum:
            raise OSError("the data came damaged from the object store")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the object store is read-only, and so are we
            tensors = {name: torch.from_numpy(array) for name, array in self.arrays.items()}
        splits: dict[str, Any] = {part: data.Split(tensors[f"{part}.images"], tensors[f"{part}.labels"])
                  for part in ("train", "val", "test")}  # fmt: skip
        return data.Dataset(**self.facts, **splits, mean=tensors["mean"], std=tensors["std"])


def checksum(arrays: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\0".encode())
        digest.update(memoryview(array).cast("B") if array.size else b"")
    return digest.hexdigest()


class DeskTeller(Teller):
    """What a worker tells, and where it keeps checkpoints: at the desk."""

    def __init__(self, desk: "ray.actor.ActorHandle"):
        self.desk = desk

    def tell(self, event: str, *details: Any) -> None:
        self.desk.tell.remote(event, *details)

    def result(self, number: int, result: Result) -> None:
        """Returns when it has arrived."""
        ray.get(self.desk.tell.remote("result", number, pickle.dumps(result)))

    def __str__(self) -> str:
        return "the results folder's checkpoints"

    def read(self, key: str) -> bytes | None:
        return self._ask(self.desk.read, key)

    def write(self, key: str, content: bytes) -> None:
        self._ask(self.desk.write, key, content)

    def identities(self) -> dict[str, Identity]:
        return self._ask(self.desk.identities)

    def _ask(self, method: Any, *args: Any) -> Any:
        """Raises OSError: the desk's own, or that it cannot be reached."""
        try:
            return ray.get(method.remote(*args))
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise OSError(first_line(error)) from None


_worker: tuple[Any, Worker] | None = None


def perform(kit: Kit, desk: "ray.actor.ActorHandle", number: int, task: bytes) -> None:
    """Train a task in this worker process, which keeps the data and the compiled step for the next one."""
    global _worker
    refuse_others(ray.util.get_node_ip_address(), versions(), kit.versions)
    stop.asked = False
    signal.signal(signal.SIGINT, stop.ask)  # so does ray.cancel
    teller = DeskTeller(desk)
    teller.tell("began", number)
    key = (kit.checksum, asdict(kit.engine))
    if _worker is None or _worker[0] != key:
        place = teller if kit.engine.checkpoints else None
        _worker = key, begin(kit.dataset(), kit.engine, kit.files, place)
    with contained():
        for result in _worker[1].train(pickle.loads(task), teller):
            teller.result(number, result)
