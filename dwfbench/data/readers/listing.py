"""Images with labels, listed but not read: what identifies them, and their pixels."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dwfbench.data.readers import cache, decoding
from dwfbench.data.readers.base import DataError, Source
from dwfbench.data.readers.tree import Tree


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of both parts as (name, label), in the order of the arrays. `label_files` says more about them.

    Raises DataError for a single class, of which there is nothing to learn.
    """

    files: Tree
    classes: int
    train: list[tuple[str, int]]
    test: list[tuple[str, int]]
    label_files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise DataError(f"{self.files.path} has one class; a data set needs at least 2")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the files' content, in hex. Reads every file."""
        return self.files.digest([*(name for name, _ in (*self.train, *self.test)), *self.label_files])

    @property
    def identity(self) -> str:
        """`<name>@<12 hex digits>`: files of one name and different content never share it."""
        return f"{self.files.name}@{self.digest[:12]}"

    def read(self, cache_root: Path, side: int | None) -> Source:
        """All images decoded, or taken from the cache below `cache_root`; resized to squares if a side is given.

        Raises DataError for an image that cannot be decoded and for images of different sizes without a side.
        """
        samples = [*self.train, *self.test]
        images = cache.cached(
            cache.path(cache_root, self.digest, side),
            len(samples),
            lambda: decoding.decode(self.files, [name for name, _ in samples], side),
        )
        labels = np.array([label for _, label in samples], dtype=np.int64)
        cut = len(self.train)
        return Source(images[:cut], labels[:cut], images[cut:], labels[cut:], self.classes)
