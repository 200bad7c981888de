"""Run records on disk: ``runs/<id>/`` for finished runs, ``failed/<id>/`` for those that diverged or failed.

A folder holds ``run.json`` (the record), ``history.csv``, ``weights.csv`` (how large the weights are, over the epochs)
and, if asked, ``model.safetensors``. Every file is written
under a temporary name beside its place and renamed, ``run.json`` last: a run exists once its ``run.json`` does, and
no crash leaves half of one. Reading executes nothing (JSON, CSV, safetensors), and what was read is what ``faults``
says a record is. A record of another schema is refused by name, and never replaced.
"""

import csv
import gc
import io
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dwfbench import faults, files
from dwfbench.errors import UsageError, one_line
from dwfbench.spec import SCHEMA

if TYPE_CHECKING:
    from torch import Tensor

RUN_ID = re.compile(r"[0-9a-f]{12}")
ROOM = 100_000
"""Bytes: about what a run's record, history and weights.csv need, and must be there before training."""
HISTORY = ("epoch", "train_loss", "val_accuracy", "compression", "misalignment", "norm", "lr", "seconds")
LARGEST = 1e300  # of what is read, so that a mean of such numbers is one too


class OtherSchema(UsageError):
    """A record that another version of dwfbench wrote."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector: it would search thousands of records, which have no cycles, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Store:
    """The records of one results folder. Raises UsageError when the folder cannot be written or is no folder."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.damaged: list[str] = []

    def prepare(self) -> None:
        """Create the folder and try a write, before any training: a night's results need a place."""
        try:
            (self.folder / "runs").mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".probe-{os.getpid()}"
            try:
                probe.write_bytes(bytes(ROOM))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                f"The results folder {self.folder} cannot be written ({error.strerror or error}); "
                "choose another one with --results."
            ) from None

    def read(self, run_id: str) -> dict | None:
        """The record of a run, a finished one before a failed one; None when there is no readable record.

        Raises UsageError for a record of another schema: to train the run again would replace it.
        """
        found = (self._read(self.folder / place / run_id) for place in ("runs", "failed"))
        return next((record for record in found if record is not None), None)

    def status(self, run_id: str) -> str | None:
        """The status of a run's record: ok, diverged or failed; None when there is none. Raises as ``read``."""
        record = self.read(run_id)
        return None if record is None else record["status"]

    def write(
        self, record: Mapping[str, Any], history: list[dict], state: "Mapping[str, Tensor] | None" = None
    ) -> None:
        """Store a run. A failed attempt never replaces a good record: failures have a folder of their own."""
        ok = record["status"] == "ok"
        folder = self.folder / ("runs" if ok else "failed") / record["id"]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            replace(folder / "history.csv", _csv(history).encode())
            if history and "sizes" in history[0]:
                replace(folder / "weights.csv", _sizes(history).encode())
            if state is not None:
                from safetensors.torch import save

                replace(
                    folder / "model.safetensors",
                    save({name: value.contiguous() for name, value in state.items()}),
                )
            replace(folder / "run.json", (json.dumps(finite(record), indent=1, allow_nan=False) + "\n").encode())
            for left in folder.glob(".*.tmp"):  # by a process that was killed while it wrote
                left.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                f"The run {record['id']} cannot be stored in {folder} ({error.strerror or error}); "
                "make room or choose another place with --results, then start again: stored runs are kept."
            ) from None

    @uncollected()
    def load(self, history: bool = False, weights: bool = False) -> list[dict]:
        """All records, finished ones first, in the order of their ids; a failure is left out once its run is ok.

        ``history`` adds the rows of history.csv under that key, ``weights`` those of weights.csv: {"epoch": ...,
        "sizes": {"zero": number of weights, "-7": ..., ...}}, see ``sparsity.SIZES``. Unreadable records, and those
        of another schema, are listed in ``damaged``, one sentence each, and skipped.
        """
        self.damaged = []
        records: dict[str, dict] = {}
        for place in ("runs", "failed"):
            for run_id in sorted(filter(RUN_ID.fullmatch, _names(self.folder / place))):
                folder = self.folder / place / run_id
                if run_id in records:
                    continue
                try:
                    record = self._read(folder)
                except OtherSchema as error:
                    self.damaged.append(str(error))
                    continue
                if record is None:
                    continue
                if history:
                    rows = _rows(folder / "history.csv")
                    record["history"] = [{name: row[name] for name in HISTORY if name in row} for row in rows]
                if weights:
                    rows = _rows(folder / "weights.csv")
                    record["weights"] = [{"epoch": row.pop("epoch"), "sizes": row} for row in rows if _counts(row)]
                records[run_id] = record
        return list(records.values())

    def _read(self, folder: Path) -> dict | None:
        path = folder / "run.json"
        if not RUN_ID.fullmatch(folder.name):
            return None
        try:
            record = json.loads(files.text(path, files.MOST_JSON))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self._damaged(f"{path} is not a readable record ({why}); `dwfbench run` trains it again.")
            return None
        schema = record.get("schema") if isinstance(record, dict) else SCHEMA
        if type(schema) is not int or schema != SCHEMA:
            written = f"a record of schema {schema}" if type(schema) is int else "a record without a schema"
            raise OtherSchema(
                f"{path} is {written}, and this version of dwfbench reads schema {SCHEMA}; read it with the version "
                "that wrote it, and choose another folder with --results for new runs."
            )
        if why := faults.of_record(record, folder.name):
            self._damaged(f"{path} is not a record of this run ({why}); `dwfbench run` trains it again.")
            return None
        return record

    def _damaged(self, sentence: str) -> None:
        self.damaged.append(one_line(sentence))


def _names(folder: Path) -> list[str]:
    """Names in a folder; a missing one holds nothing."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def replace(path: Path, content: bytes) -> None:
    """Write a file so that it is either wholly there or not: temporary name, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """A file beside the records, parent folders included. UsageError when it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, (json.dumps(finite(value), indent=1, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror or error}).") from None


def finite(value: Any) -> Any:
    """JSON has no infinity or NaN: they become null."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(history: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in history:  # nine digits are a float32's, and tell the CR of one zero among a hundred million weights
        writer.writerow({key: f"{v:.9g}" if isinstance(v, float) else v for key, v in row.items()})
    return text.getvalue()


def _sizes(history: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ("epoch", *history[0]["sizes"]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({"epoch": row["epoch"], **row["sizes"]} for row in history)
    return text.getvalue()


def _rows(path: Path) -> list[dict]:
    """Rows of finite numbers by epoch; what is blank or infinite is None. A missing or damaged table is empty: the
    record counts without it."""
    try:
        reader = csv.DictReader(io.StringIO(files.text(path, files.MOST_TABLE), newline=""), strict=True)
        rows: list[dict[str, Any]] = [
            {name: float(cell) if cell else None for name, cell in row.items()} for row in reader
        ]
        rows = [{name: v if v is None or abs(v) < LARGEST else None for name, v in row.items()} for row in rows]
        return [{**row, "epoch": int(row["epoch"])} for row in rows if row.get("epoch") is not None]
    except (OSError, ValueError, TypeError, csv.Error):
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
