"""Result sets: folders and archives of records, one or several, read as one and merged.

The same run in two sets counts once. Where two sets disagree about a run, nothing decides which of them is right: a
comparison shows both curves, told apart by their sets' labels, and ``packing`` refuses.
"""

import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dwfbench.base.errors import UsageError
from dwfbench.runs import archive
from dwfbench.runs import claims as claims_file
from dwfbench.runs.claims import Claim
from dwfbench.runs.curve import chosen, curve_key, curve_label
from dwfbench.runs.decode import study_of
from dwfbench.runs.record import Record, Study, Tuned

OUTCOME = (
    *("test_accuracy", "test_loss", "val_accuracy", "dense_equivalent_accuracy"),
    *("compression", "compression_all", "effective_compression", "nnz", "numel"),
)
"""The numbers of a record in which repetitions of a run on one machine agree to the last digit."""


@dataclass(frozen=True)
class Source:
    """Where a result set lies, and what it is called, if it was given a name (``LABEL=PATH`` on a command line)."""

    path: Path
    label: str | None = None

    @classmethod
    def of(cls, text: str | Path) -> "Source":
        """Raises UsageError when nothing that could be a result set lies there."""
        label, equals, path = str(text).partition("=")
        if not equals or os.path.lexists(text):
            label, path = "", str(text)
        elif not archive.LABEL.fullmatch(label):
            raise UsageError(f"{label!r} is no label: it takes up to 40 letters, digits and . _ + -.")
        if not os.path.lexists(path):
            raise UsageError(
                f"There is no results folder or archive {path}; train something with `dwfbench run`, or use --results."
            )
        return cls(Path(path), label or None)

    @property
    def is_archive(self) -> bool:
        return not self.path.is_dir()

    @property
    def name(self) -> str:
        """The label, or else one made from the path."""
        stem = self.path.resolve().stem if self.is_archive else self.path.resolve().name
        slug = re.sub(r"^\W+|[^\w.+-]", "", stem)[:40]
        return self.label or slug or "results"

    @property
    def folder(self) -> Path:
        """Where figures of this set are put: the folder itself, or one beside an archive that has its name."""
        beside = self.path.with_suffix("") if self.is_archive else self.path
        return beside.with_name(f"{beside.name}-figures") if self.is_archive and beside == self.path else beside


def sources(texts: Iterable[str | Path]) -> list[Source]:
    """The sources named on a command line, each once. Raises UsageError as ``Source.of``, and for a repeated label."""
    named = list(dict.fromkeys(Source.of(text) for text in texts))
    labels = [source.label for source in named if source.label]
    if double := next((label for label in labels if labels.count(label) > 1), None):
        raise UsageError(f"Two result sets have the label {double}; give them different ones.")
    return named


# ---------------------------------------------------------------- reading


def load(
    named: Sequence[Source], history: bool = False, weights: bool = False, measurement: bool = False
) -> tuple[list[Record], list[str]]:
    """The records of all sources, merged (see ``merged``), and a sentence for everything that is damaged and for every
    curve that was tuned twice (see ``retuned``).

    The flags are those of ``Store.load``. Raises UsageError for an archive that cannot be read.
    """
    asked = (history, weights, measurement)
    wanted = ["runs", *itertools.compress(archive.BESIDE, asked)]
    sets: list[Labelled] = []
    damaged: list[str] = []
    for source in named:
        parts, sentences = archive.read(source.path, wanted)
        damaged += sentences
        for label, part in parts.items():
            records = [entry.loaded(*asked, damaged.append) for entry in part.runs.values()]
            sets.append((label or source.name, bool(source.label or label), ordered(records)))
    records, twice = retuned(merged(sets))
    return records, [*damaged, *twice]


Labelled = tuple[str, bool, list[Record]]
"""A result set: its name, whether that was given as a label, and its records."""


