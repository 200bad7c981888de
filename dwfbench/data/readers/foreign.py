"""Data sets of installed packages: their readers are ours to call and theirs to get wrong, so all is checked."""

from importlib.metadata import EntryPoint

import numpy as np

from dwfbench.base import plugins
from dwfbench.base.errors import UsageError
from dwfbench.base.foreign import contained, told
from dwfbench.data.readers.base import DataError, Places, Source


def read(point: EntryPoint, places: Places) -> Source:
    """What a package's reader returns, with arrays of the types and shapes of `Source` (tensors become arrays).

    Raises UsageError for a reader that cannot be loaded and DataError for one that fails or returns something else.
    """
    reader = plugins.load("data set", point)
    try:
        with contained():
            found = reader(places)
            if isinstance(found, Source):
                found = _arrays(found)
            why = fault(found)
    except UsageError:
        raise
    except Exception as error:
        raise DataError(plugins.broken("data set", point, told(error))) from error
    if why:
        raise DataError(plugins.broken("data set", point, why))
    return found


def fault(source: object) -> str | None:
    """What in the result of a reader breaks the contract, as half a sentence; None where all is well."""
    if not isinstance(source, Source):
        return f"it returned {type(source).__name__} and not a dwfbench.data.Source"
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


def _arrays(source: Source) -> Source:
    """The same with numpy arrays that can be written to, as torch wants them; integers of any size become int64."""
    images = [np.require(part, requirements=("C", "W")) for part in (source.train_images, source.test_images)]
    labels = [np.asarray(part) for part in (source.train_labels, source.test_labels)]
    labels = [part.astype(np.int64) if part.dtype.kind in "iu" else part for part in labels]
    return Source(images[0], labels[0], images[1], labels[1], source.classes)
