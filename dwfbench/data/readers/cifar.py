"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): torchvision's classes, its folder layout and its download."""

import os
from functools import partial
from pathlib import Path

import numpy as np

from dwfbench.data.readers.base import DataError, Form, Known, Places, Source, locate, remedy


def read(name: str, places: Places) -> Source:
    """`cifar10` or `cifar100` (fine labels), with the official training and test parts. Raises DataError."""
    from torchvision import datasets

    cifar = getattr(datasets, name.upper())
    with remedy():
        root = locate(name, places, partial(find, name), lambda target: cifar(target, download=True))
        train, test = _part(cifar, root, train=True), _part(cifar, root, train=False)
    return Source(*_arrays(train), *_arrays(test), classes=len(train.classes))


def _files(cifar) -> list[tuple[str, str]]:
    """Names and MD5 of the files that torchvision reads."""
    return [*map(tuple, cifar.train_list), *map(tuple, cifar.test_list), (cifar.meta["filename"], cifar.meta["md5"])]


def find(name: str, place: Path) -> Path | None:
    """The folder that holds torchvision's folder of the set with all of its files, or None."""
    from torchvision import datasets

    cifar = getattr(datasets, name.upper())
    named_folder = [place.parent] if place.name == cifar.base_folder else []
    for root in (place, place / name, *named_folder):
        if all(os.path.isfile(root / cifar.base_folder / file) for file, _ in _files(cifar)):
            return root
    return None


def _part(cifar, root: Path, train: bool):
    # The official files are pickles, and unpickling can run code. It is safe here because torchvision's constructor
    # compares the MD5 of every batch with the published one first, be it downloaded or found on disk, and that of the
    # meta file before it reads that: only the authors' own bytes are ever unpickled.
    try:
        return cifar(root, train=train)
    except Exception as error:
        from torchvision.datasets.utils import check_integrity

        folder = root / cifar.base_folder
        damaged = [folder / file for file, md5 in _files(cifar) if not check_integrity(folder / file, md5)]
        reason = f"{damaged[0]} is damaged: its MD5 is not that of the official file" if damaged else str(error)
        raise DataError(f"{reason}; remove {folder} to have it downloaded again") from error


def _arrays(part) -> tuple[np.ndarray, np.ndarray]:
    return np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.array(part.targets, dtype=np.int64)


SETS = {
    name: Known(
        f"60,000 photographs, 3x32x32, {classes} classes",
        "Krizhevsky 2009",
        partial(read, name),
        partial(find, name),
        Form(50_000, 10_000, (3, 32, 32), classes),
    )
    for name, classes in (("cifar10", 10), ("cifar100", 100))
}
