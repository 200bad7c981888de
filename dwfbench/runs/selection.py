"""Which stored runs a command reads: as flags say it, read, and said again for the commands that a report names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from dwfbench.base.errors import UsageError
from dwfbench.base.text import first_few, nearest
from dwfbench.runs import brackets, resultsets, spec
from dwfbench.runs.record import Record
from dwfbench.runs.resultsets import Source

Names = Sequence[str] | None
"""Names, of which a run must have one; None lets everything through. What comes from a folder or a file is called
name@checksum, and its name alone is enough; a method may have settings in brackets, as in ``dwf[depth=2,3]``."""


@dataclass(frozen=True)
class Selection:
    """Result sets as they are named on a command line; names of data sets, models, methods and tags; and the threshold
    below which weights count as zero, None for as they were trained."""

    results: tuple[str, ...]
    dataset: Names = None
    model: Names = None
    method: Names = None
    threshold: float | None = None
    tag: Names = None

    @cached_property
    def sources(self) -> list[Source]:
        """The result sets. Raises UsageError as ``resultsets.sources``."""
        return resultsets.sources(self.results)

    @property
    def places(self) -> str:
        """Where they lie, in words."""
        return " and ".join(str(source.path) for source in self.sources)

    def load(self, needs: Iterable[str] = ()) -> tuple[list[Record], list[str]]:
        """The records, with what is needed beside them (history, weights, measurement), and what is to be told: a
        sentence for everything that is damaged, and for every name that no record has, such as a misspelt one.

        They are of all methods: labels and the dense reference come from all. Raises UsageError as ``sources``, for an
        archive that cannot be read and as ``counted_at``.
        """
        records, damaged = resultsets.load(self.sources, **dict.fromkeys(needs, True))
        sentences = [*damaged, *self._absent(records)]
        records = filter_records(records, self.dataset, self.model)
        if self.tag is not None:
            records = [record for record in records if not set(self.tag).isdisjoint(record.provenance.tags)]
        return records if self.threshold is None else counted_at(records, self.threshold), sentences

    def _absent(self, records: list[Record]) -> list[str]:
        """A sentence for every name that no record has, with the nearest that one has."""
        sentences = []
        for field, names in {"dataset": self.dataset, "model": self.model, "method": self.method}.items():
            stored_names = sorted({getattr(record.spec, field) for record in records})
            for name in names or () if records else ():
                bare, values = parsed(field, name)
                if not any(is_of(record, field, bare, values) for record in records):
                    sentence = f"No run in {self.places} is of the {field.replace('dataset', 'data set')} {name!r}"
                    close = "." if values and bare in stored_names else nearest(bare, stored_names)
                    sentences.append(f"{sentence}{close} It has {', '.join(stored_names)}.")
        return sentences

    def words(self, threshold: bool = True, method: bool = True) -> list[str]:
        """The flags that select the same again, with --threshold and --method or without."""
        names = {"dataset": self.dataset, "model": self.model, "method": self.method if method else None}
        flags = [("results", text) for text in self.results]
        flags += [(flag, ",".join(listed)) for flag, listed in {**names, "tag": self.tag}.items() if listed]
        if threshold and self.threshold is not None:
            flags.append(("threshold", f"{self.threshold:g}"))
        return [word for flag, value in flags for word in (f"--{flag}", value)]


def filter_records(
    records: Iterable[Record], dataset: Names = None, model: Names = None, method: Names = None
) -> list[Record]:
    """The records whose data set, model and method are among the given names."""
    names_by_field = {"dataset": dataset, "model": model, "method": method}
    chosen = {
        field: [parsed(field, name) for name in names] for field, names in names_by_field.items() if names is not None
    }
    return [
        record
        for record in records
        if all(any(is_of(record, field, *name) for name in names) for field, names in chosen.items())
    ]


def parsed(field: str, name: str) -> tuple[str, dict[str, list[str]]]:
    """A name of ``Names`` without its brackets, and what is in them. Raises UsageError as ``brackets.parse``."""
    return brackets.parse(name) if field == "method" else (name, {})


def is_of(record: Record, field: str, name: str, values: Mapping[str, Sequence[str]]) -> bool:
    """Whether a record's data set, model or method, as ``field`` says, has this name, and its settings these values."""
    stored_name = getattr(record.spec, field)
    if name not in (stored_name, stored_name.partition("@")[0]):
        return False
    settings = {**msgspec.structs.asdict(record.spec), **record.spec.options} if values else {}
    for key, texts in values.items():
        # Epochs like 60,120 are one value.
        listed = [*texts, ",".join(texts)] if "," in str(settings.get(key)) else texts
        if key not in settings or not any(same(key, settings[key], text) for text in listed):
            return False
    return True


def same(key: str, value: object, text: str) -> bool:
    """Whether a setting has the value that a text, as its flag would have it, stands for.

    Raises UsageError for a text that is no value of a setting which all methods share; options are the methods' matter.
    """
    if key in spec.settings():
        return value == spec.coerce(spec.settings()[key], text)
    try:
        if isinstance(value, bool):
            return value == spec.boolean(text)
        return value == float(text) if isinstance(value, int | float) else str(value).lower() == text.lower()
    except ValueError:
        return False


def whole_id(beginning: str, run_ids: Iterable[str], place: Path | str, noun: str = "run") -> str:
    """The one of the ids that begins so. Raises UsageError if there is none or more than one."""
    fitting = sorted(run_id for run_id in run_ids if run_id.startswith(beginning))
    if not fitting:
        raise UsageError(f"There is no {noun} {beginning!r} in {place}; `dwfbench list runs` shows the ids of runs.")
    if len(fitting) > 1:
        raise UsageError(
            f"{beginning!r} begins the ids of {len(fitting)} runs ({first_few(fitting)}); give more of it."
        )
    return fitting[0]


def counted_at(records: Iterable[Record], threshold: float) -> list[Record]:
    """The same records, with `compression` and `test_accuracy` as they are when every |w| below `threshold` is cut.

    Dense runs stay as they are: they are the reference. A run that loses all its weights gets the status "emptied".
    What nobody counted there is unknown: effective compression, multiplications, the validation part, and whether a
    network that was connected still is. What was counted of layers and in the course of training stays. Raises
    UsageError for a threshold at which the runs were not assessed, naming those at which they were.
    """
    recounted = []
    for record in records:
        if record.status == "ok" and record.spec.method != "dense":
            cuts = {cut.threshold: cut for cut in record.thresholds}
            if threshold not in cuts:
                thresholds = ", ".join(f"{value:g}" for value in cuts)
                raise UsageError(f"The runs were not assessed at the threshold {threshold:g}, only at {thresholds}.")
            cut = cuts[threshold]
            status = "emptied" if cut.compression is None else "ok"
            changed = {"status": status, "compression": cut.compression, "test_accuracy": cut.test_accuracy}
            changed |= {"nnz": cut.nnz, "connected": False if record.connected is False else None}
            unknown = dict.fromkeys(("effective_compression", "macs_dense", "macs_sparse", "val_accuracy"))
            record = msgspec.structs.replace(record, **changed, **unknown)
        recounted.append(record)
    return recounted