def studies(named: Sequence[Source]) -> tuple[list[Study], list[str]]:
    """The tuning studies of all sources, each once, and a sentence for every one that is damaged or has other trials
    than the one of its id that comes first."""
    by_id: dict[str, Study] = {}
    damaged: list[str] = []
    for source in named:
        parts, sentences = archive.read(source.path, ["studies"])
        for study in (study_of(part.studies[name]) for part in parts.values() for name in sorted(part.studies)):
            if by_id.setdefault(study.id, study).trials != study.trials:
                damaged.append(
                    f"The tuning study {study.id} of {source.path} has other trials than the same study elsewhere, "
                    "which is shown."
                )
        damaged += sentences
    return list(by_id.values()), damaged


def claims(named: Sequence[Source]) -> list[Claim]:
    """The claims of all sources, of several of one name the first. Raises UsageError for a file that holds none."""
    by_name: dict[str, Claim] = {}
    for source in named:
        parts, _ = archive.read(source.path, ["claims"])
        for claim in (claim for part in parts.values() for claim in claims_file.claims_of(part.claims, source.path)):
            by_name.setdefault(claim.name, claim)
    return list(by_name.values())


# ---------------------------------------------------------------- merging what is compared


def merged(sets: Sequence[Labelled]) -> list[Record]:
    """The records of several sets as those of one.

    The sets of a curve whose runs all lie in another set with the same results are left out: they count once. If
    several are left, and were given labels, disagree about a run or were tuned with another outcome, their curves are
    told apart: their records get the set's name as their ``set``, and ``@name`` behind their ids. Otherwise their runs
    are one curve's. A run that is of two curves, as one set tuned what the other was given, has ``@name`` in both.
    """
    filled = [entry for entry in sets if entry[2]]
    if len(filled) < 2:
        return filled[0][2] if filled else []
    curves: dict[str, dict[int, dict[str, Record]]] = {}
    for number, (_, _, records) in enumerate(filled):
        for record in records:
            curves.setdefault(curve_key(record), {}).setdefault(number, {})[record.id] = record
    names = _distinct([name for name, _, _ in filled])
    together: list[tuple[str, Record]] = []
    for of_set in curves.values():
        unique = _without_repeated(of_set)
        labelled = sum(filled[number][1] for number in unique)
        if len(unique) > 1 and (labelled or _disagree(unique.values()) or len(set(map(_choices, unique.values()))) > 1):
            for number, runs in unique.items():
                repeats = [other for other in of_set.keys() - unique.keys() if _covers(runs, of_set[other])]
                sources = tuple(names[other] for other in (number, *sorted(repeats)))
                together += [(names[number], told_apart(run, names[number], sources)) for run in runs.values()]
        else:
            union: dict[str, tuple[str, Record]] = {}
            for number, runs in unique.items():
                for run_id, run in runs.items():
                    if run_id not in union or better(union[run_id][1], run) is run:
                        union[run_id] = names[number], run
            sources = tuple(names[number] for number in of_set)
            together += [(name, msgspec.structs.replace(run, sources=sources)) for name, run in union.values()]
    ended_well = {record.id for _, record in together if record.status == "ok"}
    together = [(name, run) for name, run in together if run.status != "failed" or run.id not in ended_well]
    times = Counter(record.id for _, record in together)
    records = [
        record if times[record.id] == 1 else msgspec.structs.replace(record, id=f"{record.id}@{name}")
        for name, record in together
    ]
    return ordered(records)


def ordered(records: Iterable[Record]) -> list[Record]:
    """The records, finished runs first, in the order of their ids."""
    return sorted(records, key=lambda record: (record.status != "ok", record.id))


