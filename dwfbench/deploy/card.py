"""README.md of an export: what the files are, how they are used, and the evaluation as the Hugging Face Hub reads it.

The Hub takes a model's results from the ``model-index`` in the YAML at the head of its README.md.
"""

import json
from collections.abc import Mapping
from typing import Any

from dwfbench.base.text import ACCURACY

WHAT = {
    "model.safetensors": "the state dict, zeros included",
    "model.sparse.safetensors": "the same, its matrices in CSR form (see `weights` in load.py)",
    "model.onnx": "the network for onnxruntime and others: input `images`, output `outputs`",
    "compact.pt2": "the network without dead neurons and channels, code and all, for `torch.export.load`",
    "compact.safetensors": "its weights",
    "compact.onnx": "the same for onnxruntime",
    "load.py": "loads the network and the weights with PyTorch alone",
}


def card(manifest: Mapping[str, Any]) -> str:
    """The text of README.md. ``manifest`` is the export's, with what is known of the run, if anything is."""
    name = f"{manifest.get('model', 'network')}-{manifest.get('dataset', 'data')}".replace("@", "-")
    label = manifest.get("label", "a sparse network")
    head = f"---\n{json.dumps(front(manifest, name), indent=2)}\n---"  # YAML takes JSON
    used = USE.format(**(IMAGES if of_images(manifest) else SAMPLES)) + note(manifest)
    return f"{head}\n\n# {name}: {label}\n\n{outcome(manifest)}\n\n{FILES}\n{files(manifest)}\n\n{used}"


def front(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The head of the card, which the Hub reads."""
    method, dataset, score = manifest.get("method"), manifest.get("dataset", "unknown"), manifest["score"]
    task = "image-classification" if of_images(manifest) and score == ACCURACY else "other"
    said = {
        "library_name": "pytorch",
        "pipeline_tag": task,
        "tags": ["sparsity", "pruning", "dwfbench", *([method] if method else [])],
    }
    measured = [
        {"type": score, "name": f"Test {score}", "value": manifest.get("test_accuracy")},
        {
            "type": "compression_ratio",
            "name": "Compression ratio (weights / weights that are not zero)",
            "value": manifest.get("compression"),
        },
    ]
    if metrics := [metric for metric in measured if metric["value"] is not None]:
        result = {
            "task": {"type": task, "name": task.replace("-", " ").title()},
            "dataset": {"type": dataset, "name": dataset, "split": "test"},
            "metrics": metrics,
        }
        said["model-index"] = [{"name": name, "results": [result]}]
    return said


def of_images(manifest: Mapping[str, Any]) -> bool:
    """Whether the network is known to take images: what is none is not normalised."""
    return "normalization" in manifest


def outcome(manifest: Mapping[str, Any]) -> str:
    sentences, sample, score = [], "image" if of_images(manifest) else "sample", manifest["score"]
    if (reached := manifest.get("test_accuracy")) is not None:
        tested = f"{manifest['samples']:,} test {sample}s"
        sentences.append(
            f"{100 * reached:.2f} % of {tested} are classified correctly."
            if score == ACCURACY
            else f"Its {score} on {tested} is {reached:.4f}."
        )
    if manifest.get("compression") is not None:
        sentences.append(f"Of {manifest['compression']:.4g} weights one is not zero (compression ratio numel / nnz).")
    macs, parameters = manifest["macs"], manifest["parameters"]
    sentences.append(f"Multiplications for each {sample}: {listed(macs)}. Parameters: {listed(parameters)}.")
    if "run" in manifest:
        sentences.append(
            f"Trained by dwfbench, run `{manifest['run']}`; evaluated on the test set once, after the last epoch."
        )
    return "\n".join(sentences)


def listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{form} {count:,}" for form, count in counts.items())


FILES = "## Files\n\n| File | Bytes | What it is |\n| --- | ---: | --- |"


def files(manifest: Mapping[str, Any]) -> str:
    rows = [(file["name"], f"{file['bytes']:,}") for file in manifest["files"]]
    return "\n".join(f"| {name} | {size} | {WHAT[name]} |" for name, size in [*rows, ("load.py", "")])


USE = """## Use

`python load.py` checks the files and runs the network once; it needs PyTorch alone. In Python:

```python
from load import load, logits, weights

network = load()  # {loaded}
scores = {called}
tensors = weights("model.sparse.safetensors")
```
"""
IMAGES = {
    "loaded": "float32 images, normalised as manifest.json says -> logits",
    "called": "logits(images)  # uint8 images (N, C, H, W)",
}
SAMPLES = {"loaded": "float32 inputs, as in training -> outputs", "called": "logits(inputs)"}


def note(manifest: Mapping[str, Any]) -> str:
    shape = "x".join(map(str, manifest["input_shape"]))
    inputs = f"images of {shape} (channels, height, width)" if of_images(manifest) else f"of shape {shape}"
    return (
        f"\nInputs are {inputs}. `load` and `logits` need the file compact.pt2. Its "
        "outputs were compared with the network's on the test set; manifest.json has the largest differences.\n"
    )
