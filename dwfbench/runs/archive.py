"""A result set as one file to keep and to send: a zip of tables, made from folders of records and read like one.

Members: ``records.jsonl`` (a record a line), ``history.csv`` and ``weights.csv`` (a row an epoch, with the run's id),
``measurements.jsonl``, ``studies.jsonl``, ``claims.toml``, and the same tables of tuning's trials below ``tuning/``;
records that ``pack`` kept apart lie below ``sets/LABEL/``. ``manifest.json`` has the SHA-256 of every member. Equal
records give equal bytes: names are sorted and dates are fixed.

Reading executes nothing, extracts nothing, and believes no size: members are read line by line, and no further than
the bounds below.
"""

import csv
import hashlib
import io
import itertools
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from dwfbench.base import files
from dwfbench.base.errors import UsageError, one_line
from dwfbench.runs import claims
from dwfbench.runs.decode import Fault, OtherSchema, id_in, measurement_of, record_from, study_of
from dwfbench.runs.history import csv_text
from dwfbench.runs.record import HISTORY, RUN_ID, Record
from dwfbench.runs.store import TUNING, Entry, Store

FORMAT, VERSION = "dwfbench results", 1
MANIFEST, RECORDS, MEASUREMENTS, STUDIES = "manifest.json", "records.jsonl", "measurements.jsonl", "studies.jsonl"
BESIDE = ("history", "weights", "measurement")
WHOLE = ("runs", "trials", "studies", "claims", *BESIDE)
"""What may be wanted of a result set; the last three are of its runs and trials."""
SETS = "sets"
LABEL = re.compile(r"\w[\w.+-]{0,39}")
MOST_MEMBERS = 1000
MOST_MEMBER = 1 << 30
"""Bytes of an unpacked member: 10,000 runs of 1,000 epochs have a history of about that."""
SMALL, MOST_RATIO = 1 << 24, 200
"""What is larger than the former is unpacked only if it is compressed by less than the latter: tables by 5 to 50."""
MOST_MANIFEST = 1 << 20
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold
DAMAGE = (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError)


@dataclass
class Part:
    """Runs by id, the JSON of tuning studies by id, the trials of these, which are runs by id too, and the text of the
    claims, "" for none."""

    runs: dict[str, Entry] = field(default_factory=dict)
    trials: dict[str, Entry] = field(default_factory=dict)
    studies: dict[str, dict[str, Any]] = field(default_factory=dict)
    claims: str = ""


def read(path: Path, wanted: Collection[str] = WHOLE) -> tuple[dict[str, Part], list[str]]:
    """What is wanted of the parts of a results folder or an archive, by label, and a sentence for all that is damaged.

    Raises UsageError for a file that is no archive, or a damaged one.
    """
    if not path.is_dir():
        packed = Archive(path)
        return packed.parts(wanted), packed.damaged
    by_label = {label: folder_part(folder, wanted) for label, folder in folders(path).items()}
    parts = {label: part for label, (part, _) in by_label.items()}
    return parts, [sentence for _, damaged in by_label.values() for sentence in damaged]


# ---------------------------------------------------------------- folders


def folders(folder: Path) -> dict[str, Path]:
    """The parts of a results folder, by label: "" the folder itself, and those that were kept apart."""
    apart = sorted(place for place in (folder / SETS).glob("*") if place.is_dir() and LABEL.fullmatch(place.name))
    return {"": folder, **{place.name: place for place in apart}}


def folder_part(folder: Path, wanted: Collection[str] = WHOLE) -> tuple[Part, list[str]]:
    """What a part of a results folder holds, and a sentence for everything in it that cannot be read."""
    store, trials, beside = Store(folder), Store(folder / TUNING), [name in wanted for name in BESIDE]
    part = Part()
    if "runs" in wanted:
        part.runs = store.entries(*beside)
    if "trials" in wanted:
        part.trials = trials.entries(*beside)
    if "studies" in wanted:
        part.studies = {study.id: content for content, study in trials.studies()}
    if "claims" in wanted:
        part.claims = claims.read(folder)
    return part, [*store.damaged, *trials.damaged]


def write_folder(part: Part, folder: Path) -> None:
    """Adds runs, trials and studies to a results folder. UsageError when it cannot be written."""
    for place in {path.parent for path in folder.rglob(".*.tmp")}:
        files.sweep(place)  # of processes that were killed here
    for store, entries in ((Store(folder), part.runs), (Store(folder / TUNING), part.trials)):
        for entry in entries.values():
            store.restore(entry)
    for name, study in part.studies.items():
        Store(folder / TUNING).write_study(name, study)
    if part.claims:
        files.write(folder / claims.FILE, part.claims.encode())


# ---------------------------------------------------------------- writing


