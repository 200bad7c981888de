"""From a trained lane to its record: accuracy on the test set, compression, layers, paths, MACs, provenance.

The test set is looked at here and nowhere else, once a run, after the last epoch.
"""

import functools
import importlib.metadata
import platform
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dwfbench
from dwfbench import models
from dwfbench.base.errors import one_line
from dwfbench.data.dataset import Dataset, Split
from dwfbench.dwf.factors import FLOAT32_EPSILON
from dwfbench.methods.contract import Method
from dwfbench.runs.record import Cut, Layer, Settings
from dwfbench.runs.spec import RunSpec
from dwfbench.sparsity.count import compression_ratio, count, cut
from dwfbench.sparsity.report import sparsity_report
from dwfbench.training.evaluate import evaluate
from dwfbench.training.group import Trained

THRESHOLDS = (FLOAT32_EPSILON, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""Further cuts at which every run is counted and tested, so that a reader can apply another paper's."""

TESTED = ("test_accuracy", "test_loss", "test_top5_accuracy", "dense_equivalent_accuracy")
"""What the test set tells."""


def describe(spec: RunSpec, method: Method) -> dict[str, Any]:
    """The fields of a record that are known before training."""
    options = {item.name: getattr(method, item.name) for item in fields(method)}
    settings = Settings(**{**spec.to_dict(), "options": options})
    return {"id": spec.id, "label": method.label(), "knob": method.knob, "spec": settings}


def assess(
    trained: Trained, method: Method, data: Dataset, test: bool = True
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """Fields of a record, as ``record.Written`` has them, and the final state dict; None for a lane that diverged.

    ``test_accuracy`` belongs to the last epoch after sparsification, ``dense_equivalent_accuracy`` to the same
    network before it. Accuracies are fractions; ``test_top5_accuracy`` is given for more than ten classes. Without
    ``test``, the test set is left alone: what it would tell is None, and no further threshold is assessed.
    """
    if trained.status != "ok":
        return {"status": trained.status, "error": trained.error}, None
    spec = trained.spec
    network = models.build_for(spec, data)
    network.to(data.train.images.device)
    final = {**trained.state, **trained.sparse}

    def on(split: Split, state: dict[str, Tensor]) -> tuple[float | None, float | None, float | None]:
        evaluation = evaluate(network, {name: value[None] for name, value in state.items()}, split, data)
        return evaluation.accuracy[0], evaluation.loss[0], evaluation.top5[0]

    accuracy, loss, top5 = on(data.test if test else data.val, final)
    network.load_state_dict(final, strict=False)  # not strict: a network may register buffers as not persistent
    report = sparsity_report(network, data.input_shape)
    if loss is None:
        return {"status": "diverged", "error": "the loss of the trained network is infinite or NaN"}, None
    if report["nnz"] == 0:
        return {
            "status": "diverged",
            "error": "no weight survived the final threshold: the network is dead",
        }, None

    validation = on(data.val, final)[0] if test else accuracy
    layers = [Layer(**layer) for layer in report["layers"]]
    notes = [one_line(note) for note in (*report["notes"], *trained.notes)]
    task = data.task
    judged = {
        "score": task.name if task.score else None,
        "chance": task.guess((data.test if test else data.val).labels),
    }
    results = {"status": "ok", **judged, "val_accuracy": validation, **report, "layers": layers, "notes": notes}
    if not test:
        return {**results, **dict.fromkeys(TESTED), "thresholds": []}, final

    # From the weights before the method's own threshold, which may be above some of these. A cut that leaves as many
    # weights as another leaves the network whose accuracy is known.
    uncut = method.sparsify({name: trained.state[name] for name in trained.sparse}, spec.compression)
    thresholds, accuracies = [], {report["nnz"]: accuracy}
    for threshold in THRESHOLDS:
        left = cut(uncut, threshold)
        nnz = sum(layer["nnz"] for layer in count(left))
        if nnz not in accuracies:
            accuracies[nnz] = on(data.test, {**final, **left})[0]
        ratio = compression_ratio(report["numel"], nnz) if nnz else None
        thresholds.append(Cut(threshold=threshold, nnz=nnz, compression=ratio, test_accuracy=accuracies[nnz]))

    dense_accuracy = on(data.test, trained.state)[0]
    tested = dict(zip(TESTED, (accuracy, loss, top5, dense_accuracy), strict=True))
    return {**results, **tested, "thresholds": thresholds}, final


def environment(device: torch.device, threads: int) -> dict[str, Any]:
    """Provenance of a process: versions, source, device. Nothing in it changes a run's identity."""
    packages = ("torch", "torchvision", "numpy", "pandas", "scikit-learn")
    commit, dirty = source_state()
    return {
        "versions": {
            "python": platform.python_version(),
            "dwfbench": dwfbench.__version__,
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "git_commit": commit,
        "git_dirty": dirty,
        "device": str(device.type),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": threads,
    }


@functools.cache
def source_state() -> tuple[str | None, bool | None]:
    """Commit of the dwfbench that runs, and whether its sources differ from it; None outside a checkout of it."""
    root = Path(dwfbench.__file__).parent.parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if not git("ls-files", "dwfbench/__init__.py"):
        return None, None
    changes = git("status", "--porcelain", "--", "dwfbench", "baselines", "pyproject.toml")
    return git("rev-parse", "HEAD"), bool(changes) if changes is not None else None


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def peak_memory(device: torch.device) -> int:
    """Bytes at the peak: of the device's allocator on CUDA, of the whole process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:  # getrusage would report the process that started this one, if that was the larger
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    import resource

    scale = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
