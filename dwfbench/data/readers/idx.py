"""MNIST and its siblings: four IDX files each, found on disk or downloaded by torchvision."""

import gzip
import math
import os
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from dwfbench.base.files import beginning, opened
from dwfbench.data.readers.base import DataError, Form, Known, Places, Source, locate, remedy

CLASSES = 10  # of every set here
MAX_IDX_BYTES = 1 << 26  # the largest file of any set here has 47 MB: nothing bigger is ever unpacked
# name -> torchvision's class, which is also the folder that torchvision keeps the files in
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}


def read(name: str, places: Places) -> Source:
    """The set `name`, plain or gzipped, in torchvision's layout or in a folder of its name. Raises DataError."""
    with remedy(" or install the Debian package dataset-fashion-mnist" if name == "fashion-mnist" else ""):
        files = files_of(name, places)
        train, test = _read_pair(*files[:2]), _read_pair(*files[2:])
        if train[0].shape[1:] != test[0].shape[1:]:
            raise DataError(f"{files[0]} and {files[2]} hold images of different sizes")
    return Source(*train, *test, classes=CLASSES)


def files_of(name: str, places: Places) -> list[Path]:
    """The files of the set `name`: train images, train labels, test images, test labels. Raises DataError."""
    return locate(name, places, partial(find, name), partial(_download, name))


def read_idx(path: str | Path, ndim: int) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzipped, as a uint8 array with `ndim` axes, none of them empty.

    The format: two zero bytes, the type (8: unsigned byte), the number of axes, one big-endian uint32 for
    each axis, then the values (LeCun's MNIST page). At most MAX_IDX_BYTES are read whatever the header
    claims. Raises DataError, and nothing else, for anything but such a file.
    """
    path = Path(path)
    try:
        with opened(path) as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            unpacked = gzip.GzipFile(fileobj=file)
            content = unpacked.read(MAX_IDX_BYTES + 1) if zipped else beginning(file, MAX_IDX_BYTES)
    except EOFError as error:
        raise DataError(f"{path} is truncated") from error
    except (OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error})") from error

    magic, start = bytes([0, 0, 8, ndim]), 4 + 4 * ndim
    if len(content) > MAX_IDX_BYTES:
        raise DataError(f"{path} holds more than {MAX_IDX_BYTES:,} bytes, which no data set known here has")
    if content[:4] != magic:
        raise DataError(f"{path} starts with '{content[:4].hex()}' and not with the magic number '{magic.hex()}'")
    if len(content) < start:
        raise DataError(f"{path} is truncated: it ends within its header")
    shape = [int(size) for size in np.frombuffer(content, ">u4", count=ndim, offset=4)]
    if math.prod(shape) != len(content) - start or 0 in shape:
        raise DataError(
            f"{path} is truncated or damaged: its header claims {' x '.join(map(str, shape))} values "
            f"but {len(content) - start:,} follow"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def find(name: str, place: Path) -> list[Path] | None:
    """Train images, train labels, test images, test labels, or None if `place` does not have them all."""
    named_folder = [place] if place.name == name else []
    for folder in (place / TORCHVISION[name] / "raw", place / name, *named_folder):
        paths = [
            next((path for path in spelled(folder, part, content) if os.path.isfile(path)), None)
            for part in ("train", "t10k")
            for content in ("images-idx3", "labels-idx1")
        ]
        if len(files := [path for path in paths if path is not None]) == len(paths):
            return files
    return None


def spelled(folder: Path, part: str, content: str) -> list[Path]:
    """What a file may be called: plain or gzipped, with a dash or, as some unpackers write, a dot."""
    stems = [f"{part}-{content}-ubyte", f"{part}-{content.replace('-', '.')}-ubyte"]
    return [folder / f"{stem}{ending}" for stem in stems for ending in ("", ".gz")]


def _download(name: str, target: Path) -> None:
    import torchvision

    getattr(torchvision.datasets, TORCHVISION[name])(target, download=True)


def _read_pair(image_file: Path, label_file: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if len(images) != len(labels):
        raise DataError(f"{image_file} holds {len(images)} images but {label_file} holds {len(labels)} labels")
    if labels.max() >= CLASSES:
        raise DataError(f"{label_file} holds the label {labels.max()}, outside 0 to {CLASSES - 1}")
    return images[:, None], labels.astype(np.int64)


SETS = {
    name: Known(summary, source, partial(read, name), partial(find, name), Form(60_000, 10_000, (1, 28, 28), 10))
    for name, summary, source in (
        ("mnist", "70,000 handwritten digits, 1x28x28, 10 classes", "LeCun, Bottou, Bengio and Haffner 1998"),
        ("fashion-mnist", "70,000 articles of clothing, 1x28x28, 10 classes", "Xiao, Rasul and Vollgraf 2017"),
        ("kmnist", "70,000 cursive Japanese characters, 1x28x28, 10 classes", "Clanuwat et al. 2018"),
    )
}