def write(parts: Mapping[str, Part], path: Path) -> list[str]:
    """Write an archive of the parts, by label; "" is the set itself. A sentence for every table that is none, which is
    left out. UsageError when that is not possible."""
    members: dict[str, bytes] = {}
    damaged: list[str] = []
    for label, part in parts.items():
        prefix = f"{SETS}/{label}/" if label else ""
        members |= _run_members(part.runs, prefix, damaged)
        members |= _run_members(part.trials, f"{prefix}{TUNING}/", damaged)
        members[f"{prefix}{STUDIES}"] = _lines(part.studies[name] for name in sorted(part.studies))
        members[f"{prefix}{claims.FILE}"] = part.claims.encode()
    members = {name: content for name, content in members.items() if content}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(members.items())}
    about = {"format": FORMAT, "version": VERSION, "runs": sum(len(part.runs) for part in parts.values())}
    members[MANIFEST] = (json.dumps({**about, "sha256": sums}, indent=1) + "\n").encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, DATE)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(info, members[name], compresslevel=9)
    files.write(path, content.getvalue())
    return damaged


def _run_members(entries: Mapping[str, Entry], prefix: str, damaged: list[str]) -> dict[str, bytes]:
    ordered = [entries[run_id] for run_id in sorted(entries)]
    return {
        f"{prefix}{RECORDS}": _lines(entry.content for entry in ordered),
        f"{prefix}history.csv": _table("history", ordered, HISTORY, damaged),
        f"{prefix}weights.csv": _table("weights", ordered, ("epoch",), damaged),
        f"{prefix}{MEASUREMENTS}": _lines(entry.measurement for entry in ordered if entry.measurement),
    }


def _lines(contents: Iterable[Any]) -> bytes:
    return "".join(json.dumps(files.finite(content), allow_nan=False) + "\n" for content in contents).encode()


def _table(name: str, entries: Sequence[Entry], front: Sequence[str], damaged: list[str]) -> bytes:
    """The tables of runs as one, with a column for the run's id; columns that a run's table lacks are blank in it.

    ``front`` are columns that go first. A damaged table is left out, as it is where records are read, and said.
    """
    tables = [(entry, _cells(text)) for entry in entries if (text := getattr(entry, name))]
    damaged += [entry.without(f"{name}.csv") for entry, rows in tables if not rows]
    columns = dict.fromkeys(name for _, rows in tables if rows for name in rows[0])
    ordered = [*(name for name in front if name in columns), *(name for name in columns if name not in front)]
    if not ordered:
        return b""

    def together() -> Iterator[list[str]]:
        yield ["id", *ordered]
        for entry, rows in tables:
            places = [rows[0].index(name) if name in rows[0] else None for name in ordered] if rows else []
            yield from ([entry.record.id, *("" if at is None else row[at] for at in places)] for row in rows[1:])

    return csv_text(together()).encode()


