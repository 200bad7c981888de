"""Groups of runs as tasks of a Ray cluster, which places, retries and cancels them; this process writes the results.

Workers need the same dwfbench and torch, and no shared disk: the data go to every node once, through Ray's object
store, and an actor on this machine, the desk, takes their progress and keeps their checkpoints in the results folder.
Ray is an extra: ``pip install "dwfbench[ray]"``.
"""

import functools
import hashlib
import logging
import math
import os
import pickle
import signal
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import metadata, util
from pathlib import Path
from typing import Any

import torch

import dwfbench
from dwfbench.base import plugins
from dwfbench.base.errors import UsageError, first_line, reason
from dwfbench.base.machine import SLEEPING
from dwfbench.data import dataset as data
from dwfbench.execution.worker import (
    GRACE,
    Cluster,
    Engine,
    Machine,
    Outcome,
    Progress,
    Result,
    Task,
    Worker,
    begin,
    timed_out,
)
from dwfbench.training.checkpoint import Folder, stop

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise UsageError('--ray needs Ray; install it with: pip install "dwfbench[ray]"') from None

RETRIES = 3
"""How often a group is tried again whose process or node has died; then its runs are recorded as failed."""

POLL = 0.2
"""Seconds between two looks at what has come."""


# ---------------------------------------------------------------- connecting


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: what it has, and the versions that a worker there would use, None where absent."""

    name: str
    cpus: float
    gpus: float
    versions: dict[str, str | None]


def connect(address: str, cpus: int | None, gpus: float | None, device: str) -> Cluster:
    """Join the cluster at ``auto`` or ``host:port``; what a group takes of it. ``device`` is auto, cpu or cuda.

    Raises UsageError where no cluster answers, where no node has room for a group, and where a node has other
    versions of dwfbench or torch than this process: their numbers would not be of one experiment.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"With --ray, --device must be auto, cpu or cuda, not {device!r}: the cluster chooses which.")
    join(address)
    found = nodes()
    if gpus is None:
        gpus = float(device != "cpu" and any(node.gpus for node in found))
    if not 0 <= gpus <= 1:
        raise UsageError(f"--gpus-per-group must be between 0 and 1, not {gpus:g}: a group trains on one GPU.")
    if (device == "cuda" and not gpus) or (device == "cpu" and gpus):
        raise UsageError(f"--device {device} and {gpus:g} GPUs per group do not fit together.")
    share = Cluster(address, cpus or 1, gpus)
    usable = [node for node in found if node.cpus >= share.cpus and node.gpus >= share.gpus]
    if not usable:
        raise UsageError(
            f"No node of the Ray cluster has the {share.cpus} CPUs and {share.gpus:g} GPUs of a group; "
            "choose others with --cpus-per-group and --gpus-per-group."
        )
    for node in usable:
        refuse_others(node.name, node.versions, versions())
    return share


def join(address: str) -> None:
    """Make this process a driver of the cluster, unless it is one. Raises UsageError where none answers."""
    if "://" in address:
        raise UsageError(
            f"--ray takes auto, or host:port of a cluster that this machine belongs to, not {address!r}; "
            "from elsewhere, submit the command as a Ray job."
        )
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if address != "auto":
            knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (RayError, OSError, RuntimeError, ValueError, AssertionError) as error:
        raise UsageError(
            f"No Ray cluster answers at {address!r} ({first_line(error)}); start one with `ray start --head`, "
            "and join it on every other machine with `ray start --address`."
        ) from None


def knock(address: str) -> None:
    """Raises OSError or ValueError where nothing listens, which takes Ray minutes to find."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError("it is not host:port")
    socket.create_connection((host, int(port)), timeout=10).close()


def nodes() -> list[Node]:
    """The live machines of the joined cluster, by name."""

    def told() -> dict[str, str | None]:  # sent by value: a worker without dwfbench can run it
        from importlib import metadata

        try:
            metadata.version("dwfbench")
            from dwfbench.execution.ray import versions
        except (metadata.PackageNotFoundError, ImportError):
            return {"dwfbench": None}
        return dict(versions())

    alive = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeManagerAddress"])
    remote = on_workers(told, num_cpus=0)
    refs = [remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
            for node in alive]  # fmt: skip
    return [
        Node(node["NodeManagerHostname"], resources.get("CPU", 0), resources.get("GPU", 0), told)
        for node, resources, told in zip(alive, (node["Resources"] for node in alive), ray.get(refs), strict=True)
    ]


@functools.cache
def versions() -> dict[str, str]:
    """What must be the same everywhere: torch but for its build, dwfbench with a checksum of its sources."""
    digest = hashlib.sha256()
    for folder in source_folders():
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return {
        "dwfbench": f"{dwfbench.__version__} (sources {digest.hexdigest()[:12]})",
        "torch": metadata.version("torch").partition("+")[0],
    }


def source_folders() -> list[Path]:
    """The folders of the packages that dwfbench's own entry points name: its own, and that of the other methods."""
    names = {point.module.partition(".")[0] for point in metadata.distribution("dwfbench").entry_points}
    specs = [util.find_spec(name) for name in sorted(names)]
    return [Path(folder) for spec in specs if spec for folder in spec.submodule_search_locations or ()]


def refuse_others(node: str, theirs: Mapping[str, str | None], ours: Mapping[str, str]) -> None:
    """Raises UsageError for other versions."""
    for name, version in ours.items():
        if theirs.get(name) != version:
            raise UsageError(
                f"The node {node} has {name} {theirs.get(name) or 'not installed'}, and this process {version}; "
                "install the same version on all."
            )


