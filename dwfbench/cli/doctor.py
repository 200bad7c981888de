"""What an environment lacks: each finding with its state and its remedy. Nothing is downloaded, trained or changed.

Everything here may be broken, so imports are tried where they are needed, and an examination that fails is a finding
itself. The tested ranges of versions are those of the installed package's metadata.
"""

import importlib
import json
import os
import platform
import shutil
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from dwfbench.base.machine import cores

if TYPE_CHECKING:
    from packaging.requirements import Requirement

State = Literal["ok", "warning", "problem"]

PARTS = {
    "run": "dwfbench.experiments.run",
    "tune": "dwfbench.experiments.tune",
    "compare": "dwfbench.analysis.curves",
    "plot": "dwfbench.show.mpl",
    "report": "dwfbench.show.report",
    "export": "dwfbench.deploy.export",
}
"""Commands and the modules that they cannot do without."""

LITTLE_DISK = 1 << 30
"""Free bytes below which there is a warning: a VGG-16 has 59 MB of weights, its checkpoint several times that."""

LITTLE_MEMORY = 2 << 30
"""The same of a device's memory."""

STALE_DAYS = 7
"""Days after which nobody is likely to go on from a checkpoint."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``found`` says what is there, ``remedy`` what to do, if anything."""

    subject: str
    state: State
    found: str
    remedy: str = ""


def examine(results: Path, data_dir: Path | None = None, address: str | None = None) -> list[Finding]:
    """Everything that can be found out about this machine, this installation and the folder ``results``.

    With the ``address`` of a Ray cluster, auto or host:port, about its nodes, too.
    """
    examinations: dict[str, Callable[[], Iterator[Finding]]] = {
        "python": python,
        "packages": packages,
        "commands": commands,
        "device": device,
        "threads": threads,
        "compiler": compiler,
        "plug-ins": plug_ins,
        "ray": lambda: ray(address),
        "data sets": lambda: data_sets(data_dir),
        "cache": cache,
        "results": lambda: results_folder(results),
        "records": lambda: records(results),
        "checkpoints": lambda: checkpoints(results),
    }
    findings: list[Finding] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that are out of step; what breaks is a finding
        for subject, examination in examinations.items():
            try:
                findings += examination()
            except (Exception, SystemExit) as error:
                findings.append(
                    Finding(subject, "problem", f"cannot be examined ({reason(error)})", "see the findings above")
                )
    return findings


def table(findings: Sequence[Finding]) -> str:
    """The findings as lines of padded texts, under a header."""
    rows = [("finding", "state", "found", "remedy"), *((f.subject, f.state, f.found, f.remedy) for f in findings)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_json(findings: Sequence[Finding]) -> str:
    """The findings as a list of objects."""
    return json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False)


def reason(error: BaseException) -> str:
    """The kind of an error and its text, on one line and not too long."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


# ---------------------------------------------------------------- the installation


def python() -> Iterator[Finding]:
    """The interpreter's version against what the package requires and what it is tested with."""
    from packaging.specifiers import SpecifierSet

    own = metadata.metadata("dwfbench")
    version, asked = platform.python_version(), own["Requires-Python"]
    named = [text.rpartition(" :: ")[2] for text in own.get_all("Classifier") or () if "Python :: 3." in text]
    remedy = f"use Python {' or '.join(named)}"
    if not SpecifierSet(asked).contains(version, prereleases=True):
        yield Finding("python", "problem", f"{version}, needed {asked}", remedy)
    elif not any(version.startswith(f"{one}.") for one in named):
        yield Finding("python", "warning", f"{version}, not tested", remedy)
    else:
        yield Finding("python", "ok", version)


def requirements(extra: str = "") -> "list[Requirement]":
    """What the package asks for with an extra and not without, or, for none, what it cannot do without."""
    from packaging.requirements import Requirement

    wanted = [Requirement(text) for text in metadata.requires("dwfbench") or ()]
    always = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    if not extra:
        return always
    return [one for one in wanted if one not in always and one.marker and one.marker.evaluate({"extra": extra})]


