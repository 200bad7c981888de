"""Decoded images kept on disk, so that a set of JPEG files is decoded once. May be deleted at any time.

A file is named by what was decoded and how, so it is never out of date; it is checked whenever it is read. Nothing
fails for want of a cache.
"""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dwfbench.base.errors import first_line
from dwfbench.base.files import sweep, temporary
from dwfbench.base.streams import message

VERSION = 3  # of the way images are decoded and resized: another one has other pixels
WORTH_SECONDS = 0.5  # what is decoded faster than this is not worth a file


def path(root: Path, digest: str, side: int | None) -> Path:
    """Where the images with this content digest, resized to this side or not, are kept below `root`."""
    return root / "decoded" / f"{digest[:32]}-{side or 'original'}-{VERSION}.safetensors"


def cached(file: Path, count: int, decode: Callable[[], np.ndarray]) -> np.ndarray:
    """The `count` images in `file`, uint8 (count, C, H, W); `decode()` gives them if it is absent or damaged."""
    if os.path.isfile(file):
        try:
            return _load(file, count)
        except Exception as error:  # from safetensors' header to a full memory: the way on is the same
            message(f"the cached images in {file} are damaged ({first_line(error)}) and are decoded again")
    started = time.monotonic()
    images = decode()
    if time.monotonic() - started >= WORTH_SECONDS:
        _store(file, images)
    return images


def _load(file: Path, count: int) -> np.ndarray:
    from safetensors import safe_open

    with safe_open(file, "np") as content:
        images, checksum = content.get_tensor("images"), (content.metadata() or {}).get("sha256")
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != count:
        raise ValueError(f"not {count} images but {images.dtype} {images.shape}")
    if checksum != hashlib.sha256(images).hexdigest():
        raise ValueError("wrong checksum")
    return images


def _store(file: Path, images: np.ndarray) -> None:
    from safetensors.numpy import save_file

    part = temporary(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        sweep(file.parent)
        save_file({"images": images}, part, metadata={"sha256": hashlib.sha256(images.data).hexdigest()})
        os.replace(part, file)
    except Exception:  # a read-only home or a full disk: the images are at hand all the same
        pass
    finally:
        if os.path.exists(part):
            os.unlink(part)
