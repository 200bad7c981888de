"""The machines of a Ray cluster: joining it, what they have, and that they have the same versions as this one.

Ray is an extra: ``pip install "dwfbench[ray]"``.
"""

import functools
import hashlib
import logging
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata, util
from pathlib import Path
from typing import Any

import torch

import dwfbench
from dwfbench.base.errors import UsageError, first_line
from dwfbench.base.machine import SLEEPING
from dwfbench.base.streams import kept_stderr
from dwfbench.execution.worker import Cluster, Machine

try:
    import ray
    from ray._private import worker as driver
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise UsageError('--ray needs Ray; install it with: pip install "dwfbench[ray]"') from None


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
    alive = nodes()
    if gpus is None:
        gpus = float(device != "cpu" and any(node.gpus for node in alive))
    if not 0 <= gpus <= 1:
        raise UsageError(f"--gpus-per-group must be between 0 and 1, not {gpus:g}: a group trains on one GPU.")
    if (device == "cuda" and not gpus) or (device == "cpu" and gpus):
        raise UsageError(f"--device {device} and {gpus:g} GPUs per group do not fit together.")
    share = Cluster(address, cpus or 1, gpus)
    usable = [node for node in alive if node.cpus >= share.cpus and node.gpus >= share.gpus]
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
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what breaks is told by us, in a sentence
    try:
        if address != "auto":
            knock(address)
    except (OSError, ValueError) as error:
        raise unanswered(address, first_line(error)) from None
    with kept_stderr() as stderr_text:  # Ray's own messages begin before anything can stop them
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
            driver._worker_logs_enabled = False  # nor of what becomes of nodes, which has no switch of its own
        except (RayError, OSError, RuntimeError, ValueError, AssertionError) as error:
            why = first_line(error)
            if "AuthToken" in stderr_text() or "oken" in why:
                why = "it asks for a token that is not the one here; set RAY_AUTH_MODE and the token as there"
            raise unanswered(address, why) from None


def unanswered(address: str, why: str) -> UsageError:
    return UsageError(
        f"No Ray cluster answers at {address!r} ({why}); start one with `ray start --head`, "
        "and join it on every other machine with `ray start --address`."
    )


def knock(address: str) -> None:
    """Raises OSError or ValueError where nothing listens, which takes Ray minutes to find."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError("it is not host:port")
    socket.create_connection((host, int(port)), timeout=10).close()


def nodes() -> list[Node]:
    """The live machines of the joined cluster, by name."""

    def installed() -> dict[str, str | None]:  # sent by value: a worker without dwfbench can run it
        from importlib import metadata

        try:
            metadata.version("dwfbench")
            from dwfbench.execution.nodes import versions
        except (metadata.PackageNotFoundError, ImportError):
            return {"dwfbench": None}
        return dict(versions())

    alive = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeManagerAddress"])
    remote = on_workers(installed, num_cpus=0)
    refs = [remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
            for node in alive]  # fmt: skip
    return [
        Node(node["NodeManagerHostname"], node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0), versions)
        for node, versions in zip(alive, ray.get(refs), strict=True)
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


def refuse_others(node: str, node_versions: Mapping[str, str | None], own_versions: Mapping[str, str]) -> None:
    """Raises UsageError for other versions."""
    for name, version in own_versions.items():
        if node_versions.get(name) != version:
            raise UsageError(
                f"The node {node} has {name} {node_versions.get(name) or 'not installed'}, and this process {version}; "
                "install the same version on all."
            )


@functools.cache
def machine(cluster: Cluster) -> Machine:
    """What a group finds on the cluster: asked of one worker."""

    def measured() -> Machine:
        described = Machine.of(torch.device("cuda" if cluster.gpus else "cpu"))
        return replace(described, memory=int(described.memory * cluster.gpus))

    return ray.get(on_workers(measured, num_cpus=cluster.cpus, num_gpus=cluster.gpus).remote())


def on_workers(function: Callable, **options: Any) -> Any:
    """A function for workers, whose threads wait for each other as those of this process do."""
    waiting = {name: os.environ[name] for name in SLEEPING if name in os.environ}
    return ray.remote(runtime_env={"env_vars": waiting}, **options)(function)