def _cells(text: str) -> list[list[str]]:
    """The rows of a table of numbers whose rows all have the columns of its head; none of any other."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        head = rows[0] if rows else []
        for cell in itertools.chain((name for name in head if not name.isidentifier()), *rows[1:]):
            float(cell or 0)
    except (csv.Error, ValueError):
        return []
    is_table = "id" not in head and len(set(head)) == len(head) and all(len(row) == len(head) for row in rows)
    return rows if is_table else []


# ---------------------------------------------------------------- reading


class Archive:
    """An archive of records. Reading raises UsageError when it is none, or is damaged."""

    def __init__(self, path: Path):
        self.path = path
        self.damaged: list[str] = []

    def parts(self, wanted: Collection[str] = WHOLE) -> dict[str, Part]:
        """What is wanted of the parts, by label, "" the set itself.

        Records that are none are left out, and a sentence for each is in ``damaged``.
        """
        self.damaged = []
        try:
            with files.opened(self.path) as file, zipfile.ZipFile(file) as archive:
                reader = _Reader(archive, self._manifest(archive))
                return {label: self._part(reader, label, wanted) for label in reader.labels()}
        except DAMAGE as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise UsageError(one_line(f"{self.path} is no archive of results, or is damaged ({why}).")) from None

    def _manifest(self, archive: zipfile.ZipFile) -> dict[str, str]:
        """The checksums of the members. Raises ValueError if this is no archive that this version reads."""
        infos = archive.infolist()
        names = [info.filename for info in infos]
        if len(infos) > MOST_MEMBERS or len(set(names)) < len(names) or MANIFEST not in names:
            raise ValueError("its list of members is not that of an archive that `dwfbench pack` made")
        if archive.getinfo(MANIFEST).file_size > MOST_MANIFEST:
            raise ValueError("its manifest is too large")
        with archive.open(MANIFEST) as file:
            content = json.loads(file.read(MOST_MANIFEST))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"its manifest does not name the format {FORMAT!r}")
        if content.get("version") != VERSION:
            raise ValueError(f"it is of another version of the format than {VERSION}")
        sums: dict[str, str] = content.get("sha256") or {}
        if not (isinstance(sums, dict) and all(isinstance(checksum, str) for checksum in sums.values())):
            raise ValueError("its manifest has no checksums")
        if absent := sorted(sums.keys() - set(names)):
            raise ValueError(f"its member {absent[0]} is missing")
        return sums

    def _part(self, reader: "_Reader", label: str, wanted: Collection[str]) -> Part:
        prefix = f"{SETS}/{label}/" if label else ""
        part = Part()
        if "runs" in wanted:
            part.runs = self._runs(reader, prefix, wanted)
        if "trials" in wanted:
            part.trials = self._runs(reader, f"{prefix}{TUNING}/", wanted)
        for content in reader.contents(f"{prefix}{STUDIES}") if "studies" in wanted else ():
            try:
                study = study_of(content)
                if not RUN_ID.fullmatch(study.id):
                    raise Fault("its id is damaged")
            except Fault as why:
                self._damaged(f"{self.path} holds a tuning study that is none ({why}); it is left out.")
            else:
                part.studies[study.id] = content
        part.claims = b"".join(reader.lines(f"{prefix}{claims.FILE}", claims.MOST)).decode(errors="replace")
        return part

    def _runs(self, reader: "_Reader", prefix: str, wanted: Collection[str]) -> dict[str, Entry]:
        by_id: dict[str, tuple[Record, bytes]] = {}
        for line in reader.lines(f"{prefix}{RECORDS}", files.MOST_JSON):
            try:
                record = record_from(line)
                if record.id in by_id:
                    raise Fault("there is another one of that id")
                by_id[record.id] = record, line
            except Fault as why:
                place = f"The record {id_in(line) or 'without an id'} in {self.path}"
                if isinstance(why, OtherSchema):
                    self._damaged(why.sentence(place))
                else:
                    self._damaged(f"{place} is not a record of a run ({why}); it is left out.")
        tables = {name: reader.table(f"{prefix}{name}.csv") for name in BESIDE[:2] if name in wanted}
        beside: dict[str, dict[str, Any]] = {**tables, "measurement": self._measurements(reader, prefix, by_id)}
        return {
            run_id: Entry(
                *pair,
                **{name: values[run_id] for name, values in beside.items() if run_id in values},
                place=f"{self.path}/{prefix}{run_id}",
            )
            for run_id, pair in by_id.items()
        }

    def _measurements(self, reader: "_Reader", prefix: str, run_ids: Collection[str]) -> dict[str, dict]:
        """The JSON of the measurements of these runs."""
        measured = {}
        for content in reader.contents(f"{prefix}{MEASUREMENTS}"):
            try:
                run_id = measurement_of(content).id
            except Fault:
                run_id = None
            if run_id is None or run_id not in run_ids:
                self._damaged(f"{self.path} holds a measurement that is none of its runs'; it is left out.")
            else:
                measured[run_id] = content
        return measured

    def _damaged(self, sentence: str) -> None:
        self.damaged.append(one_line(sentence))


@dataclass
class _Reader:
    """Members of an opened archive whose bytes are those of the manifest. Raises ValueError where they are not."""

    archive: zipfile.ZipFile
    sums: Mapping[str, str]

    def labels(self) -> list[str]:
        """ "" and the labels of the parts that are kept apart, in the order of their names."""
        within = {name.split("/")[1] for name in self.sums if name.startswith(f"{SETS}/") and name.count("/") >= 2}
        return ["", *sorted(label for label in within if LABEL.fullmatch(label))]

    def contents(self, name: str) -> Iterator[Any]:
        """The JSON of every line of a member; nothing of one that is not there."""
        for line in self.lines(name, files.MOST_JSON):
            try:
                yield json.loads(line)
            except RecursionError:
                raise ValueError(f"{name} is nested too deeply") from None

    def table(self, name: str) -> dict[str, str]:
        """A member with a column ``id`` as a text a run, without that column."""
        rows = csv.reader((line.decode() for line in self.lines(name, 1 << 20)), strict=True)
        try:
            head = next(rows, ["id"])
            if head[:1] != ["id"]:
                raise ValueError(f"{name} has no column id")
            groups = itertools.groupby(rows, key=lambda row: row[0] if row else "")
            return {run_id: csv_text([head[1:], *(row[1:] for row in group)]) for run_id, group in groups}
        except csv.Error as error:
            raise ValueError(f"{name} is no table: {error}") from None

    def lines(self, name: str, longest: int) -> Iterator[bytes]:
        """The lines of a member, each with its end; the checksum is compared after the last one."""
        if name not in self.sums:
            return
        info = self.archive.getinfo(name)
        if info.file_size > MOST_MEMBER or info.file_size > max(SMALL, MOST_RATIO * info.compress_size):
            raise ValueError(f"{name} says that {info.compress_size:,} bytes unpack to {info.file_size:,}")
        digest = hashlib.sha256()
        with self.archive.open(name) as file:
            yield from _bounded(file, longest, digest.update)
        if digest.hexdigest() != self.sums[name]:
            raise ValueError(f"{name} is not the one of the manifest: their checksums differ")


def _bounded(file: BinaryIO | Any, longest: int, see: Callable[[bytes], Any]) -> Iterator[bytes]:
    """The lines of a file, each shown to ``see``. ValueError for a line longer than ``longest`` bytes."""
    while line := file.readline(longest + 1):
        if len(line) > longest:
            raise ValueError(f"a line is longer than {longest:,} bytes")
        see(line)
        yield line
