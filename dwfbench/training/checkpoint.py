"""Unfinished training on disk: one safetensors file a group of lanes, with a JSON text and a digest in its header.

A file is replaced as a whole, so a kill at any moment leaves the old one or the new one. It is written every few
minutes, and when the process is asked to stop: training then ends at the next step, with nothing lost. It is believed
only where the digest is that of its tensors and its text, and the text says what ``Facts`` is.
"""

import hashlib
import json
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import torch
from msgspec import Struct, structs
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dwfbench.base import files
from dwfbench.base.files import replace
from dwfbench.runs.record import Counting, HistoryRow, Positive, Whole

MOST = 1 << 40
"""Bytes of a checkpoint: what is larger is none."""

SUFFIX = ".safetensors"

SCHEMA = 4
"""Version of a checkpoint's content; others are refused."""


class Row(HistoryRow, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of a lane's history, with how many weights are how large (``count.SIZES``)."""

    sizes: dict[str, Whole]


class LaneFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a checkpoint says of a lane; see ``group.Trained``."""

    status: Literal["ok", "diverged"]
    error: str | None
    history: list[Row]
    seconds: Positive
    overhead_seconds: Positive
    lanes: Counting
    notes: tuple[str, ...] = ()


class GroupFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it says of the group; see ``group.Group``. ``order`` are the names of its tensors, ``elapsed`` the seconds
    since the last row of the history, ``origins`` the epochs of the networks to which later stages go back."""

    epoch: Whole
    position: Whole
    stage: Whole
    steps: Whole
    origins: list[Whole]
    elapsed: Positive
    order: list[str]
    lanes: list[LaneFacts]


class Identity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a checkpoint must agree in with those who resume it: the runs, by their identities, the data's checksum and
    the version of dwfbench."""

    runs: list[str]
    data: str
    version: str
    schema: int = SCHEMA


class Facts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The text of a checkpoint."""

    identity: Identity
    group: GroupFacts


class Place(Protocol):
    """Where checkpoints are kept, by their keys.

    ``read`` and ``write`` raise OSError; ``read`` returns None for what is not there. ``identities`` are those of what
    is there, by key, as far as it can be read. ``str`` names the place.
    """

    def read(self, key: str) -> bytes | None: ...
    def write(self, key: str, content: bytes) -> None: ...
    def identities(self) -> "dict[str, Identity]": ...


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
        self.path.mkdir(exist_ok=True)  # without a results folder, which was moved away, there is no place for it
        replace(self.file(key), content)

    def drop(self, key: str) -> None:
        """Remove a checkpoint, if there is one and one may, and the folder once it is empty."""
        with suppress(OSError):
            files.remove(self.file(key))
        self.tidy()

    def sweep(self, identities: set[str]) -> None:
        """Remove what killed commands left: half-written files, checkpoints of ended runs, by their ``identities``."""
        files.sweep(self.path)
        for key, identity in self.identities().items():
            if identity.runs and identities.issuperset(identity.runs):
                self.drop(key)
        self.tidy()

    def forget(self, identities: set[str]) -> None:
        """Remove every checkpoint with one of these runs, so that they begin anew; others of its group do, too."""
        for key, identity in self.identities().items():
            if not identities.isdisjoint(identity.runs):
                self.drop(key)

    def identities(self) -> dict[str, Identity]:
        known = {}
        for path in sorted(self.path.glob(f"*{SUFFIX}")):
            with suppress(*UNREADABLE):  # whoever resumes it says so
                with files.opened(path) as file:
                    text, _ = header_of(files.beginning(file, files.MOST_JSON))
                known[path.name.removesuffix(SUFFIX)] = msgspec.json.decode(text, type=Facts).identity
        return known

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

    def save(self, key: str, tensors: dict[str, Tensor], facts: Facts) -> None:
        """Keep a group. A disk that is full costs the checkpoint, never the training."""
        try:
            self.place.write(key, sealed(tensors, facts))
        except OSError as error:
            self.note(f"No checkpoint could be written to {self.place} ({error.strerror or error}); training goes on.")
        self.next = time.monotonic() + self.interval

    def load(
        self, key: str, expected: Identity, lanes: Sequence[str] = ()
    ) -> tuple[dict[str, Tensor], GroupFacts, list[int]] | None:
        """Tensors and facts of a group, and which of its lanes are the runs expected, or ``lanes`` of them; or None.

        Where there is no checkpoint of just these runs, that of a larger group is taken, of which others are stored by
        now, or were trained with more lanes. What is damaged, or of other runs, is told and counts as absent.
        """
        try:
            if (content := self.place.read(key)) is None:
                return self.among_others(expected)
            tensors, facts = opened(content)
        except UNREADABLE as error:
            self.refuse(key, f"is not a readable checkpoint ({type(error).__name__})")
            return None
        names = expected.__struct_fields__
        if wrong := [name for name in names if getattr(facts.identity, name) != getattr(expected, name)]:
            self.refuse(key, f"is a checkpoint of another {' and '.join(wrong)}")
            return None
        return tensors, facts.group, [facts.identity.runs.index(run) for run in lanes or expected.runs]

    def among_others(self, expected: Identity) -> tuple[dict[str, Tensor], GroupFacts, list[int]] | None:
        """The same of a group of these runs and others."""
        for key, identity in self.place.identities().items():
            alike = structs.replace(identity, runs=expected.runs) == expected
            if alike and set(expected.runs) < set(identity.runs):
                return self.load(key, identity, expected.runs)
        return None

    def refuse(self, key: str, why: str) -> None:
        """Say that a group's checkpoint is not resumed."""
        self.note(f"{self.place}/{key}{SUFFIX} {why}; the run starts over.")


UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, RecursionError),
    *(struct.error, SafetensorError, msgspec.MsgspecError),
)


def sealed(tensors: dict[str, Tensor], facts: Facts) -> bytes:
    """The content of a checkpoint."""
    text = msgspec.json.encode(facts).decode()
    content = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    return save(content, metadata={"checkpoint": text, "digest": digest(content, text)})


def opened(content: bytes) -> tuple[dict[str, Tensor], Facts]:
    """Tensors and facts of a checkpoint. Raises one of UNREADABLE where it is damaged."""
    text, expected = header_of(content)
    tensors = load(content)
    facts = msgspec.json.decode(text, type=Facts)
    if digest(tensors, text) != expected or sorted(tensors) != sorted(facts.group.order):
        raise ValueError
    return tensors, facts


def header_of(content: bytes) -> tuple[str, str]:
    """Text and digest of a checkpoint of which at least the header is there. Raises one of UNREADABLE."""
    (length,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    return metadata["checkpoint"], metadata["digest"]


def digest(tensors: dict[str, Tensor], text: str) -> str:
    """SHA-256 of a text, and of tensors with their names, types and shapes."""
    sha256 = hashlib.sha256(text.encode() + b"\0")
    for name, tensor in sorted(tensors.items()):
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        numbers: Any = tensor.reshape(-1).view(torch.uint8).numpy()
        sha256.update(numbers)
    return sha256.hexdigest()


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

    def ask(*_: Any) -> None:
        stop.ask()
        os.write(2, b"Stopping after the step under way, with a checkpoint; a second interrupt ends it at once.\n")

    signals = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, ask) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, handlers, strict=True):
            signal.signal(number, handler)
        stop.asked = False