def packages() -> Iterator[Finding]:
    """Every package that dwfbench depends on: installed, and within the range that is tested."""
    yield Finding("dwfbench", "ok", metadata.version("dwfbench"))
    for one in requirements():
        yield package(one, Finding(one.name, "problem", "not installed", f"pip install '{one.name}{one.specifier}'"))
    for one in requirements("export"):
        remedy = "only for ONNX files: pip install 'dwfbench[export]'"
        yield package(one, Finding(one.name, "ok", "not installed", remedy))


def package(wanted: "Requirement", absent: Finding) -> Finding:
    """The version of a package against the tested range; ``absent`` where it is not installed."""
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return absent
    if wanted.specifier.contains(version, prereleases=True):
        return Finding(wanted.name, "ok", version)
    found = f"{version}, tested {wanted.specifier}"
    return Finding(wanted.name, "warning", found, f"pip install '{wanted.name}{wanted.specifier}'")


def commands() -> Iterator[Finding]:
    """Whether torch, torchvision and what the commands are made of can be imported; one finding a cause."""
    remedies = {
        "torch": "install torch again, see pytorch.org for the build of this machine",
        "torchvision": "install the torchvision that belongs to this torch: pip install --upgrade torch torchvision",
    }
    causes: set[str] = set()
    for name, module in {"torch": "torch", "torchvision": "torchvision", **PARTS}.items():
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:
            if (cause := reason(error)) not in causes:
                remedy = remedies.get(name, "pip install --upgrade --force-reinstall dwfbench")
                yield Finding(f"import {name}", "problem", f"fails ({cause})", remedy)
            causes.add(cause)
    if not causes:
        yield Finding("commands", "ok", f"{', '.join(PARTS)} can be loaded")


def plug_ins() -> Iterator[Finding]:
    """Methods, models and data sets of packages: which were left out, and which fail when they are loaded."""
    from dwfbench import models
    from dwfbench.base import plugins
    from dwfbench.base.errors import UsageError
    from dwfbench.data import readers
    from dwfbench.methods import registry

    own = {"method": (), "model": tuple(models.MODELS), "data set": tuple(readers.KNOWN)}
    count = 0
    for kind in plugins.GROUPS:
        points, refused = plugins.find(kind, own[kind])
        for name, sentence in refused.items():
            yield Finding(f"{kind} {name}", "warning", sentence, "uninstall that package, or rename its entry point")
        for name, point in points.items():
            ours = point.dist is not None and point.dist.name == "dwfbench"
            count += not ours
            try:
                registry.load(name) if kind == "method" else plugins.load(kind, point)
            except UsageError as error:
                if ours:
                    yield Finding(f"{kind} {name}", "problem", str(error), "install dwfbench again")
                else:
                    yield Finding(f"{kind} {name}", "warning", str(error), "update or uninstall that package")
    yield Finding("plug-ins", "ok", f"{count} of other packages")


def ray(address: str | None = None) -> Iterator[Finding]:
    """Whether Ray is installed, in the range that is tested; what answers at the address, and the versions there."""
    remedy = "only for clusters: pip install 'dwfbench[ray]'"
    for one in requirements("ray"):
        yield package(one, Finding("ray", "ok", "not installed", remedy))
    if address is None:
        return

    from dwfbench.base.errors import UsageError

    try:
        from dwfbench.execution import ray as cluster

        cluster.join(address)
    except UsageError as error:
        yield Finding("ray cluster", "problem", str(error), "see docs/cluster.md")
        return
    ours = cluster.versions()
    for node in cluster.nodes():
        found = ", ".join(f"{name} {version or 'not installed'}" for name, version in node.versions.items())
        same = all(node.versions.get(name) == version for name, version in ours.items())
        yield Finding(
            f"ray node {node.name}",
            "ok" if same else "problem",
            f"{node.cpus:g} CPUs, {node.gpus:g} GPUs, {found}",
            "" if same else f"install there what is here: {', '.join(f'{n} {v}' for n, v in ours.items())}",
        )


# ---------------------------------------------------------------- the machine


def torch_or_none() -> ModuleType | None:
    """torch where it can be imported; where it cannot, ``commands`` says why."""
    try:
        return importlib.import_module("torch")
    except (Exception, SystemExit):
        return None


