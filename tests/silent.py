"""A listener that shows nothing."""

from collections.abc import Mapping
from typing import Any

from dwfbench.execution.listener import Rows


class Silent:
    """A listener that shows nothing, and keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def compiling(self, label: str) -> None:
        pass

    def epoch(self, label: str, lanes: int, row: Mapping[str, Any], epochs: int, rows: Rows) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)
