"""What an environment lacks: each finding with its state and its remedy. Nothing is downloaded, trained or changed.

Everything here may be broken, so imports are tried where they are needed, and an examination that fails is a finding.
"""

import os
import platform
import re
import shutil
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Literal, NamedTuple

from dwfbench.base import files, foreign
from dwfbench.base.errors import UsageError, reason
from dwfbench.base.machine import BUSY, cores, load, spinning

LITTLE_DISK, LITTLE_MEMORY = 1 << 30, 2 << 30
"""Free bytes of the results' disk and of a device below which there is a warning: a VGG-16 has 59 MB of weights."""


class Finding(NamedTuple):
    """One thing that was looked at: ``found`` says what is there, ``remedy`` what to do, if anything."""

    subject: str
    state: Literal["ok", "warning", "problem"]
    found: str
    remedy: str = ""


def judged(subject: str, found: str, remedy: str) -> Finding:
    """A warning where there is something to do."""
    return Finding(subject, "warning" if remedy else "ok", found, remedy)


def examine(results: Path, data_dir: Path | None = None, address: str | None = None) -> list[Finding]:
    """Everything that can be found out about this machine, this installation and the folder ``results``.

    With the ``address`` of a Ray cluster, auto or host:port, about its nodes, too. What breaks several examinations is
    one finding.
    """
    examinations: dict[str, Callable[[], Iterator[Finding]]] = {
        **{"packages": packages, "device": device, "threads": threads, "compiler": compiler, "plug-ins": plug_ins},
        "ray cluster": partial(ray, address),
        "data sets": partial(data_sets, data_dir),
        "results": partial(results_folder, results),
        "records": partial(records, results),
    }
    findings: list[Finding] = []
    reported: set[str] = set()
    reinstall = "install again what the error names; torch and torchvision belong together, see pytorch.org"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that are out of step; what breaks is a finding
        for subject, examination in examinations.items():
            try:
                with foreign.contained():
                    findings += examination()
            except UsageError as error:
                findings.append(Finding(subject, "problem", str(error), "as it says"))
            except Exception as error:
                if (cause := reason(error)) not in reported:
                    findings.append(Finding(subject, "problem", f"cannot be examined ({cause})", reinstall))
                reported.add(cause)
    return findings


# ---------------------------------------------------------------- the installation


def packages() -> Iterator[Finding]:
    """The versions that results depend on, in one line; what dwfbench needs and is missing."""
    versions = {"python": platform.python_version(), "dwfbench": metadata.version("dwfbench")}
    for text in metadata.requires("dwfbench") or ():
        name = re.split(r"[^\w.-]", text)[0]
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            if "extra ==" not in text:
                yield Finding(name, "problem", "not installed", f"pip install {name}")
        else:
            versions |= {name: version} if name in ("torch", "torchvision", "numpy", "ray") else {}
    yield Finding("packages", "ok", ", ".join(f"{name} {version}" for name, version in versions.items()))


def plug_ins() -> Iterator[Finding]:
    """Methods, models, data sets and loggers of packages: which were left out, and which fail when they are loaded."""
    from dwfbench import models
    from dwfbench.base import plugins
    from dwfbench.data import readers
    from dwfbench.experiments import loggers
    from dwfbench.methods import registry

    built_in = {"method": (), "model": (*models.MODELS,), "data set": (*readers.KNOWN,), "logger": (*loggers.OURS,)}
    count = 0
    for role in plugins.GROUPS:
        points, refused = plugins.find(role, built_in[role])
        for name, sentence in refused.items():
            yield judged(f"{role} {name}", sentence, "uninstall that package, or rename its entry point")
        for name, point in points.items():
            try:
                registry.load(name) if role == "method" else plugins.load(role, point)
                count += 1
            except UsageError as error:
                yield judged(f"{role} {name}", str(error), "update or uninstall that package")
    yield Finding("plug-ins", "ok", f"{count} of dwfbench and other packages")


def ray(address: str | None) -> Iterator[Finding]:
    """The nodes of the Ray cluster at an address, and whether their versions are those of here."""
    if address is None:
        return
    from dwfbench.execution.nodes import join, nodes, versions

    join(address)
    local = versions()
    for node in nodes():
        installed = ", ".join(f"{name} {version or 'not installed'}" for name, version in node.versions.items())
        hardware = f"{node.cpus:g} CPUs, {node.gpus:g} GPUs, {installed}"
        agrees = node.versions.items() >= local.items()
        remedy = f"install there what is here: {', '.join(f'{name} {version}' for name, version in local.items())}"
        yield Finding(f"ray node {node.name}", "ok" if agrees else "problem", hardware, "" if agrees else remedy)


# ---------------------------------------------------------------- the machine