def device() -> Iterator[Finding]:
    """The CUDA devices with their free memory; where there are none, whether there should be."""
    torch = torch_or_none()
    if torch is None:
        yield Finding("device", "problem", "unknown without torch", "repair torch first")
        return
    if not torch.cuda.is_available():
        yield without_cuda(torch)
        return
    for index in range(torch.cuda.device_count()):
        name = f"cuda:{index}"
        try:
            free, total = torch.cuda.mem_get_info(index)
            torch.ones(1, device=name).add(1).item()
        except RuntimeError as error:  # no memory left, or no kernels for this device in this build
            remedy = "install a torch that supports it, or free its memory (nvidia-smi shows by whom it is used)"
            yield Finding(name, "problem", f"{torch.cuda.get_device_name(index)} fails ({reason(error)})", remedy)
            continue
        found = f"{torch.cuda.get_device_name(index)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        if free < LITTLE_MEMORY:
            yield Finding(name, "warning", found, "nvidia-smi shows which processes use it; or take --device cpu")
        else:
            yield Finding(name, "ok", found)


def without_cuda(torch: ModuleType) -> Finding:
    """Why torch finds no CUDA device."""
    driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    if not driver:
        return Finding("device", "ok", "CPU only; no CUDA driver on this machine")
    if torch.version.cuda is None:
        remedy = "install a CUDA build of torch, see pytorch.org"
        return Finding("device", "warning", f"CPU only: torch {torch.__version__} is built without CUDA", remedy)
    try:
        torch.cuda.init()
        why = "no device is visible"
    except (RuntimeError, AssertionError) as error:
        why = reason(error)
    remedy = f"a driver for CUDA {torch.version.cuda}, or a torch for this driver; see CUDA_VISIBLE_DEVICES too"
    return Finding("device", "warning", f"CPU only: torch finds no CUDA device ({why})", remedy)


