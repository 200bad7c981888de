"""Which runs are those of one curve."""

import hashlib
import json
import re
from typing import Any

import msgspec

from dwfbench.runs.record import Record

VARYING = {"seed", "strength", "compression"}
"""The fields of a spec that move along a curve, not between curves."""

TUNED = "tuned"
"""What stands for the value of a setting that a tuning study chose."""


def curve_settings(record: Record) -> dict[str, Any]:
    """The settings that make a curve, by name, the method's options among them.

    What a study chose may be another value at every compression (the winner where the run was judged): along a curve
    it is just "tuned".
    """
    named = record.settings()
    every = {name: value for name, value in named.items() if name != "options"} | named["options"]
    tuned = chosen(record)
    return {name: TUNED if name in tuned else value for name, value in every.items() if name not in VARYING}


def curve_label(record: Record) -> str:
    """The record's label without the options that a study chose: "magnitude (finetune lr=0.3)" -> "magnitude".

    Labels are written by ``Method.label``: "name (option=value, ...)", or a list without brackets.
    """
    options = record.spec.options
    texts = {_words(name, options[name]) for name in chosen(record) if name in options}
    if not texts:
        return record.label
    if inside := re.fullmatch(r"(.*) \((.*)\)", record.label):
        options_left = _without(inside[2], texts)
        return f"{inside[1]} ({options_left})" if options_left else inside[1]
    return _without(record.label, texts)


def _without(listed: str, texts: set[str]) -> str:
    return ", ".join(part for part in listed.split(", ") if part not in texts)


def _words(name: str, value: Any) -> str:
    """An option as a label has it."""
    words = name.replace("_", " ")
    return words if value is True else f"{words}={value}"


def chosen(record: Record) -> dict[str, Any]:
    """The settings that a study chose for a run."""
    tuned = record.provenance.tuned
    return tuned.values if tuned is not None and tuned.study is not None else {}


def curve_key(record: Record) -> str:
    """A hash of the settings that make a curve."""
    tuned = record.provenance.tuned
    if tuned is None or tuned.study is None:  # most are, and ten thousand are labelled at once
        along = msgspec.structs.replace(record.spec, seed=0, strength=None, compression=None)
        content = msgspec.json.encode((along, record.set), order="sorted")
    else:
        content = json.dumps(curve_settings(record), sort_keys=True, default=str).encode()
    return hashlib.sha256(content).hexdigest()[:8]
