"""Run records on disk: ``runs/<id>/`` for finished runs, ``failed/<id>/`` for those that diverged or failed.

A folder holds ``run.json`` (the record), ``history.csv``, ``weights.csv`` (how large the weights are, over the epochs)
and, if asked, ``model.safetensors``. Every file is written
under a temporary name beside its place and renamed, ``run.json`` last: a run exists once its ``run.json`` does, and
no crash leaves half of one. Reading executes nothing (JSON, CSV, safetensors), and what was read is what ``record``
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from dwfbench.base import files
from dwfbench.base.errors import UsageError, one_line
from dwfbench.runs import record as records
from dwfbench.runs.record import HISTORY, LARGEST, Fault, HistoryRow, Measurement, Record, Sizes, Study, Written
from dwfbench.runs.spec import SCHEMA

if TYPE_CHECKING:
    from torch import Tensor

RUN_ID = re.compile(r"[0-9a-f]{12}")
ROOM = 100_000
"""Bytes: about what a run's record, history and weights.csv need, and must be there before training."""
TUNING = "tuning"
"""Folder of a results folder that holds the trials of its tuning: a results folder itself, with ``studies/``."""
MEASUREMENT = "measure.json"
Type = TypeVar("Type")


class OtherSchema(UsageError):
    """A record that another version of dwfbench wrote."""


class Entry(NamedTuple):
    """A run with all that is stored of it: its record and the JSON that this was read from, which may say more to
    another version; the texts of its tables, empty for none; the JSON of its measurement."""

    record: Record
    content: dict[str, Any]
    history: str = ""
    weights: str = ""
    measurement: dict[str, Any] | None = None


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
        if self.folder.is_file():
            raise UsageError(
                f"{self.folder} is a file, and training writes into a folder; `dwfbench unpack` makes it of an archive."
            )
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

    def read(self, run_id: str) -> Record | None:
        """The record of a run, a finished one before a failed one; None when there is no readable record.

        Raises UsageError for a record of another schema: to train the run again would replace it.
        """
        entries = (self._read(self.folder / place / run_id) for place in ("runs", "failed"))
        return next((entry.record for entry in entries if entry is not None), None)

    def status(self, run_id: str) -> str | None:
        """The status of a run's record: ok, diverged or failed; None when there is none. Raises as ``read``."""
        record = self.read(run_id)
        return None if record is None else record.status

    def write(self, record: Written, history: list[dict], state: "Mapping[str, Tensor] | None" = None) -> None:
        """Store a run. A failed attempt never replaces a good record: failures have a folder of their own."""
        folder = self._folder(record)
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
            replace(folder / "run.json", _json(records.content_of(record)))
            for left in folder.glob(".*.tmp"):  # by a process that was killed while it wrote
                left.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                f"The run {record.id} cannot be stored in {folder} ({error.strerror or error}); "
                "make room or choose another place with --results, then start again: stored runs are kept."
            ) from None

    @uncollected()
    def load(self, history: bool = False, weights: bool = False, measurement: bool = False) -> list[Record]:
        """All records, finished ones first, in the order of their ids; a failure is left out once its run is ok.

        The flags ask for what lies beside a record: the rows of history.csv, those of weights.csv, and what
        ``dwfbench measure`` kept. Unreadable records and measurements, and those of another schema, are listed in
        ``damaged``, one sentence each, and skipped.
        """
        return [self._with_tables(entry, history, weights, measurement) for entry in self._entries()]

    @uncollected()
    def entries(self) -> dict[str, Entry]:
        """The same with all that is stored of each run, by id."""
        found = {}
        for entry in self._entries():
            folder = self._folder(entry.record)
            measured = self._measurement(folder)
            found[entry.record.id] = Entry(
                entry.record,
                entry.content,
                _text(folder / "history.csv"),
                _text(folder / "weights.csv"),
                None if measured is None else measured[0],
            )
        return found

    def _entries(self) -> Iterator[Entry]:
        self.damaged = []
        seen = set()
        for place in ("runs", "failed"):
            for run_id in sorted(filter(RUN_ID.fullmatch, _names(self.folder / place))):
                if run_id in seen:
                    continue
                try:
                    entry = self._read(self.folder / place / run_id)
                except OtherSchema as error:
                    self.damaged.append(str(error))
                    continue
                if entry is not None:
                    seen.add(run_id)
                    yield entry

    def _with_tables(self, entry: Entry, history: bool, weights: bool, measurement: bool) -> Record:
        if not (history or weights or measurement):
            return entry.record
        folder = self._folder(entry.record)
        measured = self._measurement(folder) if measurement else None
        return with_tables(
            entry.record,
            _text(folder / "history.csv") if history else None,
            _text(folder / "weights.csv") if weights else None,
            None if measured is None else measured[1],
        )

    def restore(self, entry: Entry) -> None:
        """Write a run as an archive has it."""
        folder = self._folder(entry.record)
        for name, text in (("history.csv", entry.history), ("weights.csv", entry.weights)):
            if text:
                write_file(folder / name, text.encode())
        if entry.measurement is not None:
            write_json(folder / MEASUREMENT, entry.measurement)
        write_json(folder / "run.json", entry.content)

    def _folder(self, record: Written) -> Path:
        return self.folder / ("runs" if record.status == "ok" else "failed") / record.id

    def write_study(self, name: str, study: Mapping[str, Any]) -> None:
        """Keep the JSON of a tuning study; an earlier one of that name is replaced."""
        write_json(self.folder / TUNING / "studies" / f"{name}.json", study)

    def studies(self) -> list[Study]:
        """The tuning studies of this folder in the order of their names; unreadable ones are listed in ``damaged``."""
        return [study for _, study in self.study_entries()]

    def study_entries(self) -> list[tuple[dict[str, Any], Study]]:
        """The same, each with the JSON that it was read from."""
        studies = []
        for path in sorted((self.folder / TUNING / "studies").glob("*.json")):
            entry = read_json(path, records.study_of)
            if entry is None:
                self._damaged(f"{path} is not a readable tuning study; it is left out.")
            else:
                studies.append(entry)
        return studies

    def _measurement(self, folder: Path) -> tuple[dict[str, Any], Measurement] | None:
        path = folder / MEASUREMENT
        if not os.path.lexists(path):
            return None
        measured = read_json(path, records.measurement_of)
        if measured is None:
            self._damaged(f"{path} is not a readable measurement; `dwfbench measure {folder.name}` makes it again.")
        return measured

    def _read(self, folder: Path) -> Entry | None:
        """The record in a folder and its JSON."""
        path = folder / "run.json"
        if not RUN_ID.fullmatch(folder.name):
            return None
        try:
            content = json.loads(files.text(path, files.MOST_JSON))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self._damaged(f"{path} is not a readable record ({why}); `dwfbench run` trains it again.")
            return None
        check_schema(content, path)
        try:
            return Entry(records.record_of(content, folder.name), content)
        except Fault as why:
            self._damaged(f"{path} is not a record of this run ({why}); `dwfbench run` trains it again.")
            return None

    def _damaged(self, sentence: str) -> None:
        self.damaged.append(one_line(sentence))


