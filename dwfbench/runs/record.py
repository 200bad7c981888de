"""What the JSON files of a results folder must hold to be read: records, studies, measurements.

They may have been edited, damaged, or made by somebody else. The readers of a record rely on the types given here, so
none of them has to look twice. What may be absent is what runs of earlier versions lack; what is not named here is not
read.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]

UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # neither in a table nor in UTF-8
METHOD = re.compile(r"[\w.-]+(@[0-9a-f]{12})?")
MODEL = re.compile(r"[\w.-]+(@[0-9a-f]{12})?|\w+(\.\w+)*:\w+")
IN_FILE = re.compile(r"\.py:\w+")  # the form of a command line, which would run the file
STATUSES = ("ok", "diverged", "failed")
KNOBS = (None, "strength", "compression")


# ---------------------------------------------------------------- checks


def number(low: float = -1e300, high: float = 1e300) -> Check:
    """A finite number; true and false are none."""
    return lambda value: type(value) in (int, float) and low <= value <= high


def whole(low: int = 0, high: int = 2**63 - 1) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def text(value: Any) -> bool:
    return type(value) is str and not UNFIT.search(value)


def words(value: Any) -> bool:
    """Any text, also one of several lines."""
    return type(value) is str


def switch(value: Any) -> bool:
    return type(value) is bool


def scalar(value: Any) -> bool:
    return value is None or type(value) is bool or text(value) or number()(value)


def name_of(pattern: re.Pattern) -> Check:
    return lambda value: text(value) and bool(pattern.fullmatch(value)) and not IN_FILE.search(value)


def optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def listed(check: Check) -> Check:
    return lambda value: type(value) is list and all(map(check, value))


def mapped(check: Check) -> Check:
    """A table whose keys are text and whose values are all such."""
    return lambda value: type(value) is dict and all(text(key) and check(one) for key, one in value.items())


def table(needed: Mapping[str, Check], known: Mapping[str, Check] = {}) -> Check:
    return lambda value: wrong(value, needed, known) is None


def wrong(content: Any, needed: Mapping[str, Check], known: Mapping[str, Check] = {}) -> str | None:
    """What is wrong with a table, as half a sentence: a needed field is absent, or one is not as it must be."""
    if type(content) is not dict:
        return "it is no table"
    for name, check in needed.items():
        if name not in content:
            return f"it has no {name}"
        if not check(content[name]):
            return f"its {name} is damaged"
    return next(
        (f"its {name} is damaged" for name in known if name in content and not known[name](content[name])), None
    )


# ---------------------------------------------------------------- records

FRACTION, RATIO, COUNT = optional(number(0, 1)), number(1), optional(number(0))

IDENTITY = {
    "method": name_of(METHOD),
    "options": mapped(scalar),
    "model": name_of(MODEL),
    "dataset": text,
    "seed": whole(),
}
"""What the spec of every record has; the other settings came one after the other."""

SETTINGS = {
    **dict.fromkeys(("strength", "compression"), optional(number(0))),
    **dict.fromkeys(("epochs", "batch_size"), whole(1)),
    **dict.fromkeys(("lr", "momentum", "weight_decay", "warmup_epochs", "lr_drop_factor", "clip_norm"), number(0)),
    **dict.fromkeys(("precision", "augment"), text),
    "lr_drops": optional(text),
    "nesterov": switch,
    "val_fraction": number(0, 1),
    "split_seed": whole(),
    "image_size": optional(whole(1)),
}

LAYER = table({"name": text, "numel": whole(1), "nnz": whole()}, {"shape": listed(whole())})
CUT = table({"threshold": number(0), "compression": optional(RATIO), "test_accuracy": FRACTION}, {"nnz": whole()})

PROVENANCE = {
    "data_checksum": text,
    "versions": mapped(optional(text)),
    **dict.fromkeys(("git_commit", "device", "device_name", "precision", "started", "ended"), optional(text)),
    **dict.fromkeys(("git_dirty", "compiled"), optional(switch)),
    **dict.fromkeys(("threads", "lanes"), optional(whole())),
    "argv": listed(words),
    "tuned": optional(
        table({}, {"study": text, "trials": whole(), "objective": optional(number()), "values": mapped(scalar)})
    ),
}

ALWAYS = {"label": text, "knob": lambda value: value in KNOBS, "seconds": number(0)}

RESULTS = {
    "compression": RATIO,
    "layers": listed(LAYER),
    "thresholds": listed(CUT),
    "provenance": table({"data_checksum": text}, PROVENANCE),
}
"""What a run that ended well has beside; others may have it."""

SOMETIMES = {
    **dict.fromkeys(("test_accuracy", "test_top5_accuracy", "val_accuracy", "dense_equivalent_accuracy"), FRACTION),
    **dict.fromkeys(("compression_all", "effective_compression"), optional(RATIO)),
    **dict.fromkeys(("macs_dense", "macs_sparse", "overhead_seconds", "peak_memory_bytes", "extra_passes"), COUNT),
    **dict.fromkeys(("nnz", "numel"), optional(whole())),
    "test_loss": optional(number()),
    "connected": optional(switch),
    "error": optional(words),
}


def of_record(content: Any, run_id: str) -> str | None:
    """Why JSON is not the record of the run ``run_id`` that readers can rely on, as half a sentence; None if it is."""
    if type(content) is not dict:
        return "it is no table"
    if content.get("id") != run_id:
        return "its id is not the name of its folder"
    if not (type(content.get("status")) is str and content["status"] in STATUSES):
        return f"its status is none of {', '.join(STATUSES)}"
    if why := of_settings(content.get("spec"), content.get("knob")):
        return why
    ended_well = content["status"] == "ok"
    needed = ALWAYS | RESULTS if ended_well else ALWAYS
    return wrong(content, needed, SOMETIMES if ended_well else RESULTS | SOMETIMES)


def of_settings(spec: Any, knob: Any) -> str | None:
    """The same for a record's ``spec``, which is turned by this knob. Fields that are not known must be scalars."""
    if why := wrong(spec, IDENTITY, SETTINGS):
        return f"in its spec, {why}"
    if not all(text(name) and (name == "options" or scalar(value)) for name, value in spec.items()):
        return "its spec is damaged"
    if type(knob) is str and knob in KNOBS and not number(0)(spec.get(knob)):
        return f"its spec has no {knob}"
    return None


