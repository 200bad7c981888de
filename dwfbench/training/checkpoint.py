"""Unfinished training on disk: one safetensors file a group of lanes, with a JSON text in its header.

A file is replaced as a whole, so a kill at any moment leaves the old one or the new one. It is written every few
minutes, and when the process is asked to stop: training then ends at the next step, with nothing lost.
"""

import json
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dwfbench.base import files
from dwfbench.base.files import replace

MOST = 1 << 40
"""Bytes of a checkpoint: what is larger is none."""

SUFFIX = ".safetensors"

SCHEMA = 2
"""Version of a checkpoint's content; others are refused."""


class Place(Protocol):
    """Where checkpoints are kept, by their keys.

    ``read`` and ``write`` raise OSError; ``read`` returns None for what is not there. ``str`` names the place.
    """

    def read(self, key: str) -> bytes | None: ...
    def write(self, key: str, content: bytes) -> None: ...


class Folder:
    """Files of a folder, which is made when it is first needed."""

    def __init__(self, path: Path):
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def file(self, key: str) -> Path:
        return self.path / f"{key}{SUFFIX}"

    def read(self, key: str) -> bytes | None:
        try:
            return files.content(self.file(key), MOST)
        except FileNotFoundError:
            return None

    def write(self, key: str, content: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        replace(self.file(key), content)

    def drop(self, key: str) -> None:
        """Remove a checkpoint, if there is one, and the folder once it is empty."""
        self.file(key).unlink(missing_ok=True)
        self.tidy()

    def sweep(self, ended: set[str]) -> None:
        """Remove what killed commands left: half-written files, checkpoints of ``ended`` runs (their identities)."""
        files.sweep(self.path)
        for path in self.path.glob(f"*{SUFFIX}"):
            try:
                with files.opened(path) as file:
                    runs = facts_of(files.beginning(file, files.MOST_JSON))["runs"]
                if ended.issuperset(runs):
                    path.unlink(missing_ok=True)
            except UNREADABLE:  # whoever resumes it says so
                continue
        self.tidy()

    def tidy(self) -> None:
        """Remove the folder if it is empty."""
        with suppress(OSError):
            self.path.rmdir()


class Checkpoints:
    """The checkpoints of one place, due every ``minutes``. ``note`` is told of what cannot be read or written."""

    def __init__(self, place: Place, minutes: float, note: Callable[[str], None]):
        self.place, self.interval, self.note = place, 60 * minutes, note
        self.next = time.monotonic() + self.interval

    def due(self) -> bool:
        """Whether to save now: it is time, or the process was asked to stop."""
        return stop.asked or time.monotonic() >= self.next

    def save(self, key: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Keep a group. A disk that is full costs the checkpoint, never the training."""
        header = {"checkpoint": json.dumps({"schema": SCHEMA, **facts})}
        content = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        try:
            self.place.write(key, save(content, metadata=header))
        except OSError as error:
            self.note(f"No checkpoint could be written to {self.place} ({error.strerror or error}); training goes on.")
        self.next = time.monotonic() + self.interval

    def load(self, key: str, expected: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and facts of a group, or None. ``expected`` are facts that it must have, such as its specs.

        What is damaged, or of other runs, is told in a sentence and counts as absent.
        """
        name = f"{self.place}/{key}{SUFFIX}"
        try:
            if (content := self.place.read(key)) is None:
                return None
            facts = facts_of(content)
            tensors = load(content)
        except UNREADABLE as error:
            self.note(f"{name} is not a readable checkpoint ({type(error).__name__}); the run starts over.")
            return None
        wrong = [name for name, value in {"schema": SCHEMA, **expected}.items() if facts.get(name) != value]
        if wrong:
            self.note(f"{name} is a checkpoint of another {' and '.join(wrong)}; the run starts over.")
            return None
        return tensors, facts


UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError, struct.error, SafetensorError)


def facts_of(content: bytes) -> dict[str, Any]:
    """The facts of a checkpoint, from its header. Raises one of UNREADABLE where it is damaged."""
    (length,) = struct.unpack("<Q", content[:8])
    facts = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["checkpoint"])
    if not isinstance(facts, dict):
        raise ValueError
    return facts


# ---------------------------------------------------------------- being asked to stop


class Stop:
    """Whether this process was asked to stop."""

    asked = False

    def ask(self, *_: Any) -> None:
        """A signal's handler: the first one waits for the end of a step, the second does not."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def obey(self) -> None:
        """End here if asked to. Raises KeyboardInterrupt."""
        if self.asked:
            raise KeyboardInterrupt


stop = Stop()


@contextmanager
def stopping_at_steps() -> Iterator[None]:
    """SIGINT and SIGTERM (a cluster's warning) take effect between two steps, with a checkpoint, in this context."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop.ask) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
        stop.asked = False
