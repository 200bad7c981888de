"""What is stored of runs, of tuning studies and of measurements: every field once, with its type, range and default.

The trainer builds these types, the readers use their attributes, and ``docs/record.schema.json`` is made of them
(``python -m dwfbench.runs.record FILE``). The files may have been edited, damaged, or made by somebody else: what they
hold becomes one of these types here and nowhere else, or is refused with half a sentence, so that no reader has to look
twice. A field with a default may be absent, as in files of earlier versions; fields that are not named here are not
read.
"""

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from dwfbench.runs.spec import SCHEMA, RunSpec

MEASUREMENT_SCHEMA = 1

# ---------------------------------------------------------------- types of fields

LARGEST = 1e300  # of a number, so that a mean of such numbers is one, too
WHOLE = 2**63 - 1

Text = Annotated[str, Meta(pattern=r"^(?![\s\S]*[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff])")]
"""Without control characters and halves of surrogate pairs, which fit neither into a table nor into UTF-8."""
MethodName = Annotated[str, Meta(pattern=r"^[\w.-]+(@[0-9a-f]{12})?$(?!\n)")]
ModelName = Annotated[str, Meta(pattern=r"^(?![\s\S]*\.py:\w)([\w.-]+(@[0-9a-f]{12})?|\w+(\.\w+)*:\w+)$(?!\n)")]
"""Not file.py:callable, the form of a command line, which would run the file."""

Number = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
Positive = Annotated[float, Meta(ge=0, le=LARGEST)]
"""Or zero."""
Fraction = Annotated[float, Meta(ge=0, le=1)]
Ratio = Annotated[float, Meta(ge=1, le=LARGEST)]
Duration = Annotated[float, Meta(ge=1e-300, le=LARGEST)]
Whole = Annotated[int, Meta(ge=0, le=WHOLE)]
Counting = Annotated[int, Meta(ge=1, le=WHOLE)]
Scalar = None | bool | Annotated[int, Meta(ge=-WHOLE, le=WHOLE)] | Number | Text

Status = Literal["ok", "diverged", "failed"]
Knob = Literal["strength", "compression"]
STATUSES = ("ok", "diverged", "failed")


# ---------------------------------------------------------------- runs


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of a run as its record has them: the fields of RunSpec, with all options of the method.

    Methods, options and values may be ones that this version does not know; ranges are RunSpec's matter.
    """

    method: MethodName
    options: dict[Text, Scalar]
    model: ModelName
    dataset: Text
    seed: Whole
    strength: Positive | None = RunSpec.strength
    compression: Positive | None = RunSpec.compression
    epochs: Counting = RunSpec.epochs
    batch_size: Counting = RunSpec.batch_size
    lr: Positive = RunSpec.lr
    momentum: Positive = RunSpec.momentum
    nesterov: bool = RunSpec.nesterov
    weight_decay: Positive = RunSpec.weight_decay
    warmup_epochs: Positive = RunSpec.warmup_epochs
    lr_drops: Text | None = RunSpec.lr_drops
    lr_drop_factor: Positive = RunSpec.lr_drop_factor
    clip_norm: Positive = RunSpec.clip_norm
    precision: Text = RunSpec.precision
    augment: Text = RunSpec.augment
    val_fraction: Fraction = RunSpec.val_fraction
    split_seed: Whole = RunSpec.split_seed
    image_size: Counting | None = RunSpec.image_size
    others: dict[Text, Scalar] = {}
    """Settings that this version does not know. In a file they stand beside the others."""

    def to_dict(self) -> dict[str, Any]:
        """All settings by name, as a file has them."""
        named = {name: getattr(self, name) for name in SETTINGS}
        return named | self.others if self.others else named


SETTINGS = tuple(name for name in Settings.__struct_fields__ if name != "others")

ADDED_OPTIONS: dict[str, dict[str, Any]] = {
    "dwf": {"group": "none", "finetune_epochs": 0, "finetune_lr": 0.1},
    **{
        name: {"distribution": "global"}
        for name in ("grasp", "imp", "lamp", "magnitude", "powerprop", "snip", "synflow")
    },
    **{name: {"distribution": "erk"} for name in ("rigl", "set")},
}
"""Options that records of a method may not know, with what they were run with."""


class Layer(Struct, frozen=True, kw_only=True):
    """A prunable weight tensor, in the order of the network."""

    name: Text
    shape: list[Whole] = []
    numel: Counting
    nnz: Whole


class Cut(Struct, frozen=True, kw_only=True):
    """The run as it is when every |w| below ``threshold`` is zero; compression is None when nothing is left."""

    threshold: Positive
    nnz: Whole | None = None
    compression: Ratio | None
    test_accuracy: Fraction | None


class Tuned(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which study chose the settings of a run, at which of its targets, and what it chose."""

    study: Text | None = None
    trials: Whole | None = None
    objective: Number | None = None
    targets: list[Number] = []
    values: dict[Text, Scalar] = {}