def device() -> Iterator[Finding]:
    """The CUDA devices with their free memory; where there are none, why not."""
    torch = import_module("torch")
    if not torch.cuda.is_available():
        yield judged("device", *without_cuda(torch))
        return
    for index in range(torch.cuda.device_count()):
        torch.ones(1, device=f"cuda:{index}").add(1).item()  # not every build has kernels for every device
        free, total = torch.cuda.mem_get_info(index)
        memory = f"{torch.cuda.get_device_name(index)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        remedy = "nvidia-smi shows what uses it; or take --device cpu"
        yield judged(f"cuda:{index}", memory, remedy if free < LITTLE_MEMORY else "")


def without_cuda(torch) -> tuple[str, str]:
    """What is there instead, and what to do where a CUDA device could be there."""
    if shutil.which("nvidia-smi") is None:
        return "CPU only; no CUDA driver on this machine", ""
    if torch.version.cuda is None:
        return f"CPU only: torch {torch.__version__} is built without CUDA", "install a CUDA build, see pytorch.org"
    try:
        torch.cuda.init()
        cause = "no device is visible"
    except (RuntimeError, AssertionError) as error:
        cause = reason(error)
    remedy = f"a driver for CUDA {torch.version.cuda}, or a torch for this driver; see CUDA_VISIBLE_DEVICES too"
    return f"CPU only: torch finds no CUDA device ({cause})", remedy


def threads() -> Iterator[Finding]:
    """Cores that this process may use, and who else uses them: with what share of them a run has to do."""
    usable, running = cores(), load() or 0.0
    omp_threads = os.environ.get("OMP_NUM_THREADS", "")
    lowered = os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else 0
    remedies = []
    if omp_threads.isdecimal() and int(omp_threads) > usable:
        remedies.append(f"unset OMP_NUM_THREADS={omp_threads}, or set it to {usable}")
    if waits := spinning():
        remedies.append(f"set OMP_WAIT_POLICY=PASSIVE ({waits}): threads that spin are no use beside other work")
    if running > BUSY * usable:
        remedies.append(
            f"a run takes about {1 + running / usable:.1f} times as long as alone; "
            "end what runs, or give fewer --threads"
        )
    if lowered > 0:
        remedies.append(f"what has no lowered priority goes first (nice {lowered} here)")
    usage = f"{usable} of {os.cpu_count() or usable} cores, {running:.1f} processes running on them"
    yield judged("threads", usage, "; ".join(remedies))


def compiler() -> Iterator[Finding]:
    """Whether training steps can be compiled; where they cannot, they run as they are, and slower."""
    import torch

    from dwfbench.training.compile import available

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not available(torch.device(device)):
        tool = "a C++ compiler (g++ or clang++)" if device == "cpu" else "triton"
    else:
        headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
        tool = "" if headers.is_file() else f"Python's development files (python3-dev), of which {headers} is one"
    remedy = f"install {tool}; without, steps are not compiled and take longer"
    yield judged("compiler", "none" if tool else f"for {device}", remedy if tool else "")


# ---------------------------------------------------------------- folders


def data_sets(data_dir: Path | None) -> Iterator[Finding]:
    """Where each data set known by name lies, or would be downloaded to."""
    from dwfbench.data import dataset, readers

    places = dataset.searched(data_dir, download=False)
    closed = files.unwritable(places.target)
    for name, reader in readers.KNOWN.items():
        if folders := [folder for folder in places.searched if reader.find(folder)]:
            yield Finding(f"data set {name}", "ok", f"in {folders[0]}" if name != "digits" else "in scikit-learn")
            continue
        status = f"absent; would be downloaded into {places.target}" + (f", but: {closed}" if closed else "")
        remedy = "point --data-dir or $DWFBENCH_DATA to a folder that has it or can be written"
        yield judged(f"data set {name}", status, remedy if closed else "")
    if closed := files.unwritable(places.cache):
        yield judged("cache", closed, "set XDG_CACHE_HOME; without, images are decoded again by every run")


def results_folder(folder: Path) -> Iterator[Finding]:
    """Whether runs can be stored, and how much room there is for them."""
    if folder.is_file():
        yield Finding("results", "ok", f"{folder} is a file, to be read as an archive; nothing can be trained into it")
    elif closed := files.unwritable(folder):
        yield Finding("results", "problem", closed, "choose another one with --results")
    else:
        free = shutil.disk_usage(files.existing(folder)).free
        space = f"{folder}{'' if folder.exists() else ' (to be made)'}, {free / 2**30:.1f} GiB free"
        yield judged("results", space, "make room, or choose another disk" if free < LITTLE_DISK else "")


def records(folder: Path) -> Iterator[Finding]:
    """How many records there are, and those that cannot be read."""
    from dwfbench.runs import resultsets

    stored, damaged = resultsets.load([resultsets.Source(folder)]) if folder.exists() else ([], [])
    for sentence in damaged:
        yield judged("record", sentence, "restore it from a copy, or let it be trained again")
    bad = sum(record.status != "ok" for record in stored)
    yield Finding("records", "ok", f"{len(stored)} in {folder}, {bad} of them failed or diverged")
