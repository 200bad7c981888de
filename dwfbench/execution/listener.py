"""What is told while runs are trained, and to whom."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dwfbench.runs.record import Record
from dwfbench.runs.spec import RunSpec

Rows = Mapping[str, list[Mapping[str, Any]]]
"""What is new of the histories of runs, by their ids."""


class Listener(Protocol):
    """What a worker tells while it trains.

    ``compiling``: a curve's step is compiled, which takes its first epoch some seconds. ``epoch``: ``epochs`` of a
    group of lanes are over; ``row`` is the history's of the lane in the middle, ``rows`` are those of all.
    """

    def compiling(self, label: str) -> None: ...
    def epoch(self, label: str, lanes: int, row: Mapping[str, Any], epochs: int, rows: Rows) -> None: ...
    def note(self, text: str) -> None: ...


EVENTS = ("compiling", "epoch", "note")
"""The calls of a listener."""


class Teller:
    """A listener in another process, which passes on the name and the arguments of every call."""

    def tell(self, event: str, *details: Any) -> None:
        raise NotImplementedError

    def compiling(self, *details: Any) -> None:
        self.tell("compiling", *details)

    def epoch(self, *details: Any) -> None:
        self.tell("epoch", *details)

    def note(self, *details: Any) -> None:
        self.tell("note", *details)


class Progress(Listener, Protocol):
    """What is told of the progress; ``dwfbench.cli.progress`` shows it."""

    def curve(self, label: str, specs: Sequence[RunSpec], pending: int, epochs: int) -> None: ...
    def run(self, record: Record, history: list[dict]) -> None: ...
