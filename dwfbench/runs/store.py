"""Run records on disk: ``runs/<id>/`` for finished runs, ``failed/<id>/`` for those that diverged or failed.

A folder holds ``run.json`` (the record), ``history.csv``, ``weights.csv`` (how large the weights are, over the epochs)
and, if asked, ``model.safetensors``. They are written into a folder with a temporary name, ``run.json`` last, which is
then renamed: a run's files are of one training, and no crash leaves half of one. Where a run is trained again, its
folder is renamed away first; a kill just between leaves the new one whole under its temporary name, and the next
command that trains puts it in place. Reading executes nothing
(JSON, CSV, safetensors), and what was read is what ``record`` says a record is. A record of another schema is refused
by name, and never replaced.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from msgspec import structs

from dwfbench.base import files
from dwfbench.base.errors import UsageError, one_line
from dwfbench.base.files import json_bytes, write_json
from dwfbench.runs.decode import Fault, OtherSchema, measurement_of, record_from, study_of
from dwfbench.runs.history import history_text, rows_of, weights_text
from dwfbench.runs.record import RUN_ID, Record, Study, Written, content_of

if TYPE_CHECKING:
    from torch import Tensor

ROOM = 100_000
"""Bytes: about what a run's record, history and weights.csv need, and must be there before training."""
TUNING = "tuning"
"""Folder of a results folder that holds the trials of its tuning: a results folder itself, with their ``studies/``."""
MEASUREMENT, NETWORK = "measure.json", "model.safetensors"
Type = TypeVar("Type")


class Entry(NamedTuple):
    """A run with all that is stored of it: its record and the JSON that this was read from, which may say more to
    another version; the texts of its tables, empty for none; the JSON of its measurement; what messages call its
    place."""

    record: Record
    source: bytes
    history: str = ""
    weights: str = ""
    measurement: dict[str, Any] | None = None
    place: str = ""

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(self.source)

    def without(self, name: str) -> str:
        """What is said of a table that is none."""
        return one_line(f"{self.place}/{name} is not a readable table; the run counts without it.")

    def loaded(self, history: bool, weights: bool, measurement: bool, damaged: Callable[[str], object]) -> Record:
        """The record with what is asked for of the rest; ``damaged`` is told of a table that is none, in a sentence."""

        def tell(name: str) -> None:
            damaged(self.without(name))

        return structs.replace(
            self.record,
            history=rows_of("history.csv", self.history, tell) if history else None,
            weights=rows_of("weights.csv", self.weights, tell) if weights else None,
            measurement=measurement_of(self.measurement) if measurement and self.measurement is not None else None,
        )


