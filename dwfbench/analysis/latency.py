"""Measurements of ``dwfbench measure``, kept beside the records in ``measure.json``, as a tidy frame."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dwfbench.base.files import write_json
from dwfbench.runs.decode import measurement_of
from dwfbench.runs.record import MEASUREMENT_SCHEMA, Measurement, Record
from dwfbench.runs.store import MEASUREMENT, read_json

RUN = ["id", "label", "method", "depth", "dataset", "model", "seed", "epochs", "compression", "numel", "score"]
OF_TIMES = ("median", "iqr", "outliers", "speedup", "low", "high")
OF_PLACES = ("device_name", "threads", "load")
MEASURED = ["form", "batch", "accuracy", "macs", "bytes", "bytes_zlib", *OF_TIMES, *OF_PLACES]


def write(folder: Path, measured: Mapping[str, Any]) -> Measurement:
    """Keep in a run's folder what was measured; an earlier measurement is replaced.

    Raises UsageError if it cannot be written.
    """
    content = {"schema": MEASUREMENT_SCHEMA, **measured}
    write_json(folder / MEASUREMENT, content)
    return measurement_of(content)


def read(folder: Path) -> Measurement | None:
    """What was measured of a run before; None where there is nothing that can be read."""
    parsed = read_json(folder / MEASUREMENT, measurement_of)
    return None if parsed is None else parsed[1]


def described(measurement: Measurement) -> str:
    """Where, and at which batch sizes, in a few words."""
    batches = ", ".join(str(batch) for batch in sorted({timed.batch for timed in measurement.latency}))
    return f"{measurement.device_name}, batch sizes {batches}"


def rows(measurement: Measurement) -> list[dict[str, Any]]:
    """A row for every form and batch size, with the columns MEASURED."""
    measured_rows = []
    for timed in measurement.latency:
        form = measurement.forms[timed.form]
        row = {
            **{name: getattr(timed, name) for name in ("form", "batch", *OF_TIMES)},
            **{name: getattr(form, name) for name in ("macs", "bytes", "bytes_zlib")},
            **{name: getattr(measurement, name) for name in OF_PLACES},
            "accuracy": 100 * form.test_accuracy,
        }
        measured_rows.append(row)
    return measured_rows


def frame(records: Mapping[str, Record], runs: pd.DataFrame) -> pd.DataFrame:
    """A row for every run of `runs` with a ``measurement`` in its record, form ("dense", "sparse", "compact") and batch
    size.

    Columns RUN, as in ``ResultSet.runs``, and MEASURED: accuracy of the form (percent), MACs, bytes of its file and
    those compressed by zlib, median and interquartile range of the time of a pass (seconds) and outliers among the
    rounds, speed-up over dense with its 95 % interval (NaN: none is known), and where and under what load (NaN: nobody
    knows) it was measured. In the order of the records, the forms and the batch sizes.
    """
    measured = [
        {"id": id_, **row} for id_, record in records.items() if record.measurement for row in rows(record.measurement)
    ]
    table = pd.DataFrame(measured, columns=["id", *MEASURED]).astype({"low": float, "high": float, "load": float})
    return runs[RUN].merge(table, on="id", how="inner")


def undecided(frame: pd.DataFrame) -> pd.Series:
    """Of every row, whether the interval of its speed-up spans 1: it shows neither a speed-up nor a slow-down."""
    return (frame["low"] <= 1) & (frame["high"] >= 1)


def places(frame: pd.DataFrame) -> list[str]:
    """Where the measurements of a frame were made: "AMD EPYC, 1 thread", each once."""
    machines = frame[["device_name", "threads"]].drop_duplicates().itertuples(index=False)
    return [f"{name}, {threads} thread{'s' * (threads != 1)}" for name, threads in machines]