class Origin(Struct, frozen=True, kw_only=True):
    """What something was made with and by which command."""

    versions: dict[Text, Text | None] = {}
    git_commit: Text | None = None
    git_dirty: bool | None = None
    device: Text | None = None
    device_name: Text | None = None
    threads: Whole | None = None
    argv: list[str] = []


class Provenance(Origin, frozen=True, kw_only=True):
    """The same of a run. Nothing in it changes the run's identity; ``data_checksum`` is there if the run ended well."""

    data_checksum: Text | None = None
    lanes: Whole | None = None
    precision: Text | None = None
    compiled: bool | None = None
    tuned: Tuned | None = None
    started: Text | None = None
    ended: Text | None = None


class Written(Struct, frozen=True, kw_only=True):
    """The record of a run as ``run.json`` has it, fields in the order in which they are written.

    Accuracies are fractions, compression ratios numel / nnz, times seconds. A run that ended well has at least a
    compression, its layers, thresholds and provenance; what a run of an earlier version lacks is None.
    """

    schema: int = SCHEMA
    id: str
    label: Text
    knob: Knob | None
    spec: Settings
    status: Status
    error: str | None = None
    val_accuracy: Fraction | None = None
    compression: Ratio | None = None
    compression_all: Ratio | None = None
    nnz: Whole | None = None
    numel: Whole | None = None
    layers: list[Layer] = []
    connected: bool | None = None
    effective_compression: Ratio | None = None
    macs_dense: Whole | None = None
    macs_sparse: Whole | None = None
    test_accuracy: Fraction | None = None
    test_loss: Number | None = None
    test_top5_accuracy: Fraction | None = None
    dense_equivalent_accuracy: Fraction | None = None
    thresholds: list[Cut] = []
    extra_passes: Whole | None = None
    seconds: Positive
    overhead_seconds: Positive | None = None
    peak_memory_bytes: Whole | None = None
    provenance: Provenance = field(default_factory=Provenance)


STORED = Written.__struct_fields__
NEEDED = ("compression", "layers", "thresholds", "provenance")
"""What the file of a run that ended well has."""
OF_FAILURES = (
    *("schema", "id", "label", "knob", "spec", "status", "error"),
    *("extra_passes", "seconds", "overhead_seconds", "peak_memory_bytes", "provenance"),
)
"""What is written of a run that did not."""


class HistoryRow(Struct, frozen=True, kw_only=True):
    """A row of ``history.csv``: the columns of the table, in their order. What is blank or infinite there is None."""

    epoch: int
    train_loss: float | None = None
    val_accuracy: float | None = None
    compression: float | None = None
    misalignment: float | None = None
    norm: float | None = None
    lr: float | None = None
    seconds: float | None = None


HISTORY = HistoryRow.__struct_fields__


class Sizes(Struct, frozen=True, kw_only=True):
    """A row of ``weights.csv``: numbers of weights by bin, {"zero": ..., "-7": ..., ...}, see ``count.SIZES``."""

    epoch: int
    sizes: dict[str, float]


class Form(Struct, frozen=True, kw_only=True):
    """A form of a network: dense, sparse or compact."""

    bytes: Whole
    bytes_zlib: Whole
    macs: Whole
    max_abs_difference: Number | None = None
    tolerance: Number | None = None
    test_accuracy: Fraction


class Latency(Struct, frozen=True, kw_only=True):
    """Seconds that a pass of a form takes at a batch size, and how many times faster than dense that is."""

    batch: Counting
    form: Text
    median: Duration
    iqr: Positive
    speedup: Duration


class Measurement(Struct, frozen=True, kw_only=True):
    """What ``measure.json`` has: sizes and speed of the forms of a run's network on a device."""

    schema: int
    id: Text | None = None
    device_name: Text | None
    threads: Counting
    forms: dict[Text, Form]
    latency: list[Latency]


