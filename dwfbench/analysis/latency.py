"""Measurements of ``dwfbench measure``, kept beside the records in ``measure.json``, as a tidy frame."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dwfbench.analysis import curves
from dwfbench.runs.store import MEASUREMENT, MEASUREMENT_SCHEMA, write_json

RUN = ["id", "label", "method", "depth", "dataset", "model", "seed", "epochs", "compression"]
MEASURED = [
    *("form", "batch", "accuracy", "macs", "bytes", "bytes_zlib", "median", "iqr", "speedup"),
    *("device_name", "threads"),
]


def write(folder: Path, measurement: Mapping[str, Any]) -> None:
    """Keep a measurement in a run's folder; an earlier one is replaced. Raises UsageError if it cannot be written."""
    write_json(folder / MEASUREMENT, {"schema": MEASUREMENT_SCHEMA, **measurement})


def rows(measurement: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for every form and batch size, with the columns MEASURED."""
    made = []
    for one in measurement["latency"]:
        form = measurement["forms"][one["form"]]
        row = {
            **{key: one[key] for key in ("form", "batch", "median", "iqr", "speedup")},
            **{key: form[key] for key in ("macs", "bytes", "bytes_zlib")},
            **{key: measurement[key] for key in ("device_name", "threads")},
            "accuracy": 100 * form["test_accuracy"],
        }
        made.append(row)
    return made


def frame(records: Iterable[dict]) -> pd.DataFrame:
    """A row for every run with a ``measurement`` in its record, form ("dense", "sparse", "compact") and batch size.

    Columns RUN, as in ``curves.frame``, and MEASURED: accuracy of the form (percent), MACs, bytes of its file and those
    compressed by zlib, median and interquartile range of the time of a pass (seconds), speed-up over dense, and where
    it was measured. In the order of the records, the forms and the batch sizes.
    """
    records = list(records)
    measured = [
        {"id": run["id"], **row} for run in records if run.get("measurement") for row in rows(run["measurement"])
    ]
    runs = curves.frame(records)[RUN]
    return runs.merge(pd.DataFrame(measured, columns=["id", *MEASURED]), on="id", how="inner")


def places(frame: pd.DataFrame) -> list[str]:
    """Where the measurements of a frame were made: "AMD EPYC, 1 thread", each once."""
    found = frame[["device_name", "threads"]].drop_duplicates().itertuples(index=False)
    return [f"{name}, {threads} thread{'s' * (threads != 1)}" for name, threads in found]
