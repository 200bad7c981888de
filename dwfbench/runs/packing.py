"""Result sets made into one archive, and an archive made into a folder again. Nothing is replaced: runs about which two
sets disagree are kept in parts of their own, or refused.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dwfbench.base import files
from dwfbench.base.errors import UsageError
from dwfbench.base.escape import spreadsheet
from dwfbench.runs import archive
from dwfbench.runs.archive import Part
from dwfbench.runs.curve import chosen, curve_key
from dwfbench.runs.history import csv_text
from dwfbench.runs.resultsets import Source, agree, better, differing
from dwfbench.runs.store import TUNING, Entry, Store

SUMMARY = [
    *("part", "id", "label", "dataset", "model", "epochs", "batch_size", "lr", "precision", "seed", "knob", "value"),
    *("status", "compression", "effective_compression", "test_accuracy", "test_loss", "val_accuracy"),
    *("dense_equivalent_accuracy", "nnz", "seconds"),
]
"""Columns of the table beside an archive, which a reviewer reads."""


def pack(named: Sequence[Source], target: Path, keep_both: bool = False) -> tuple[dict[str, Part], list[str]]:
    """Write the sources as one archive, and beside it a table with a row a run; their parts, and what was damaged.

    Raises UsageError for a run about which two sources disagree, unless ``keep_both``: then the later source's run
    lies in a part of its own, under that source's name. Raises it, too, where no source has a run, and for an archive
    that is there and no source, or in which something cannot be read.
    """
    if target.suffix != ".zip":
        raise UsageError(f"An archive is called SET.zip, not {target.name}.")
    if os.path.lexists(target) and target.resolve() not in [source.path.resolve() for source in named]:
        raise UsageError(f"{target} is there already; name it among the sources to add to it, or choose another name.")
    parts: dict[str, Part] = {"": Part()}
    damaged: list[str] = []
    for source in named:
        from_source, sentences = archive.read(source.path)
        damaged += sentences
        if sentences and target.resolve() == source.path.resolve():
            raise UsageError(f"{target} would lose what cannot be read in it; choose another name. {sentences[0]}")
        for label, part in from_source.items():
            apart = _add(parts.setdefault(label, Part()), part)
            if apart is None:
                continue
            if not keep_both or label:
                raise UsageError(f"{_disagreement(parts[label], apart, source)}; --keep-both keeps both, with labels.")
            labelled = parts.setdefault(source.name, Part())
            if (third := _add(labelled, apart)) is not None:
                raise UsageError(
                    f"{_disagreement(labelled, third, source)}, in the part {source.name}; give another label."
                )
    if not any(part.runs or part.trials or part.studies for part in parts.values()):
        where = ", ".join(str(source.path) for source in named)
        raise UsageError(" ".join([f"There is nothing to pack in {where}: no run and no tuning.", *damaged[:1]]))
    table = target.with_suffix(".csv")
    rows = summary(parts)
    files.refuse_other(table, rows)
    damaged += archive.write(parts, target)
    files.write(table, rows.encode())
    return parts, damaged


def _add(into: Part, part: Part) -> Part | None:
    """Adds to a part what another one has; what is there with another result is given back, None if nothing is."""
    apart = Part(_merge(into.runs, part.runs), _merge(into.trials, part.trials))
    for name, study in part.studies.items():
        if into.studies.setdefault(name, study)["trials"] != study["trials"]:
            apart.studies[name] = study
    into.claims = into.claims or part.claims
    if part.claims not in ("", into.claims):
        apart.claims = part.claims
    return apart if apart.runs or apart.trials or apart.studies or apart.claims else None


def _merge(into: dict[str, Entry], entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Adds runs to others; the curves of which a run is there with another result are given back whole, as runs of
    two sources make no curve. Of a curve that was given by hand and then tuned, the tuned runs stay."""
    into |= {run_id: entries[run_id] for run_id in _adopted(into, entries)}
    adopted = _adopted(entries, into)
    entries = {run_id: entry for run_id, entry in entries.items() if run_id not in adopted}
    torn = {curve_key(entries[run_id].record) for run_id in _contradicted(into, entries)}
    apart = {run_id: entry for run_id, entry in entries.items() if curve_key(entry.record) in torn}
    for run_id, entry in entries.items():
        old = into.get(run_id)
        if run_id not in apart and (old is None or better(old.record, entry.record) is entry.record):
            into[run_id] = entry
    return apart


