"""A sparse network as files that others can use, each checked against the network before it is kept.

- dense: ``model.safetensors``, the state dict, zeros included
- sparse: ``model.sparse.safetensors``, the same with its matrices in CSR form (``sparsefile``), without the zeros
- onnx: ``model.onnx``, with a free batch size, the weights within
- compact: the network without dead neurons and channels (``compact.compact``): ``compact.pt2``, the whole program, for
  ``torch.export.load(path).module()``, which needs neither dwfbench nor the network's code; ``compact.safetensors``,
  its weights alone; and ``compact.onnx``, where onnx is asked for too

``manifest.json`` says what is in them: sizes (bytes, and compressed by zlib), checksums, shapes of layers, MACs,
parameters, largest differences of the outputs, accuracies, versions. ``README.md`` says it to people and to the Hugging
Face Hub, and ``load.py`` loads the files with PyTorch alone.
"""

import contextlib
import copy
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.export import Dim

from dwfbench.base.errors import UsageError, refused
from dwfbench.base.files import replace, sweep, temporary, write_json
from dwfbench.data.task import CLASSIFICATION, Task
from dwfbench.deploy.card import card
from dwfbench.deploy.compact import compact, plain
from dwfbench.deploy.sparsefile import load_sparse, sparse_bytes
from dwfbench.models.prunable import prunable
from dwfbench.sparsity import count

FORMS = ("dense", "sparse", "onnx", "compact")
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
CHUNK = 500
"""Samples a forward pass of a check; bounds its memory."""

TOLERANCE, ONNX_TOLERANCE = 1e-5, 1e-4
"""Largest difference of outputs from the network's, relative to the largest output; the second for onnxruntime's."""

BATCH = ({0: Dim("batch")},)
"""The axes of the inputs that have no fixed size."""

Forward = Callable[[Tensor], Tensor]


@refused("This network cannot be exported")
def export(
    network: nn.Module,
    inputs: Tensor,
    folder: Path | str,
    forms: Sequence[str] = FORMS,
    labels: Tensor | None = None,
    facts: Mapping[str, Any] | None = None,
    task: Task = CLASSIFICATION,
) -> dict[str, Any]:
    """Write a network in the ``forms`` to a new ``folder``; returns the manifest.

    The network is left as it is; what is written is in float32 and eval mode, and collapsed. ``inputs`` (N, ...) are
    the float32 samples, as the network takes them, on which every file's outputs are compared with the network's;
    ``labels`` int64 (N,) add accuracies, as fractions, or those of another ``task`` its score. ``facts`` go to the
    manifest first.

    Raises UsageError for an unknown form, a folder that has files already, missing packages, a network that PyTorch
    cannot export or that is too far from its form (TOLERANCE), and when the folder cannot be written. Then nothing is
    left behind.
    """
    folder = Path(folder)
    check_forms(forms)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already and is not an empty folder; choose another one.")
    if not len(inputs):
        raise UsageError("There is no sample on which the files could be checked.")
    inputs, labels = inputs.cpu(), None if labels is None else labels.cpu()
    network = plain(network)
    weights = prunable(network)
    network.requires_grad_(False)
    with new_folder(folder) as place:
        # Zeros, because torch.export keeps its sample in the file.
        checked, smaller = write_forms(network, torch.zeros(2, *inputs.shape[1:]), place, forms)
        checks, accuracy = compare(network, checked, inputs, labels, task)
        manifest = {
            **(facts or {}),
            "forms": [form for form in FORMS if form in forms],
            "input_shape": list(inputs.shape[1:]),
            **sizes(network, smaller, inputs.shape[1:], weights),
            "samples": len(inputs),
            "score": task.name,
            "test_accuracy": accuracy,
            "checks": checks,
            "files": [describe(path) for path in sorted(place.iterdir())],
            "versions": versions("onnx" in forms),
        }
        write_json(place / "manifest.json", manifest)
        replace(place / "load.py", Path(__file__).with_name("load.py").read_bytes())
        replace(place / "README.md", card(manifest).encode())
    return manifest


def check_forms(forms: Sequence[str]) -> None:
    """UsageError for a form that there is not, or whose packages are missing."""
    if unknown := [form for form in forms if form not in FORMS]:
        raise UsageError(f"There is no form {unknown[0]!r}; choose from {', '.join(FORMS)}.")
    if "onnx" in forms:
        require_onnx()


def require_onnx() -> None:
    """UsageError unless the packages for ONNX are installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"ONNX needs the package{'s' * (len(missing) > 1)} {', '.join(missing)}: pip install 'dwfbench[export]', "
            "or leave the form onnx out."
        )


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder under a temporary name, which gets its own at the end if all went well and else is removed: where the
    process was killed, by the next one."""
    beside = temporary(folder)
    try:
        sweep(folder.parent)
        beside.mkdir(parents=True)
        yield beside
        os.replace(beside, folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror or error}).") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_forms(
    network: nn.Module, sample: Tensor, place: Path, forms: Sequence[str]
) -> tuple[dict[str, Forward], nn.Module | None]:
    """Write the files; what each computes, loaded again, by its name, and the compact network if asked for."""
    checked: dict[str, Forward] = {}
    if "dense" in forms:
        replace(place / "model.safetensors", dense_bytes(network))
    if "sparse" in forms:
        path = place / "model.sparse.safetensors"
        replace(path, sparse_bytes(tensors_of(network)))
        network_copy = copy.deepcopy(network)
        network_copy.load_state_dict({**network_copy.state_dict(), **load_sparse(path)})
        checked[path.name] = network_copy
    if "onnx" in forms:
        path = place / "model.onnx"
        checked[path.name] = write_onnx(program_of(network, sample), path)
    if "compact" not in forms:
        return checked, None
    try:
        smaller = compact(network, sample.shape[1:])
    except UsageError as error:
        raise UsageError(f"{error} The other forms are --forms dense,sparse,onnx.") from error
    program = program_of(smaller, sample)
    replace(place / "compact.safetensors", dense_bytes(smaller))
    torch.export.save(program, place / "compact.pt2")
    checked["compact.pt2"] = torch.export.load(place / "compact.pt2").module()
    if "onnx" in forms:
        path = place / "compact.onnx"
        checked[path.name] = write_onnx(program, path)
    return checked, smaller


