"""The tables beside a record, ``history.csv`` and ``weights.csv``: rows of epochs as text, and text as such rows."""

import csv
import io
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from dwfbench.runs.record import HISTORY, LARGEST, HistoryRow, Sizes

MOST_CELLS = 1 << 22
"""Of a table: what they become in memory is far larger than their text. 100,000 epochs of 40 bins have as many."""


def rows_of(name: str, text: str, damaged: Callable[[str], object]) -> list:
    """The rows of a table by its name; none of a damaged one, whose name ``damaged`` is told."""
    try:
        return _history(text) if name == "history.csv" else _weights(text)
    except (ValueError, TypeError, KeyError, csv.Error):  # msgspec's are ValueErrors
        damaged(name)
        return []


def _history(table: str) -> list[HistoryRow]:
    rows = [{name: row[name] for name in HISTORY if name in row} for row in _rows(table)]
    return msgspec.convert(rows, list[HistoryRow])


def _weights(table: str) -> list[Sizes]:
    """The rows that count any weights."""
    rows = [
        Sizes(epoch=row["epoch"], sizes={name: count for name, count in row.items() if name != "epoch"})
        for row in _rows(table)
    ]
    if not all(_counts(row.sizes) for row in rows):
        raise ValueError("what it counts is no sizes")
    return [row for row in rows if sum(row.sizes.values())]


def plain(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row that training gives as the table has it."""
    return {name: row.get(name) for name in HISTORY}


def history_text(history: list[dict]) -> str:
    """history.csv of the rows that training gives."""
    rows = [plain(row).values() for row in history]
    # Nine digits are a float32's, and tell the CR of one zero among a hundred million weights.
    return csv_text([HISTORY, *([f"{v:.9g}" if isinstance(v, float) else v for v in row] for row in rows)])


def weights_text(history: list[dict]) -> str:
    """weights.csv of rows that have sizes."""
    bins = list(history[0]["sizes"])
    return csv_text([["epoch", *bins], *([row["epoch"], *(row["sizes"][name] for name in bins)] for row in history)])


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows, the header first, as CSV; None is blank."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _rows(table: str) -> Iterator[dict[str, Any]]:
    """Rows of finite numbers by epoch; what is blank or infinite is None. Raises one of several errors for others."""
    if table.count(",") > MOST_CELLS:
        raise ValueError(f"it has more than {MOST_CELLS:,} cells")
    for row in csv.DictReader(io.StringIO(table, newline=""), strict=True):
        numbers = {name: float(cell) if cell else None for name, cell in row.items()}
        finite: dict[str, Any] = {name: v if v is None or abs(v) < LARGEST else None for name, v in numbers.items()}
        yield finite | {"epoch": int(finite["epoch"])}


def _counts(sizes: Mapping[str, float | None]) -> bool:
    """Whether these are numbers of weights in bins from "zero" upwards."""
    if next(iter(sizes), None) != "zero" or not all(count is not None and count >= 0 for count in sizes.values()):
        return False
    ends = [float(name) for name in list(sizes)[1:]]
    return all(low < high for low, high in itertools.pairwise([-math.inf, *ends, math.inf]))
