"""Records for tests, given as a file has them, as far as a test needs; and records as such tables again."""

from typing import Any

import msgspec

from dwfbench.runs import decode, record
from dwfbench.runs.record import Cut, HistoryRow, Layer, Measurement, Provenance, Record, Settings, Sizes, Tuned

NEEDED = {"id": "0" * 12, "label": "a run", "knob": None, "status": "ok", "seconds": 1.0}
SPEC = {"method": "dwf", "options": {}, "model": "lenet-300-100", "dataset": "digits", "seed": 0}


def typed(content: dict[str, Any]) -> Record:
    """A record of these fields and of what lies beside it; what is needed and not given is filled in.

    Values are not checked, so that readers can be shown what no file may hold.
    """
    return Record(**fields({**NEEDED, "spec": {}, **content}))


def changed(run: Record, **more: Any) -> Record:
    """The record with other fields, given as for ``typed``; of its spec and provenance those that are named."""
    for name in ("spec", "provenance"):
        if name in more:
            inner = fields({name: more[name]})[name]
            named = {key if hasattr(inner, key) else "others" for key in more[name]}
            named = {key: getattr(inner, key) for key in named}
            more[name] = msgspec.structs.replace(getattr(run, name), **named)
    return msgspec.structs.replace(run, **fields(more))


def fields(content: dict[str, Any]) -> dict[str, Any]:
    """Fields of a record as the types that they have there."""
    made = {
        "spec": lambda spec: settings({**SPEC, **spec}),
        "layers": lambda layers: [Layer(**layer) for layer in layers],
        "thresholds": lambda cuts: [Cut(**cut) for cut in cuts],
        "provenance": provenance,
        "history": lambda rows: [HistoryRow(**{key: row[key] for key in record.HISTORY if key in row}) for row in rows],
        "weights": lambda rows: [Sizes(**row) for row in rows],
        "measurement": lambda measured: msgspec.convert(measured, Measurement),
    }
    return {
        name: made[name](value) if name in made and isinstance(value, dict | list) else value
        for name, value in content.items()
    }


def settings(content: dict[str, Any]) -> Settings:
    added = decode.ADDED_OPTIONS.get(content["method"], {})
    return Settings(**decode._told_from_others({**content, "options": {**added, **content["options"]}}))


def provenance(content: dict[str, Any]) -> Provenance:
    tuned = content.get("tuned")
    return Provenance(**{**content, "tuned": Tuned(**tuned) if isinstance(tuned, dict) else tuned})


def plain(run: Record) -> dict[str, Any]:
    """A record as its file has it, with the rows of its tables."""
    beside = {name: getattr(run, name) for name in ("history", "weights") if getattr(run, name) is not None}
    return record.content_of(run) | msgspec.to_builtins(beside)