def _contradicted(runs: Mapping[str, Entry], others: Mapping[str, Entry]) -> list[str]:
    """The ids of the runs that have another result elsewhere, or are of another curve, as they were tuned."""
    pairs = ((run_id, runs[run_id].record, others[run_id].record) for run_id in sorted(runs.keys() & others.keys()))
    return [
        run_id
        for run_id, one, other in pairs
        if not agree(one, other) or (one.status == other.status and curve_key(one) != curve_key(other))
    ]


def _adopted(runs: Mapping[str, Entry], others: Mapping[str, Entry]) -> set[str]:
    """The ids of the runs of curves given by hand all of whose runs are among the others with the same result, their
    settings chosen by a study, as `run --tuned` adopts stored runs."""
    by_curve: dict[str, list[str]] = {}
    for run_id, entry in runs.items():
        if not chosen(entry.record):
            by_curve.setdefault(curve_key(entry.record), []).append(run_id)

    def is_tuned(run_id: str) -> bool:
        return (
            run_id in others
            and bool(chosen(others[run_id].record))
            and agree(runs[run_id].record, others[run_id].record)
        )

    return {run_id for run_ids in by_curve.values() if all(map(is_tuned, run_ids)) for run_id in run_ids}


def _disagreement(part: Part, apart: Part, source: Source) -> str:
    """Which runs of a source are in a part with another result, the first one with its numbers."""
    for runs, apart_runs in ((part.runs, apart.runs), (part.trials, apart.trials)):
        if ids := _contradicted(runs, apart_runs):
            record, apart_record = runs[ids[0]].record, apart_runs[ids[0]].record
            tail = f" (and {len(ids) - 1} more)" if len(ids) > 1 else ""
            run = f"The run {ids[0]}{tail} of {source.path}"
            if agree(record, apart_record):
                return (
                    f"{run} is of another curve than the same run elsewhere: a study chose its settings in one of them"
                )
            names = differing(record, apart_record)[:2] or ["status"]
            numbers = ", ".join(f"{name} {getattr(record, name)} and {getattr(apart_record, name)}" for name in names)
            return f"{run} has another result than the same run elsewhere ({numbers})"
    if not apart.studies:
        return f"The claims of {source.path} are not those of the others"
    return f"The tuning study {min(apart.studies)} of {source.path} has other trials than the same study elsewhere"


def unpack(source: Source, folder: Path) -> tuple[dict[str, Part], list[str]]:
    """Write an archive as a results folder, or into one; a part that was kept apart goes into ``sets/LABEL`` there.

    What the folder has stays. Raises UsageError, before anything is written, if a run there has another result or is a
    record that only another version can read.
    """
    parts, damaged = archive.read(source.path)
    places = {folder / archive.SETS / label if label else folder: part for label, part in parts.items()}
    missing: dict[Path, Part] = {}
    for place, part in places.items():
        old, _ = archive.folder_part(place)
        union = Part(dict(old.runs), dict(old.trials), dict(old.studies), old.claims)
        if apart := _add(union, part):
            raise UsageError(f"{_disagreement(old, apart, source)}; choose another folder.")
        missing[place] = Part(
            _new(union.runs, old.runs), _new(union.trials, old.trials), _new(union.studies, old.studies), union.claims
        )
    for place, part in missing.items():
        for store, entries in ((Store(place), part.runs), (Store(place / TUNING), part.trials)):
            for run_id in entries:
                store.read(run_id)  # refuses what a newer version has stored under that id
    for place, part in missing.items():
        archive.write_folder(part, place)
    return parts, damaged


def _new(union: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """What was added to that which is there."""
    return {name: added for name, added in union.items() if old.get(name) is not added}


def summary(parts: Mapping[str, Part]) -> str:
    """A table with a row a run in the order of the ids, tuning's trials after the others: what changed is a diff."""
    rows = []
    for label, part in parts.items():
        for name, entries in (("", part.runs), ("tuning", part.trials)):
            for run_id in sorted(entries):
                record = entries[run_id].record
                place = "/".join(word for word in (label, name) if word) or "runs"
                values = {column: getattr(record, column) for column in SUMMARY if hasattr(record, column)}
                row = record.spec.to_dict() | values | {"part": place, "value": record.knob_value}
                rows.append([spreadsheet(row[column]) for column in SUMMARY])
    return csv_text([SUMMARY, *rows])