def check_schema(record: Any, place: Path | str) -> None:
    """Raises OtherSchema for a record that another version wrote."""
    schema = record.get("schema") if isinstance(record, dict) else SCHEMA
    if type(schema) is not int or schema != SCHEMA:
        written = f"a record of schema {schema}" if type(schema) is int else "a record without a schema"
        raise OtherSchema(
            f"{place} is {written}, and this version of dwfbench reads schema {SCHEMA}; read it with the version "
            "that wrote it, and choose another folder with --results for new runs."
        )


def read_json(path: Path, made: Callable[[Any], Type]) -> tuple[dict[str, Any], Type] | None:
    """The content of a JSON file and what ``made`` makes of it; None without such a file, and where that is a Fault."""
    try:
        content = json.loads(files.text(path, files.MOST_JSON))
        return content, made(content)
    except (OSError, ValueError, RecursionError):
        return None


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


def _text(path: Path) -> str:
    """The text of a table; a missing or unreadable one is empty."""
    try:
        return files.text(path, files.MOST_TABLE)
    except (OSError, ValueError):
        return ""


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
    write_file(path, _json(value))


def _json(value: Any) -> bytes:
    return (json.dumps(finite(value), indent=1, allow_nan=False) + "\n").encode()


def write_file(path: Path, content: bytes) -> None:
    """The same with any content."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, content)
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
