"""Measurements of ``dwfbench measure``, kept beside the records in ``measure.json``, as one tidy frame."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dwfbench import curves, faults, files
from dwfbench.store import RUN_ID, write_json

FILE = "measure.json"
SCHEMA = 1
RUN = ["id", "label", "method", "depth", "dataset", "model", "seed", "epochs", "compression"]
MEASURED = [
    *("form", "batch", "accuracy", "macs", "bytes", "bytes_zlib", "median", "iqr", "speedup"),
    *("device_name", "threads"),
]


def write(folder: Path, measurement: Mapping[str, Any]) -> None:
    """Keep a measurement in a run's folder; an earlier one is replaced. Raises UsageError if it cannot be written."""
    write_json(folder / FILE, {"schema": SCHEMA, **measurement})


def read(results: Path, ids: Iterable[str]) -> tuple[dict[str, dict], list[str]]:
    """The measurements of those runs that have one, by id, and a sentence for every one that cannot be read."""
    found, damaged = {}, []
    for run_id in filter(RUN_ID.fullmatch, ids):
        path = results / "runs" / run_id / FILE
        try:
            content = json.loads(files.text(path, files.MOST_JSON))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError):
            content = None
        if faults.of_measurement(content) or content.get("schema") != SCHEMA:
            damaged.append(f"{path} is not a readable measurement; `dwfbench measure {run_id}` makes it again.")
            continue
        found[run_id] = content
    return found, damaged


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


def frame(records: Iterable[dict], measurements: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """A row for every measured run, form ("dense", "sparse", "compact") and batch size.

    Columns RUN, as in ``curves.frame``, and MEASURED: accuracy of the form (percent), MACs, bytes of its file and those
    compressed by zlib, median and interquartile range of the time of a pass (seconds), speed-up over dense, and where
    it was measured. In the order of the records, the forms and the batch sizes.
    """
    measured = [{"id": key, **row} for key, one in measurements.items() for row in rows(one)]
    runs = curves.frame(records)[RUN]
    return runs.merge(pd.DataFrame(measured, columns=["id", *MEASURED]), on="id", how="inner")


def places(frame: pd.DataFrame) -> list[str]:
    """Where the measurements of a frame were made: "AMD EPYC, 1 thread", each once."""
    found = frame[["device_name", "threads"]].drop_duplicates().itertuples(index=False)
    return [f"{name}, {threads} thread{'s' * (threads != 1)}" for name, threads in found]
