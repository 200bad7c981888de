"""What all readers share: the arrays they return, the places they search, downloads and their progress."""

import hashlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.request import urlopen

import numpy as np

from dwfbench.base.errors import UsageError, first_line
from dwfbench.base.files import sweep, temporary
from dwfbench.base.streams import message

DOWNLOAD_TIMEOUT = 20  # seconds without an answer; urllib would wait for minutes behind a silent firewall
PATIENCE = 3  # seconds of silence before a bar appears

Found = TypeVar("Found")
Block = TypeVar("Block", bound=Sized)


class DataError(UsageError):
    """Data that is absent, damaged or inconsistent: one sentence naming the file and the remedy."""


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as it is published: images uint8 (N, C, H, W), labels int64 (N,) from 0 to classes - 1."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int

    @property
    def parts(self) -> tuple["Part", "Part"]:
        """Images and labels of the training part, and of the test part."""
        return (self.train_images, self.train_labels), (self.test_images, self.test_labels)

    @cached_property
    def checksum(self) -> str:
        """16 hex digits of the SHA-256 of all pixels and labels."""
        return checksum(*self.parts)


@dataclass(frozen=True, eq=False)
class Tensors:
    """A data set of anything else: inputs float32 (N, ...), as the network takes them, and targets (N, ...).

    ``outputs`` is how many numbers the network gives for a sample. A reader whose targets are no classes (int64 (N,)
    from 0 to outputs - 1) has two attributes, see ``task``: ``loss`` and ``score``.
    """

    train_inputs: np.ndarray
    train_targets: np.ndarray
    test_inputs: np.ndarray
    test_targets: np.ndarray
    outputs: int

    @property
    def parts(self) -> tuple["Part", "Part"]:
        """Inputs and targets of the training part, and of the test part."""
        return (self.train_inputs, self.train_targets), (self.test_inputs, self.test_targets)

    @cached_property
    def checksum(self) -> str:
        """16 hex digits of the SHA-256 of all inputs and targets."""
        return checksum(*self.parts)


Part = tuple[np.ndarray, np.ndarray]


def checksum(*parts: Part) -> str:
    """16 hex digits of the SHA-256 of inputs and targets of each part."""
    digest = hashlib.sha256()
    for inputs, targets in parts:
        digest.update(str(inputs.shape).encode())
        digest.update(np.ascontiguousarray(inputs).data)
        digest.update(np.ascontiguousarray(targets).data)
    return digest.hexdigest()[:16]


class Form(NamedTuple):
    """What a data set is like: the numbers of its training and test images, their shape (C, H, W), its classes."""

    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int


@dataclass(frozen=True)
class Known:
    """A data set known by name: what it is, where it comes from, how it is read, and what of it a folder has.

    ``form`` is known of what may have to be downloaded.
    """

    summary: str
    source: str
    read: Callable[["Places"], Source]
    find: Callable[[Path], object]
    form: Form | None = None


@dataclass(frozen=True)
class Places:
    """Where files are looked for: the folders the user gave, the system's, and the user's cache."""

    given: tuple[Path, ...]
    system: Path
    cache: Path
    download: bool = True

    @property
    def searched(self) -> tuple[Path, ...]:
        return (*self.given, self.system, self.cache)

    @property
    def target(self) -> Path:
        """Where downloads go."""
        return (*self.given, self.cache)[0]


def locate(name: str, places: Places, find: Callable[[Path], Found | None], fetch: Callable[[Path], object]) -> Found:
    """What `find(place)` finds in the first place that has the files of `name`; downloads them where none has.

    `fetch(place)` downloads; whatever it raises becomes a DataError, because it means "no files".
    """
    for place in places.searched:
        if files := find(place):
            return files
    if not places.download:
        raise DataError(f"the files of {name} are not in any of {', '.join(map(str, places.searched))}")
    target = places.target
    message(f"downloading {name} into {target}")
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        fetch(target)
    except Exception as error:  # URLError, RuntimeError, HTTPException, EOFError...
        why = first_line(error)
        raise DataError(f"{name} is not on this machine and its download into {target} failed ({why})") from error
    finally:
        socket.setdefaulttimeout(timeout)
    if files := find(target):
        return files
    raise DataError(f"the download of {name} left no complete set of files in {target}")


@contextmanager
def remedy(addition: str = ""):
    """Adds what the user can do to every DataError from within: for sets that are looked for by name."""
    try:
        yield
    except DataError as error:
        advice = f"point --data-dir or $DWFBENCH_DATA to a folder with intact files{addition}"
        raise DataError(f"{error}; {advice}") from error


def fetch(url: str, target: Path, md5: str) -> None:
    """Download one file; it bears its name only when it is complete. DataError when its MD5 is another one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = temporary(target)
    sweep(target.parent)
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urlopen(url) as response, part.open("xb") as file:
            blocks = iter(lambda: response.read(1 << 20), b"")
            for block in counted(blocks, f"downloading {target.name}", int(response.headers["Content-Length"] or 0)):
                file.write(block)
                digest.update(block)
        if digest.hexdigest() != md5:
            raise DataError(f"{url} sent a file whose MD5 is {digest.hexdigest()} and not {md5}")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def counted(blocks: Iterable[Block], text: str, total: int) -> Iterator[Block]:
    """Passes `blocks` on and counts their lengths up to `total`, on a terminal with a bar if it takes a while."""
    started, done, bar = time.monotonic(), 0, None
    try:
        for block in blocks:
            yield block
            done += len(block)
            if bar is None and sys.stderr.isatty() and time.monotonic() - started > PATIENCE:
                from rich.console import Console
                from rich.progress import Progress

                bar = Progress(console=Console(stderr=True), transient=True)
                bar.start()
                task = bar.add_task(text, total=total or None)
            if bar is not None:
                bar.update(task, completed=done)
    finally:
        if bar is not None:
            bar.stop()