class Store:
    """The records of one results folder. Raises UsageError when the folder cannot be written or is no folder."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.damaged: list[str] = []
        self.prepared: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Create the folder and try a write, before any training: a night's results need a place."""
        if self.folder.is_file():
            raise UsageError(
                f"{self.folder} is a file, and training writes into a folder; `dwfbench unpack` makes it of an archive."
            )
        try:
            (self.folder / "runs").mkdir(parents=True, exist_ok=True)
            probe = files.temporary(self.folder / "probe")
            try:
                files.flushed(probe, bytes(ROOM))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                f"The results folder {self.folder} cannot be written ({error.strerror or error}); "
                "choose another one with --results."
            ) from None
        self.prepared = files.place(self.folder / "runs")
        self.recover()

    def recover(self) -> None:
        """Put runs in place that only lacked their name when their process was killed; sweep the rest of its files."""
        for place in (self.folder / "runs", self.folder / "failed"):
            for path in files.stale(place):
                run_id = path.name.split(".")[1]
                if RUN_ID.fullmatch(run_id) and (path / "run.json").is_file() and not path.is_symlink():
                    with suppress(OSError):  # another training's is there
                        path.rename(place / run_id)
            files.sweep(place)

    def read(self, run_id: str) -> Record | None:
        """The record of a run, a finished one before a failed one; None when there is no readable record.

        Raises UsageError for a record of another schema: to train the run again would replace it.
        """
        if not RUN_ID.fullmatch(run_id):
            return None
        entries = (self._read(place, run_id) for place in ("runs", "failed"))
        return next((entry.record for entry in entries if entry is not None), None)

    def status(self, run_id: str) -> str | None:
        """The status of a run's record: ok, diverged or failed; None when there is none. Raises as ``read``."""
        record = self.read(run_id)
        return None if record is None else record.status

    def write(self, record: Written, history: list[dict], state: "Mapping[str, Tensor] | None" = None) -> None:
        """Store a run. A failed attempt never replaces a good record: failures have a folder of their own.

        Raises UsageError where that is not possible, also where what was prepared has been moved away or unmounted, and
        for a record that nobody could read again.
        """
        if self.prepared is not None and self.prepared != files.place(self.folder / "runs"):
            raise UsageError(
                f"The run {record.id} cannot be stored: {self.folder / 'runs'} is no longer the folder that it was when"
                " training began; bring it back, then start again: what it holds is kept."
            )
        contents = {"history.csv": history_text(history).encode()}
        if history and "sizes" in history[0]:
            contents["weights.csv"] = weights_text(history).encode()
        if state is not None:
            from safetensors.torch import save

            contents[NETWORK] = save({name: value.contiguous() for name, value in state.items()})
            origin = structs.replace(record.provenance, weights_checksum=checksum(contents[NETWORK]))
            record = structs.replace(record, provenance=origin)
        contents["run.json"] = json_bytes(content_of(record))
        try:
            record_from(contents["run.json"], record.id)
        except Fault as why:  # of a method's hooks, say
            raise UsageError(f"The run {record.id} of {record.label} cannot be stored: {why}.") from None
        folder = self._folder(record)
        try:
            put(folder, contents)
        except OSError as error:
            raise UsageError(
                f"The run {record.id} cannot be stored in {folder} ({error.strerror or error}); "
                "make room or choose another place with --results, then start again: stored runs are kept."
            ) from None

    def load(self, history: bool = False, weights: bool = False, measurement: bool = False) -> list[Record]:
        """All records, finished ones first, in the order of their ids; a failure is left out once its run is ok.

        The flags ask for what lies beside a record: the rows of history.csv, those of weights.csv, and what
        ``dwfbench measure`` kept. Unreadable records and measurements, and those of another schema, are listed in
        ``damaged``, one sentence each, and skipped.
        """
        asked = (history, weights, measurement)
        return [entry.loaded(*asked, self._damaged) for entry in self.entries(*asked).values()]

    def entries(self, history: bool = True, weights: bool = True, measurement: bool = True) -> dict[str, Entry]:
        """The same by id, as they are stored."""
        self.damaged = []
        entries: dict[str, Entry] = {}
        for place in ("runs", "failed"):
            for run_id in sorted(filter(RUN_ID.fullmatch, _names(self.folder / place))):
                if run_id in entries:
                    continue
                try:
                    entry = self._read(place, run_id)
                except UsageError as error:
                    self._damaged(str(error))
                    continue
                if entry is not None:
                    folder = self._folder(entry.record)
                    entries[run_id] = entry._replace(
                        history=self._text(folder / "history.csv") if history else "",
                        weights=self._text(folder / "weights.csv") if weights else "",
                        measurement=self._measurement(folder) if measurement else None,
                    )
        return entries

    def restore(self, entry: Entry) -> None:
        """Write a run as an archive has it, file by file, the record last: without it there is no run."""
        folder = self._folder(entry.record)
        for name, text in (("history.csv", entry.history), ("weights.csv", entry.weights)):
            if text:
                files.write(folder / name, text.encode())
        if entry.measurement is not None:
            write_json(folder / MEASUREMENT, entry.measurement)
        write_json(folder / "run.json", entry.content)

    def amend(self, record: Record) -> None:
        """Replace what a stored record says; what lies beside it stays. Raises UsageError where that fails."""
        write_json(self._folder(record) / "run.json", content_of(record))

    def _folder(self, record: Written) -> Path:
        return self.folder / ("runs" if record.status == "ok" else "failed") / record.id

    def write_study(self, name: str, study: Mapping[str, Any]) -> None:
        """Keep the JSON of a study beside the trials, which are the runs of this folder; an earlier one is replaced."""
        write_json(self._study(name), study)

    def study(self, name: str) -> Study | None:
        """The study of that name; None without one that can be read. What else is there is listed in ``damaged``."""
        path = self._study(name)
        parsed = read_json(path, study_of)
        if parsed is not None and parsed[1].id == name:
            return parsed[1]
        if os.path.lexists(path):
            self._damaged(f"{path} is not a readable study of this tuning; the same `dwfbench tune` makes it again.")
        return None

    def studies(self) -> list[tuple[dict[str, Any], Study]]:
        """The studies of the trials in this folder, in the order of their names, each with the JSON that it was read
        from; unreadable ones are listed in ``damaged``."""
        studies = []
        for path in sorted(self._study("").parent.glob("*.json")):
            entry = read_json(path, study_of)
            if entry is None:
                self._damaged(f"{path} is not a readable tuning study; it is left out.")
            else:
                studies.append(entry)
        return studies

    def _study(self, name: str) -> Path:
        return self.folder / "studies" / f"{name}.json"

    def _measurement(self, folder: Path) -> dict[str, Any] | None:
        path = folder / MEASUREMENT
        if not os.path.lexists(path):
            return None
        if (measured := read_json(path, measurement_of)) is not None:
            return measured[0]
        self._damaged(f"{path} is not a readable measurement; `dwfbench measure {folder.name}` makes it again.")
        return None

    def _read(self, place: str, run_id: str) -> Entry | None:
        """The record of a run in ``runs`` or ``failed``. Raises UsageError for one of another schema."""
        path = f"{self.folder}/{place}/{run_id}/run.json"
        try:
            source = files.content(path, files.MOST_JSON)
            return Entry(record_from(source, run_id), source, place=f"{self.folder}/{place}/{run_id}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OtherSchema as other:
            raise UsageError(other.sentence(path)) from None
        except Fault as why:
            self._damaged(f"{path} is not a record of this run ({why}); `dwfbench run` trains it again.")
        except (OSError, ValueError) as error:
            cause = error.strerror if isinstance(error, OSError) else error
            self._damaged(f"{path} is not a readable record ({cause}); `dwfbench run` trains it again.")
        return None

    def _text(self, path: Path) -> str:
        """The text of a table; a missing or unreadable one is empty."""
        try:
            return files.text(path, files.MOST_TABLE)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except (OSError, ValueError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is no text"
            self._damaged(f"{path} is not a readable table ({cause}); the run counts without it.")
            return ""

    def _damaged(self, sentence: str) -> None:
        """Lists what is damaged, once however often it is read."""
        if (line := one_line(sentence)) not in self.damaged:
            self.damaged.append(line)


def put(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Make a folder of these files, in their order; one that is there is replaced as a whole. Raises OSError."""
    new, old = files.temporary(folder), files.temporary(folder.with_name(f"old-{folder.name}"))
    try:
        for leftover in (new, old):
            files.remove(leftover)
        new.mkdir(parents=True)
        for name, content in contents.items():
            files.flushed(new / name, content)
        if os.path.lexists(folder):
            folder.rename(old)
        new.rename(folder)
    finally:
        if folder.is_dir() or not os.path.lexists(old):  # else one rename is missing: `Store.recover` comes back to it
            for leftover in (new, old):
                with suppress(OSError):
                    files.remove(leftover)


def checksum(content: bytes) -> str:
    """What a record says of the file of its network: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def read_json(path: Path, parse: Callable[[Any], Type]) -> tuple[dict[str, Any], Type] | None:
    """The content of a JSON file and what ``parse`` makes of it; None without such a file and where that is a Fault."""
    try:
        content = json.loads(files.text(path, files.MOST_JSON))
        return content, parse(content)
    except (OSError, ValueError, RecursionError):
        return None


def _names(folder: Path) -> list[str]:
    """Names in a folder; a missing one holds nothing."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
