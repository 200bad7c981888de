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
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dwfbench.store import replace

SCHEMA = 1
"""Version of a checkpoint's content; others are refused."""


class Checkpoints:
    """The checkpoints of one folder, due every ``minutes``. ``note`` is told of what cannot be read or written."""

    def __init__(self, folder: Path, minutes: float, note: Callable[[str], None]):
        self.folder, self.interval, self.note = folder, 60 * minutes, note
        self.next = time.monotonic() + self.interval

    def due(self) -> bool:
        """Whether to save now: it is time, or the process was asked to stop."""
        return stop.asked or time.monotonic() >= self.next

    def save(self, key: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Keep a group. A disk that is full costs the checkpoint, never the training."""
        header = {"checkpoint": json.dumps({"schema": SCHEMA, **facts})}
        content = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace(file(self.folder, key), save(content, metadata=header))
        except OSError as error:
            self.note(f"No checkpoint could be written to {self.folder} ({error.strerror or error}); training goes on.")
        self.next = time.monotonic() + self.interval

    def load(self, key: str, expected: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and facts of a group, or None. ``expected`` are facts that it must have, such as its specs.

        What is damaged, or of other runs, is told in a sentence and counts as absent.
        """
        path = file(self.folder, key)
        try:
            content = path.read_bytes()
            (length,) = struct.unpack("<Q", content[:8])
            facts = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["checkpoint"])
            tensors = load(content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError, struct.error, SafetensorError) as error:
            self.note(f"{path} is not a readable checkpoint ({type(error).__name__}); the run starts over.")
            return None
        wrong = [name for name, value in {"schema": SCHEMA, **expected}.items() if facts.get(name) != value]
        if wrong:
            self.note(f"{path} is a checkpoint of another {' and '.join(wrong)}; the run starts over.")
            return None
        return tensors, facts


def drop(folder: Path, key: str) -> None:
    """Remove a group's checkpoint, if there is one, and the folder once it is empty."""
    file(folder, key).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def file(folder: Path, key: str) -> Path:
    return folder / f"{key}.safetensors"


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
