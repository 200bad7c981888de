"""The tables beside a record, ``history.csv`` and ``weights.csv``: rows of epochs as text, and text as such rows."""

import csv
import io
import itertools
import math
from typing import Any

import msgspec

from dwfbench.runs.record import HISTORY, LARGEST, HistoryRow, Measurement, Record, Sizes


def with_tables(
    record: Record, history: str | None, weights: str | None, measurement: Measurement | None = None
) -> Record:
    """A record with the rows of its tables, given as CSV texts, and with its measurement.

    A damaged table has no rows: the record counts without it. None leaves a table out.
    """
    return msgspec.structs.replace(
        record,
        history=None if history is None else [HistoryRow(**_known(row)) for row in _rows(history)],
        weights=None if weights is None else [_counted(row) for row in _rows(weights) if _counts(row)],
        measurement=measurement,
    )


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in HISTORY if name in row}


def _counted(row: dict[str, Any]) -> Sizes:
    return Sizes(epoch=row["epoch"], sizes={name: count for name, count in row.items() if name != "epoch"})


def history_text(history: list[dict]) -> str:
    """history.csv of the rows that training gives."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in history:  # nine digits are a float32's, and tell the CR of one zero among a hundred million weights
        writer.writerow({key: f"{v:.9g}" if isinstance(v, float) else v for key, v in row.items()})
    return text.getvalue()


def weights_text(history: list[dict]) -> str:
    """weights.csv of rows that have sizes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ("epoch", *history[0]["sizes"]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({"epoch": row["epoch"], **row["sizes"]} for row in history)
    return text.getvalue()


def _rows(table: str) -> list[dict]:
    """Rows of finite numbers by epoch; what is blank or infinite is None. A damaged table is empty."""
    try:
        reader = csv.DictReader(io.StringIO(table, newline=""), strict=True)
        rows: list[dict[str, Any]] = [
            {name: float(cell) if cell else None for name, cell in row.items()} for row in reader
        ]
        rows = [{name: v if v is None or abs(v) < LARGEST else None for name, v in row.items()} for row in rows]
        return [{**row, "epoch": int(row["epoch"])} for row in rows if row.get("epoch") is not None]
    except (ValueError, TypeError, csv.Error):
        return []


def _counts(row: dict) -> bool:
    """Whether a row of weights.csv has numbers of weights, not all zero, in bins from "zero" upwards."""
    _, *bins = row
    counts = [row[name] for name in bins]
    if bins[:1] != ["zero"] or not all(count is not None and count >= 0 for count in counts) or not sum(counts):
        return False
    try:
        ends = [float(name) for name in bins[1:]]
    except ValueError:
        return False
    return all(low < high for low, high in itertools.pairwise([-math.inf, *ends, math.inf]))