def retuned(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """The records, those of a curve that was tuned more than once as if their settings were given by hand: where two
    of its runs have other winners of the same target, they are several curves. A sentence for each such curve.
    """
    tunings = [(record, curve_key(record), tuned) for record in records if (tuned := record.provenance.tuned)]
    winners: dict[str, dict[float, set[str]]] = {}
    for record, curve, tuned in tunings:
        if (target := _target(record, tuned)) is not None and chosen(record):
            winners.setdefault(curve, {}).setdefault(target, set()).add(repr(sorted(tuned.values.items())))
    twice = {curve: [target for target, won in of.items() if len(won) > 1] for curve, of in winners.items()}
    by_hand: dict[str, Record] = {}
    sentences: dict[str, str] = {}
    for record, curve, tuned in tunings:
        if twice.get(curve):
            origin = msgspec.structs.replace(record.provenance, tuned=msgspec.structs.replace(tuned, study=None))
            by_hand[record.id] = msgspec.structs.replace(record, provenance=origin)
            listed = ", ".join(f"{target:g}" for target in sorted(twice[curve]))
            sentences[curve] = (
                f"{curve_label(record)} was tuned more than once, with other winners at CR {listed}: its runs are told "
                "apart by what was chosen."
            )
    return [by_hand.get(record.id, record) for record in records], list(sentences.values())


def _target(record: Record, tuned: Tuned) -> float | None:
    """The target at whose winner a run took its settings: the nearest to what it was asked for, or has."""
    ratio = record.spec.compression or record.compression
    if not ratio or not math.isfinite(ratio):
        return None
    return min(tuned.targets, key=lambda target: abs(math.log(target / ratio)), default=None)


def told_apart(record: Record, name: str, sources: tuple[str, ...] = ()) -> Record:
    """The record as one of a set of that name, whose curve these sets have; what it was is not changed."""
    return msgspec.structs.replace(record, id=f"{record.id}@{name}", set=name, sources=sources)


def _without_repeated(of_set: Mapping[int, Mapping[str, Record]]) -> dict[int, Mapping[str, Record]]:
    """The sets of a curve but those whose runs another one has, too; of equal ones the first stays."""
    sets_kept: dict[int, Mapping[str, Record]] = {}
    for number, runs in sorted(of_set.items(), key=lambda item: -len(item[1])):
        if not any(_covers(runs_kept, runs) for runs_kept in sets_kept.values()):
            sets_kept[number] = runs
    return dict(sorted(sets_kept.items()))


def _covers(runs: Mapping[str, Record], others: Mapping[str, Record]) -> bool:
    """Whether all the other runs are among these with the same result."""
    twins = [(run, runs.get(run_id)) for run_id, run in others.items()]
    return all(twin is not None and agree(run, twin) and better(twin, run) is twin for run, twin in twins)


def _disagree(sets: Iterable[Mapping[str, Record]]) -> bool:
    first_records: dict[str, Record] = {}
    return any(not agree(first_records.setdefault(run_id, run), run) for runs in sets for run_id, run in runs.items())


def _choices(runs: Mapping[str, Record]) -> frozenset[str]:
    """What tuning chose for these runs."""
    return frozenset(repr(sorted(values.items())) for values in map(chosen, runs.values()) if values)


def agree(record: Record, other: Record) -> bool:
    """Whether two records of a run have the same result; one that failed, which says nothing, agrees with any."""
    if "failed" in (record.status, other.status):
        return True
    return record.status == other.status and not differing(record, other)


def differing(record: Record, other: Record) -> list[str]:
    """The numbers that both records have and in which they differ."""
    pairs = ((name, getattr(record, name), getattr(other, name)) for name in OUTCOME)
    return [name for name, a, b in pairs if a is not None and b is not None and a != b]


def better(record: Record, other: Record) -> Record:
    """Of two records that agree the first; the other where only that one did not fail, or only that one was tested."""
    worth, other_worth = ((run.status != "failed", run.test_accuracy is not None) for run in (record, other))
    return other if other_worth > worth else record


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that occur twice that makes no other one of them."""
    taken = {name for name in names if names.count(name) == 1}
    distinct = []
    for name in names:
        numbered = (f"{name}-{number}" for number in itertools.count(1))
        distinct.append(name if name in taken else next(new for new in numbered if new not in taken))
        taken.add(distinct[-1])
    return distinct