def threads() -> Iterator[Finding]:
    """Cores that this process may use, and who else uses them."""
    usable = cores()
    found, troubles = f"{usable} of {os.cpu_count() or usable} cores", False
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value) > usable:
            troubles = True
            yield Finding("threads", "warning", f"{name}={value} on {found}", f"unset {name}, or set it to {usable}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5 * usable:
        troubles = True
        remedy = "threads that share a core wait for each other; end what runs, or give fewer --threads"
        yield Finding("threads", "warning", f"{found}, with {load:.1f} processes running on them", remedy)
    if not troubles:
        yield Finding("threads", "ok", found)


def compiler() -> Iterator[Finding]:
    """Whether training steps can be compiled; where they cannot, they run as they are, and slower."""
    if torch_or_none() is None:
        return
    import torch

    from dwfbench.training.compile import available

    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not available(place):
        missing = "a C++ compiler (g++ or clang++)" if place.type == "cpu" else "triton"
        remedy = f"install {missing}; without, steps are not compiled and take longer"
        yield Finding("compiler", "warning", f"none for {place.type}", remedy)
    elif not headers.is_file():
        remedy = "install Python's development files (python3-dev); without, steps are not compiled"
        yield Finding("compiler", "warning", f"{headers} is missing", remedy)
    else:
        own = os.environ.get("CXX") or "g++"
        found = "triton" if place.type == "cuda" else shutil.which(own) or shutil.which("clang++")
        yield Finding("compiler", "ok", str(found))


# ---------------------------------------------------------------- folders


def data_sets(data_dir: Path | None) -> Iterator[Finding]:
    """Where each data set known by name lies, or would be downloaded to."""
    from dwfbench.data import dataset, readers
    from dwfbench.data.readers import cifar, idx, tiny_imagenet

    places = dataset.searched(data_dir, download=False)

    def find(name: str, place: Path) -> object:
        if name in idx.TORCHVISION:
            return idx._find(name, place)
        if name == "tiny-imagenet":
            return tiny_imagenet._find(place)
        from torchvision import datasets

        return cifar._find(name, getattr(datasets, name.upper()), place)

    for name in readers.KNOWN:
        subject = f"data set {name}"
        if name == "digits":
            yield Finding(subject, "ok", "in scikit-learn")
            continue
        try:
            place = next((place for place in places.searched if find(name, place)), None)
        except Exception as error:
            yield Finding(subject, "warning", f"cannot be looked for ({reason(error)})", "repair torchvision first")
            continue
        if place is not None:
            yield Finding(subject, "ok", f"in {place}")
        elif (why := unwritable(places.target)) is not None:
            remedy = "point --data-dir or $DWFBENCH_DATA to a folder that has it or can be written"
            yield Finding(subject, "warning", f"absent, and {places.target} cannot be written ({why})", remedy)
        else:
            remedy = "the first run downloads it; or point --data-dir or $DWFBENCH_DATA to its files"
            yield Finding(subject, "ok", f"absent; would be downloaded into {places.target}", remedy)


def cache() -> Iterator[Finding]:
    """The folder of downloads and decoded images."""
    from dwfbench.data import dataset

    folder = dataset.searched(None, download=False).cache
    if (why := unwritable(folder)) is not None:
        remedy = "set XDG_CACHE_HOME to a folder that can be written; without, images are decoded again by every run"
        yield Finding("cache", "warning", f"{folder} cannot be written ({why})", remedy)
    else:
        yield Finding("cache", "ok", str(folder))


def results_folder(folder: Path) -> Iterator[Finding]:
    """Whether runs can be stored, and how much room there is for them."""
    if folder.is_file():
        yield Finding("results", "ok", f"{folder} is a file, to be read as an archive; nothing can be trained into it")
        return
    if folder.exists() and not folder.is_dir():
        yield Finding("results", "problem", f"{folder} is not a folder", "choose another one with --results")
        return
    if (why := unwritable(folder)) is not None:
        yield Finding("results", "problem", f"{folder} cannot be written ({why})", "choose another one with --results")
        return
    free = shutil.disk_usage(existing(folder)).free
    found = f"{folder}{'' if folder.exists() else ' (to be made)'}, {free / 2**30:.1f} GiB free"
    if free < LITTLE_DISK:
        yield Finding("results", "warning", found, "make room, or choose another disk with --results")
    else:
        yield Finding("results", "ok", found)


def records(folder: Path) -> Iterator[Finding]:
    """How many records there are, and those that cannot be read."""
    from dwfbench.base.errors import UsageError
    from dwfbench.runs import resultsets

    try:
        stored, damaged = resultsets.load([resultsets.Source(folder)]) if folder.exists() else ([], [])
    except UsageError as error:
        yield Finding("records", "problem", str(error), "restore the archive from a copy")
        return
    for sentence in damaged:
        yield Finding("record", "warning", sentence, "restore it from a copy, or let it be trained again")
    bad = sum(record.status != "ok" for record in stored)
    yield Finding("records", "ok", f"{len(stored)} in {folder}, {bad} of them failed or diverged")


def checkpoints(folder: Path) -> Iterator[Finding]:
    """Training that was cut short, and what of it nobody is likely to go on from."""
    from dwfbench.runs.store import Store

    store = Store(folder)
    files = sorted((folder / "checkpoints").glob("*.safetensors"))
    done, old, size = [], [], 0
    for file in files:
        status = file.stat()
        size += status.st_size
        if (folder / "runs" / file.stem).is_dir() and store.status(file.stem) == "ok":
            done.append(file)
        elif time.time() - status.st_mtime > STALE_DAYS * 86400:
            old.append(file)
    for file in done:
        yield Finding("checkpoint", "warning", f"{file} is of a run that is stored", "remove it")
    for file in old:
        remedy = "the command that wrote it goes on from it; remove it if that is not to be"
        yield Finding("checkpoint", "warning", f"{file} has not been written for {STALE_DAYS} days", remedy)
    fresh = len(files) - len(done) - len(old)
    yield Finding("checkpoints", "ok", f"{fresh} to go on from" + (f", {size / 2**20:.0f} MiB in all" if files else ""))


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


def unwritable(folder: Path) -> str | None:
    """Why no file can be written into a folder, or into the one in which it would be made; None where one can."""
    try:
        with tempfile.TemporaryFile(dir=existing(folder)) as file:
            file.write(b"\0")
    except OSError as error:
        return error.strerror or str(error)
    return None