# ---------------------------------------------------------------- studies and measurements

VALUE = optional(number())

STUDY = {
    **dict.fromkeys(("id", "label", "method", "model", "dataset", "objective"), text),
    "budget": table({}),
    "trials": listed(
        table({"values": mapped(scalar)}, {"value": VALUE, "runs": listed(words), "bad": optional(whole())})
    ),
    "best": whole(),
}
STUDY_BESIDE = {"provenance": table({}, PROVENANCE)}


def of_study(content: Any) -> str | None:
    """Why JSON is not a tuning study, as half a sentence; None if it is one."""
    if why := wrong(content, STUDY, STUDY_BESIDE):
        return why
    return None if content["best"] < len(content["trials"]) else "its best trial is none of its trials"


FORM = table(
    {"test_accuracy": number(0, 1), **dict.fromkeys(("macs", "bytes", "bytes_zlib"), whole())},
)
TIME = table(
    {"form": text, "batch": whole(1), **dict.fromkeys(("median", "speedup"), number(1e-300)), "iqr": number(0)},
)


def of_measurement(content: Any) -> str | None:
    """Why JSON is not a measurement of a network's forms, as half a sentence; None if it is one."""
    needed = {
        "forms": mapped(FORM),
        "latency": listed(TIME),
        "device_name": optional(text),
        "threads": whole(1),
    }
    if why := wrong(content, needed):
        return why
    rows = [(one["form"], one["batch"]) for one in content["latency"]]
    if not {form for form, _ in rows} <= content["forms"].keys() or len(set(rows)) < len(rows):
        return "its latency is damaged"
    return None
