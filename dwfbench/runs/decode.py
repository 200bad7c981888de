"""JSON that anybody may have written, as the types of ``record``, or why it is none of them as half a sentence."""

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from dwfbench.runs.record import MEASUREMENT_SCHEMA, RUN_ID, SETTINGS, STATUSES, STORED, Measurement, Record, Study
from dwfbench.runs.spec import SCHEMA

Type = TypeVar("Type")

ADDED_OPTIONS: dict[str, dict[str, Any]] = {
    "dwf": {"group": "none", "finetune_epochs": 0, "finetune_lr": 0.1, "product_decay": 0.0},
    **{
        name: {"distribution": "global"}
        for name in ("grasp", "imp", "lamp", "magnitude", "powerprop", "snip", "synflow")
    },
    **{name: {"distribution": "erk"} for name in ("rigl", "set")},
}
"""Options that records of a method may not know, with what they were run with."""
NEEDED = ("compression", "layers", "thresholds", "provenance")
"""What the file of a run that ended well has."""


class Fault(ValueError):
    """Why JSON is not what it should be, as half a sentence."""


class OtherSchema(Fault):
    """What a record is that another version of dwfbench wrote."""

    def sentence(self, place: str) -> str:
        """What to do about the record, which is or lies in ``place``."""
        return (
            f"{place} is {self}, and this version of dwfbench reads schema {SCHEMA}; read it with the version "
            "that wrote it, and choose another folder with --results for new runs."
        )


# ---------------------------------------------------------------- records


def record_from(source: bytes, run_id: str | None = None) -> Record:
    """The record of the run ``run_id``, or of any, from the bytes of a file or line.

    Raises Fault where the JSON is no record that readers can rely on, OtherSchema where another version wrote it, and
    another ValueError where the bytes are no JSON.
    """
    try:
        # Not msgspec's decoder, which refuses the halves of surrogate pairs that a path of no UTF-8 leaves in argv.
        return record_of(json.loads(source.decode()), run_id)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def record_of(content: Any, run_id: str | None = None) -> Record:
    """The same from JSON that was read. Raises Fault and OtherSchema."""
    if type(content) is not dict:
        raise Fault("it is no table")
    if type(schema := content.get("schema")) is not int or schema != SCHEMA:
        raise OtherSchema(f"a record of schema {schema}" if type(schema) is int else "a record without a schema")
    if run_id is not None and content.get("id") != run_id:
        raise Fault("its id is not the name of its folder")
    status = content.get("status")
    if not (type(status) is str and status in STATUSES):
        raise Fault(f"its status is none of {', '.join(STATUSES)}")
    fields = {name: content[name] for name in STORED if name in content}
    if type(spec := content.get("spec")) is dict:
        fields["spec"] = _told_from_others(spec)
    record = converted(fields, Record)
    if record.knob and record.knob_value is None:
        raise Fault(f"its spec has no {record.knob}")
    if status == "ok":
        if absent := next((name for name in NEEDED if name not in content), None):
            raise Fault(f"it has no {absent}")
        if record.compression is None:
            raise Fault("its compression is damaged")
        if record.provenance.data_checksum is None:
            raise Fault("its provenance is damaged")
    return _with_added_options(record)


def _told_from_others(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those that this version does not know in a table of their own."""
    settings = {name: spec[name] for name in SETTINGS if name in spec}
    unknown = {name: value for name, value in spec.items() if name not in settings}
    return settings | {"others": unknown} if unknown else settings


def _with_added_options(record: Record) -> Record:
    for name, value in ADDED_OPTIONS.get(record.spec.method, {}).items():
        record.spec.options.setdefault(name, value)
    return record


def id_in(source: bytes) -> str | None:
    """What a record that is none says it is, where that is an id."""
    try:
        run_id = json.loads(source)["id"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    return run_id if isinstance(run_id, str) and RUN_ID.fullmatch(run_id) else None


# ---------------------------------------------------------------- studies and measurements


def study_of(content: Any) -> Study:
    """A tuning study. Raises Fault where the JSON is none."""
    study = converted(content, Study)
    if study.best >= len(study.trials):
        raise Fault("its best trial is none of its trials")
    if any(winner is not None and winner >= len(study.trials) for winner in study.winners):
        raise Fault("a winner is none of its trials")
    if {len(study.winners), *(len(trial.scores) for trial in study.trials)} != {len(study.targets)}:
        raise Fault("its scores are not those of its targets")
    return study


def measurement_of(content: Any) -> Measurement:
    """A measurement of a network's forms. Raises Fault where the JSON is none, or one of another version."""
    measurement = converted(content, Measurement)
    rows = [(row.form, row.batch) for row in measurement.latency]
    if not {form for form, _ in rows} <= measurement.forms.keys() or len(set(rows)) < len(rows):
        raise Fault("its latency is damaged")
    if measurement.schema != MEASUREMENT_SCHEMA:
        raise Fault("it is of another schema")
    return measurement


# ---------------------------------------------------------------- types


def converted(content: Any, target_type: type[Type]) -> Type:
    """JSON that was read as one of the types of ``record``. Raises Fault."""
    if type(content) is not dict:
        raise Fault("it is no table")
    try:
        return msgspec.convert(content, target_type)
    except msgspec.ValidationError as error:
        raise Fault(_half_a_sentence(str(error))) from None
    except UnicodeError:
        raise Fault("a name in it is damaged") from None


def _half_a_sentence(error: str) -> str:
    """What msgspec says, in our words: it names the absent field, and the way to the field that is wrong."""
    absent = re.search(r"missing required field `(\w+)`", error)
    way = re.search(r"`\$\.(\w+)(?:\.(\w+))?", error)
    if way is None:
        return f"it has no {absent[1]}" if absent else "it is damaged"
    outer, inner = way.groups()
    if outer == "spec" and absent:
        return f"in its spec, it has no {absent[1]}"
    in_settings = outer == "spec" and inner in SETTINGS
    return f"in its spec, its {inner} is damaged" if in_settings else f"its {outer} is damaged"