class Record(Written, frozen=True, kw_only=True):
    """A record as it was read, with what was asked for of the files beside it: None where nothing was asked for.

    ``set`` is the name of the result set that tells the run's curve apart from another set's.
    """

    set: str | None = None
    history: list[HistoryRow] | None = None
    weights: list[Sizes] | None = None
    measurement: Measurement | None = None

    @property
    def knob_value(self) -> float | None:
        return getattr(self.spec, self.knob) if self.knob else None

    def settings(self) -> dict[str, Any]:
        """What makes runs differ, by name: the settings, and the set where sets are told apart.

        What a study chose for the compression of this run it may have chosen otherwise for others of its curve: its id
        stands for all that.
        """
        named, tuned = self.spec.to_dict(), self.provenance.tuned
        if tuned is not None and tuned.targets:
            named = {name: value for name, value in named.items() if name not in tuned.values} | {"study": tuned.study}
            named["options"] = {name: value for name, value in named["options"].items() if name not in tuned.values}
        return named if self.set is None else named | {"set": self.set}


# ---------------------------------------------------------------- studies


class Trial(Struct, frozen=True, kw_only=True):
    """Settings that were tried: their score at each target of the study and the mean of these (None for none), their
    runs, and how many of these ended badly."""

    values: dict[Text, Scalar]
    value: Number | None = None
    scores: list[Number | None] = []
    runs: list[str] = []
    bad: Whole | None = None


class Study(Struct, frozen=True, kw_only=True):
    """A tuning study; ``best`` is the place of the trial that is best as a whole, ``winners`` are those of the best at
    each of the ``targets``, compression ratios (None: no trial has a score there). Earlier studies have no targets."""

    id: Text
    label: Text
    method: Text
    model: Text
    dataset: Text
    objective: Text
    range: list[Number] = []
    targets: list[Ratio] = []
    budget: dict[str, Any]
    trials: list[Trial]
    winners: list[Whole | None] = []
    best: Whole
    provenance: Origin = field(default_factory=Origin)

    @property
    def winner(self) -> Trial:
        return self.trials[self.best]


# ---------------------------------------------------------------- from JSON


class Fault(ValueError):
    """Why JSON is not what it should be, as half a sentence."""


Type = TypeVar("Type")


def record_of(content: Any, run_id: str) -> Record:
    """The record of the run ``run_id``. Raises Fault where the JSON is none that readers can rely on."""
    if type(content) is not dict:
        raise Fault("it is no table")
    if content.get("id") != run_id:
        raise Fault("its id is not the name of its folder")
    status = content.get("status")
    if not (type(status) is str and status in STATUSES):
        raise Fault(f"its status is none of {', '.join(STATUSES)}")
    known = {name: content[name] for name in STORED if name in content}
    if "spec" in known:
        known["spec"] = _told_from_others(known["spec"])
    record = converted(known, Record)
    if record.knob and record.knob_value is None:
        raise Fault(f"its spec has no {record.knob}")
    if status == "ok":
        if absent := next((name for name in NEEDED if name not in content), None):
            raise Fault(f"it has no {absent}")
        if record.compression is None:
            raise Fault("its compression is damaged")
        if record.provenance.data_checksum is None:
            raise Fault("its provenance is damaged")
    return record


def _told_from_others(spec: Any) -> Any:
    """Settings with those that this version does not know in a table of their own, and with the options of later."""
    if type(spec) is not dict:
        return spec
    told = {name: spec[name] for name in SETTINGS if name in spec}
    if len(told) < len(spec):
        told["others"] = {name: value for name, value in spec.items() if name not in told}
    method, options = spec.get("method"), spec.get("options")
    if type(method) is str and method in ADDED_OPTIONS and type(options) is dict:
        told["options"] = ADDED_OPTIONS[method] | options
    return told


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


def converted(content: Any, wanted: type[Type]) -> Type:
    """JSON as one of the types above. Raises Fault."""
    if type(content) is not dict:
        raise Fault("it is no table")
    try:
        return msgspec.convert(content, wanted)
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
    known = outer == "spec" and inner in SETTINGS
    return f"in its spec, its {inner} is damaged" if known else f"its {outer} is damaged"


# ---------------------------------------------------------------- to JSON


def content_of(record: Written) -> dict[str, Any]:
    """A record as its file has it."""
    content = {name: getattr(record, name) for name in (STORED if record.status == "ok" else OF_FAILURES)}
    if record.status == "ok":
        del content["error"]
    return msgspec.to_builtins(content | {"spec": record.spec.to_dict()})


def schema() -> dict[str, Any]:
    """JSON Schema of a record, a study and a measurement."""
    _, types = msgspec.json.schema_components([Written, Study, Measurement], ref_template="#/$defs/{name}")
    others = types["Settings"]["properties"].pop("others")
    types["Settings"]["additionalProperties"] = others["additionalProperties"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Records of dwfbench",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in ("Written", "Study", "Measurement")],
        "$defs": types,
    }


def schema_text() -> str:
    """The content of docs/record.schema.json."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8")
