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
    head = "\n".join(["---", *front(manifest, name), "---"])
    used = USE.format(**(IMAGES if of_images(manifest) else SAMPLES)) + note(manifest)
    return f"{head}\n\n# {name}: {label}\n\n{outcome(manifest)}\n\n{FILES}\n{files(manifest)}\n\n{used}"


def front(manifest: Mapping[str, Any], name: str) -> list[str]:
    """The YAML, whose values are JSON."""
    method, dataset = manifest.get("method"), manifest.get("dataset", "unknown")
    task = "image-classification" if of_images(manifest) and manifest["score"] == ACCURACY else "other"
    lines = [f"library_name: {text('pytorch')}", f"pipeline_tag: {text(task)}", "tags:"]
    lines += [f"- {text(tag)}" for tag in ("sparsity", "pruning", "dwfbench", *([method] if method else []))]
    results = metrics(manifest)
    if not results:
        return lines
    lines += ["model-index:", f"- name: {text(name)}", "  results:", "  - task:"]
    lines += [f"      type: {text(task)}", f"      name: {text(task.replace('-', ' ').title())}"]
    lines += [
        "    dataset:",
        f"      type: {text(dataset)}",
        f"      name: {text(dataset)}",
        f"      split: {text('test')}",
    ]
    lines += ["    metrics:"]
    for metric, title, value in results:
        lines += [f"    - type: {text(metric)}", f"      name: {text(title)}", f"      value: {json.dumps(value)}"]
    return lines


def metrics(manifest: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """(type, name, value) of what was measured: accuracies and scores are fractions."""
    score = manifest["score"]
    rows = [
        (score, f"Test {score}", manifest.get("test_accuracy")),
        ("compression_ratio", "Compression ratio (weights / weights that are not zero)", manifest.get("compression")),
    ]
    return [(metric, title, value) for metric, title, value in rows if value is not None]


def of_images(manifest: Mapping[str, Any]) -> bool:
    """Whether the network is known to take images: what is none is not normalised."""
    return "normalization" in manifest


def text(value: str) -> str:
    """A text in YAML, which takes JSON's."""
    return json.dumps(value)


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