@functools.cache
def machine(cluster: Cluster) -> Machine:
    """What a group finds on the cluster: asked of one worker."""

    def told() -> Machine:
        found = Machine.of(torch.device("cuda" if cluster.gpus else "cpu"))
        return replace(found, memory=int(found.memory * cluster.gpus))

    return ray.get(on_workers(told, num_cpus=cluster.cpus, num_gpus=cluster.gpus).remote())


def on_workers(function: Callable, **options: Any) -> Any:
    """A function for workers, whose threads wait for each other as those of this process do."""
    waiting = {name: os.environ[name] for name in SLEEPING if name in os.environ}
    return ray.remote(runtime_env={"env_vars": waiting}, **options)(function)


# ---------------------------------------------------------------- the driver


def outcomes(tasks: list[Task], dataset: data.Dataset, engine: Engine, progress: Progress) -> Iterator[Outcome]:
    """What became of the tasks, from the workers of the cluster.

    A group whose process or node dies is tried again on another, from its last checkpoint; what takes too long is
    not. Raises UsageError for a worker of another version, which may join at any time.
    """
    if not tasks:
        return
    desk, cluster = desk_of(engine.checkpoints), engine.cluster
    assert cluster is not None
    kit = ray.put(Kit.of(dataset, engine))
    remote = on_workers(perform, num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=RETRIES)
    left = {remote.remote(kit, desk, number, pickle.dumps(task)): number for number, task in enumerate(tasks)}
    deadlines: dict[int, float] = {}
    try:
        while left:
            done, _ = ray.wait(list(left), num_returns=len(left), timeout=POLL)
            news: list[tuple] = ray.get(desk.news.remote())
            for kind, *what in news:
                if kind == "began":
                    if engine.timeout_minutes is not None:
                        deadlines[what[0]] = time.monotonic() + 60 * engine.timeout_minutes
                else:
                    getattr(progress, kind)(*what)
            for ref in done:
                yield tasks[left.pop(ref)], outcome(ref)
            stop.obey()
            for ref, number in list(left.items()):
                if time.monotonic() > deadlines.get(number, math.inf):
                    ray.cancel(ref, force=True)
                    del left[ref]
                    yield tasks[number], timed_out(engine)
    finally:  # after an interrupt or an error: nothing more is wanted
        for ref in left:
            ray.cancel(ref)  # as an interrupt does: the workers end after their step, with a checkpoint
        if left:
            _, going_on = ray.wait(list(left), num_returns=len(left), timeout=GRACE)
            for ref in going_on:
                ray.cancel(ref, force=True)


def outcome(ref: "ray.ObjectRef") -> list[Result] | str:
    """What became of a task that has ended. Raises the UsageError that it ended with."""
    try:
        return ray.get(ref)
    except RayTaskError as error:
        if isinstance(error.cause, UsageError):
            raise error.cause from None
        return reason(error.cause)
    except RayError as error:
        return f"the worker process or its node died {RETRIES + 1} times ({type(error).__name__})"


class Desk:
    """An actor beside the driver: takes the workers' news, and keeps their checkpoints on this machine's disk."""

    def __init__(self, folder: Path | None):
        self.folder = Folder(folder) if folder else None
        self.told: list[tuple] = []

    def tell(self, *event: Any) -> None:
        self.told.append(event)

    def news(self) -> list[tuple]:
        """What was told since the last call."""
        news, self.told = self.told, []
        return news

    def read(self, key: str) -> bytes | None:
        return self.folder.read(key) if self.folder else None

    def write(self, key: str, content: bytes) -> None:
        if self.folder is not None:
            self.folder.write(key, content)


@functools.cache
def desk_of(folder: Path | None) -> "ray.actor.ActorHandle":
    """The desk of a folder of checkpoints; on the driver's node, as it needs that disk."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    made: Any = ray.remote(**options)(Desk)
    return made.remote(folder.resolve() if folder else None)


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


class Telling:
    """What a worker tells, and where it keeps checkpoints: at the desk."""

    def __init__(self, desk: "ray.actor.ActorHandle"):
        self.desk = desk

    def epoch(self, label: str, lanes: int, row: Mapping[str, Any], epochs: int) -> None:
        self.desk.tell.remote("epoch", label, lanes, dict(row), epochs)

    def note(self, text: str) -> None:
        self.desk.tell.remote("note", text)

    def __str__(self) -> str:
        return "the results folder's checkpoints"

    def read(self, key: str) -> bytes | None:
        return self._ask(self.desk.read, key)

    def write(self, key: str, content: bytes) -> None:
        self._ask(self.desk.write, key, content)

    def _ask(self, what: Any, *args: Any) -> Any:
        """Raises OSError: the desk's own, or that it cannot be reached."""
        try:
            return ray.get(what.remote(*args))
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise OSError(first_line(error)) from None


_worker: tuple[Any, Worker] | None = None


def perform(kit: Kit, desk: "ray.actor.ActorHandle", number: int, task: bytes) -> list[Result]:
    """Train a task in this worker process, which keeps the data and the compiled step for the next one."""
    global _worker
    refuse_others(ray.util.get_node_ip_address(), versions(), kit.versions)
    stop.asked = False
    signal.signal(signal.SIGINT, stop.ask)  # so does ray.cancel
    telling = Telling(desk)
    desk.tell.remote("began", number)
    key = (kit.checksum, asdict(kit.engine))
    if _worker is None or _worker[0] != key:
        place = telling if kit.engine.checkpoints else None
        _worker = key, begin(kit.dataset(), kit.engine, kit.files, place)
    return list(_worker[1].train(pickle.loads(task), telling))