def dense_bytes(network: nn.Module) -> bytes:
    """The state dict as safetensors; a tensor that has several names is written under each."""
    return save(
        {name: value.clone(memory_format=torch.contiguous_format) for name, value in tensors_of(network).items()}
    )


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """The tensors of its state dict, where a module may keep other things, too (``get_extra_state``)."""
    return {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}


@refused("PyTorch cannot export this network")
def program_of(network: nn.Module, sample: Tensor) -> torch.export.ExportedProgram:
    """The network as ``torch.export`` sees it, for any number of samples."""
    try:
        return torch.export.export(network, (sample,), dynamic_shapes=BATCH)
    except Exception as error:
        if "specialized it to be a constant" not in str(error):
            raise
        raise UsageError(
            "PyTorch cannot export this network for any number of samples: its code makes a constant of the number, as "
            "len(x) and int(x.shape[0]) do and x.shape[0] does not."
        ) from error


def write_onnx(program: torch.export.ExportedProgram, path: Path) -> Forward:
    """Write a program as ONNX, with the input "images" and the output "outputs"; what onnxruntime makes of it."""
    import onnxruntime

    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with refused("This network cannot be written as ONNX"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own parts
            torch.onnx.export(
                program,
                f=str(path),
                dynamo=True,
                dynamic_shapes=BATCH,
                input_names=["images"],
                output_names=["outputs"],
                external_data=False,
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


@torch.no_grad()
def compare(
    network: nn.Module, checked: Mapping[str, Forward], inputs: Tensor, labels: Tensor | None, task: Task
) -> tuple[list[dict[str, Any]], float | None]:
    """What each form's outputs differ by from the network's on all inputs, and the network's own accuracy or score.

    Forms are called by their file's name, if they have one. Raises UsageError for a difference above TOLERANCE, or
    ONNX_TOLERANCE for the name of an ONNX file.
    """
    expected = passed(network, inputs)
    scale = float(expected.abs().max())
    checks = []
    for name, forward in checked.items():
        outputs = passed(forward, inputs)
        difference = float((outputs - expected).abs().max())
        tolerance = (ONNX_TOLERANCE if name.endswith(".onnx") else TOLERANCE) * scale
        if not difference <= tolerance:  # NaN too
            raise UsageError(
                f"The outputs of the form {name} differ from the network's by up to {difference:.2g}, which is more "
                f"than {tolerance:.2g}."
            )
        checks.append(
            {
                "file": name,
                "max_abs_difference": difference,
                "tolerance": tolerance,
                "test_accuracy": None if labels is None else task.judge(outputs, labels),
            }
        )
    return checks, None if labels is None else task.judge(expected, labels)


def passed(forward: Forward, inputs: Tensor) -> Tensor:
    """The outputs for all inputs, which a network may write into. UsageError for outputs that are no tensor."""
    outputs = [forward(chunk.clone()) for chunk in inputs.split(CHUNK)]
    if not isinstance(outputs[0], Tensor):
        raise UsageError(
            f"The network returns a {type(outputs[0]).__name__}, but must return a tensor; wrap it in a module that "
            "picks one."
        )
    return torch.cat(outputs)


def sizes(
    network: nn.Module, smaller: nn.Module | None, input_shape: Sequence[int], weights: Mapping[str, Tensor]
) -> dict[str, Any]:
    """The prunable ``weights`` as a record's layers, and their MACs; parameters of the network and of its compact form,
    if there is one."""
    dense, sparse = count.macs(network, input_shape, weights)
    everything = sum(parameter.numel() for parameter in network.parameters())
    zeros = sum(weight.numel() - int(weight.count_nonzero()) for weight in weights.values())
    layers: list[dict[str, Any]] = [{"name": name, "shape": list(weight.shape)} for name, weight in weights.items()]
    macs, parameters = {"dense": dense, "sparse": sparse}, {"dense": everything, "nonzero": everything - zeros}
    if smaller is not None:
        compact_weights = {name: smaller.get_parameter(name) for name in weights}
        layers = [{**layer, "compact_shape": list(compact_weights[layer["name"]].shape)} for layer in layers]
        macs["compact"] = count.macs(smaller, input_shape, compact_weights)[0]
        parameters["compact"] = sum(parameter.numel() for parameter in smaller.parameters())
    return {"layers": layers, "macs": macs, "parameters": parameters}


def describe(path: Path) -> dict[str, Any]:
    """A file's name, size in bytes, the same compressed by zlib, and SHA-256."""
    content = path.read_bytes()
    return {
        "name": path.name,
        "bytes": len(content),
        "bytes_zlib": compressed(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def compressed(content: bytes) -> int:
    """Its size in bytes after zlib."""
    return len(zlib.compress(content, 6))


def versions(onnx: bool) -> dict[str, str]:
    packages = ("dwfbench", "torch", "safetensors", *(PACKAGES if onnx else ()))
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}
