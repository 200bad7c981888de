"""Data sets of others: their readers are ours to call and theirs to get wrong, so all is checked."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from dwfbench.base import plugins
from dwfbench.base.errors import UsageError
from dwfbench.base.foreign import contained, told
from dwfbench.data.readers.base import DataError, Places, Source, Tensors

FEW = 64
"""Samples with which a loss is tried."""


def read(load: Callable[[], Any], name: str, places: Places) -> Source | Tensors:
    """What the reader of that name returns, which ``load`` gives, with arrays of the types and shapes of ``Source`` or
    ``Tensors``.

    Raises UsageError for one that cannot be loaded and DataError for one that fails or returns something else.
    """
    reader = load()
    try:
        with contained():
            source = reader(places)
            if isinstance(source, Source):
                source = _arrays(source)
            if isinstance(source, Tensors):
                source = _floats(source)
            why = fault(source) or fault_of_task(reader, source)
    except UsageError:
        raise
    except Exception as error:
        raise DataError(plugins.unusable("data set", name, told(error))) from error
    if why:
        raise DataError(plugins.unusable("data set", name, why))
    return source


def fault(source: object) -> str | None:
    """What in the result of a reader breaks the contract, as half a sentence; None where all is well."""
    if isinstance(source, Tensors):
        return fault_of_tensors(source)
    if not isinstance(source, Source):
        return f"it returned {type(source).__name__} and not a dwfbench.data.Source or Tensors"
    if not isinstance(source.classes, int) or source.classes < 2:
        return f"it must have at least 2 classes, not {source.classes!r}"
    for part in ("train", "test"):
        images, labels = getattr(source, f"{part}_images"), getattr(source, f"{part}_labels")
        if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
            return f"its {part} images are {images.dtype} {images.shape}, not uint8 (N, C, H, W)"
        if labels.shape != images.shape[:1]:
            return f"its {len(images)} {part} images have labels of the shape {labels.shape}"
        if labels.dtype != np.int64:
            return f"its {part} labels are {labels.dtype} and not integers"
        if labels.min() < 0 or labels.max() >= source.classes:
            return f"its {part} labels go from {labels.min()} to {labels.max()}, not from 0 to {source.classes - 1}"
    if source.train_images.shape[1:] != source.test_images.shape[1:]:
        return (
            f"its images are {source.train_images.shape[1:]} for training but {source.test_images.shape[1:]} for test"
        )
    return None


def fault_of_tensors(source: Tensors) -> str | None:
    """The same of tensors."""
    if not isinstance(source.outputs, int) or source.outputs < 1:
        return f"it must have at least 1 output, not {source.outputs!r}"
    for part in ("train", "test"):
        inputs, targets = getattr(source, f"{part}_inputs"), getattr(source, f"{part}_targets")
        if inputs.dtype != np.float32 or inputs.ndim < 2 or 0 in inputs.shape or not np.isfinite(inputs).all():
            return f"its {part} inputs are {inputs.dtype} {inputs.shape}, not finite numbers (N, ...)"
        if targets.shape[:1] != inputs.shape[:1]:
            return f"its {len(inputs)} {part} inputs have targets of the shape {targets.shape}"
        if not np.isfinite(targets).all():
            return f"its {part} targets are not all finite numbers"
    if source.train_inputs.shape[1:] != source.test_inputs.shape[1:]:
        return (
            f"its inputs are {source.train_inputs.shape[1:]} for training but {source.test_inputs.shape[1:]} for test"
        )
    return None


def fault_of_task(reader: Any, source: Source | Tensors) -> str | None:
    """The same of a reader's loss and score, which tensors need unless their targets are classes."""
    hooks = [name for name in ("loss", "score") if callable(getattr(reader, name, None))]
    if len(hooks) == 1:
        return f"it has a {hooks[0]} but no {'score' if hooks == ['loss'] else 'loss'}"
    if hooks:
        return fault_of_hooks(reader, source)
    if isinstance(source, Source):
        return None
    for targets in (source.train_targets, source.test_targets):
        classes = targets.dtype == np.int64 and targets.ndim == 1 and source.outputs > 1
        if not classes or targets.min() < 0 or targets.max() >= source.outputs:
            return f"its targets are not all classes from 0 to {source.outputs - 1}, and it has no loss and score"
    return None


def fault_of_hooks(reader: Any, source: Source | Tensors) -> str | None:
    """What a loss and a score do with outputs at random, for the first targets to train on and for those of the test
    set; an error that they raise is passed on."""
    if isinstance(source, Tensors):
        outputs, trained, tested = source.outputs, source.train_targets, source.test_targets
    else:
        outputs, trained, tested = source.classes, source.train_labels, source.test_labels
    random = torch.Generator().manual_seed(0)
    few = torch.from_numpy(trained[:FEW])
    loss = reader.loss(torch.randn(len(few), outputs, generator=random), few)
    if not isinstance(loss, torch.Tensor) or loss.dim():
        what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        return f"its loss must return a tensor that is one number, the mean over the samples, not {what}"
    score = reader.score(torch.randn(len(tested), outputs, generator=random), torch.from_numpy(tested))
    try:
        float(score)
    except (TypeError, ValueError, RuntimeError):
        return f"its score must return one number, not {type(score).__name__}"
    return None


def _floats(source: Tensors) -> Tensors:
    """The same with arrays that can be written to: real numbers become float32, whole targets int64."""
    inputs = [np.require(part, np.float32, ("C", "W")) for part in (source.train_inputs, source.test_inputs)]
    targets = [np.asarray(part) for part in (source.train_targets, source.test_targets)]
    dtypes = [np.int64 if part.dtype.kind in "iub" else np.float32 for part in targets]
    targets = [np.require(part, dtype, ("C", "W")) for part, dtype in zip(targets, dtypes, strict=True)]
    return Tensors(inputs[0], targets[0], inputs[1], targets[1], source.outputs)


def _arrays(source: Source) -> Source:
    """The same with numpy arrays that can be written to, as torch wants them; integers of any size become int64."""
    images = [np.require(part, requirements=("C", "W")) for part in (source.train_images, source.test_images)]
    labels = [np.asarray(part) for part in (source.train_labels, source.test_labels)]
    labels = [part.astype(np.int64) if part.dtype.kind in "iu" else part for part in labels]
    return Source(images[0], labels[0], images[1], labels[1], source.classes)
