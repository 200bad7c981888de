"""What is stored of runs, of tuning studies and of measurements: every field once, with its type, range and default.

The trainer builds these types, the readers use their attributes, and ``docs/record.schema.json`` is made of them
(``schema``). The files may have been edited, damaged, or made by somebody else: what they hold becomes one of these
types in ``decode`` and nowhere else, or is refused with half a sentence, so that no reader has to look twice. A field
with a default may be absent, as in files of earlier versions; fields that are not named here are not read.
"""

import re
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct, field

from dwfbench.base.text import ACCURACY
from dwfbench.runs.spec import SCHEMA, RunSpec

MEASUREMENT_SCHEMA = 1

# ---------------------------------------------------------------- types of fields

LARGEST = 1e300  # of a number, so that a mean of such numbers is one, too
WHOLE = 2**53
"""As floats, in which frames hold them, have all whole numbers up to it."""

Text = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*$(?!\n)", max_length=1 << 14)]
"""Without control characters and halves of surrogate pairs, which fit neither into a table nor into UTF-8."""
RUN_ID = re.compile(r"[0-9a-f]{12}")
RunId = Annotated[str, Meta(pattern=rf"^{RUN_ID.pattern}$(?!\n)")]
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
STATUSES = get_args(Status)


# ---------------------------------------------------------------- runs


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a run as its record has them: the fields of RunSpec, with all options of the method.

    Methods, options and values may be ones that this version does not know; ranges are RunSpec's matter.
    """

    method: MethodName
    options: dict[Text, Scalar]
    model: ModelName
    dataset: Text
    init: Text | None = RunSpec.init
    seed: Whole
    strength: Positive | None = RunSpec.strength
    compression: Positive | None = RunSpec.compression
    epochs: Counting = RunSpec.epochs
    batch_size: Counting = RunSpec.batch_size
    optimizer: Text = RunSpec.optimizer
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
    prune_embeddings: bool = RunSpec.prune_embeddings
    others: dict[Text, Scalar] = {}
    """Settings that this version does not know. In a file they stand beside the others."""

    def to_dict(self) -> dict[str, Any]:
        """All settings by name, as a file has them."""
        named = {name: getattr(self, name) for name in SETTINGS}
        return named | self.others if self.others else named


SETTINGS = tuple(name for name in Settings.__struct_fields__ if name != "others")


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
    """The same of a run. Nothing in it changes the run's identity; ``data_checksum`` is there if the run ended well.

    ``weights_checksum`` is of the file of the run's network; None where none is kept, and of an earlier version.
    ``tags`` and ``note`` are what the user says of the run.
    """

    data_checksum: Text | None = None
    lanes: Whole | None = None
    precision: Text | None = None
    compiled: bool | None = None
    tuned: Tuned | None = None
    weights_checksum: Text | None = None
    started: Text | None = None
    ended: Text | None = None
    tags: list[Text] = []
    note: Text | None = None


def is_text(value: str) -> bool:
    """Whether a record can hold the value: one line, short enough, in which nothing steers a terminal."""
    try:
        msgspec.convert(value, Text)
    except msgspec.ValidationError:
        return False
    return True


class Written(Struct, frozen=True, kw_only=True):
    """The record of a run as ``run.json`` has it, fields in the order in which they are written.

    Accuracies are fractions, or values of the data set's own score, which ``score`` then names; ``chance`` is the
    accuracy of the same answer for every sample of the part that was tested. Compression ratios are numel / nnz, times
    seconds. A run that ended well has at least a compression, its layers, thresholds and provenance; what a run of an
    earlier version lacks is None. ``notes`` say, in a sentence each, what of the network is not prunable, which layers
    were pruned by chance, and what is unknown, and why.
    """

    schema: int = SCHEMA
    id: RunId
    label: Text
    knob: Knob | None
    spec: Settings
    status: Status
    error: str | None = None
    score: Text | None = None
    chance: Fraction | None = None
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
    notes: list[Text] = []
    extra_passes: Whole | None = None
    seconds: Positive
    overhead_seconds: Positive | None = None
    peak_memory_bytes: Whole | None = None
    provenance: Provenance = field(default_factory=Provenance)


STORED = Written.__struct_fields__
OF_FAILURES = (
    *("schema", "id", "label", "knob", "spec", "status", "error"),
    *("extra_passes", "seconds", "overhead_seconds", "peak_memory_bytes", "provenance"),
)
"""What is written of a run that did not."""


class HistoryRow(Struct, frozen=True, kw_only=True):
    """A row of ``history.csv``: the columns of the table, in their order. What is blank or infinite there is None."""

    epoch: Whole
    train_loss: Number | None = None
    val_accuracy: Fraction | None = None
    compression: Ratio | None = None
    misalignment: Positive | None = None
    norm: Number | None = None
    lr: Positive | None = None
    seconds: Positive | None = None


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
    """Seconds that a pass of a form takes at a batch size, and how many times faster than dense that is, with the 95 %
    interval ``low`` to ``high`` of that (None: too few rounds for one, or measured by an earlier version).

    ``outliers`` counts the rounds in which the form was far slower or faster than usual.
    """

    batch: Counting
    form: Text
    median: Duration
    iqr: Positive
    speedup: Duration
    low: Duration | None = None
    high: Duration | None = None
    outliers: Whole = 0


class Measurement(Struct, frozen=True, kw_only=True):
    """What ``measure.json`` has: sizes and speed of the forms of a run's network on a device, and the load average of
    the minute before, where the system knows it."""

    schema: int
    id: Text | None = None
    device_name: Text | None
    threads: Counting
    load: Positive | None = None
    forms: dict[Text, Form]
    latency: list[Latency]


class Record(Written, frozen=True, kw_only=True):
    """A record as it was read, with what was asked for of the files beside it: None where nothing was asked for.

    Of several result sets that are read as one, ``set`` is the name of the one that tells the run's curve apart from
    another set's, and ``sources`` those of all that have the curve.
    """

    set: str | None = None
    sources: tuple[str, ...] = ()
    history: list[HistoryRow] | None = None
    weights: list[Sizes] | None = None
    measurement: Measurement | None = None

    @property
    def judged_by(self) -> str:
        """The name of what its accuracies are."""
        return self.score or ACCURACY

    @property
    def knob_value(self) -> float | None:
        return getattr(self.spec, self.knob) if self.knob else None

    def settings(self) -> dict[str, Any]:
        """What makes runs differ, by name: the settings, and the set where sets are told apart."""
        named = self.spec.to_dict()
        return named if self.set is None else named | {"set": self.set}


# ---------------------------------------------------------------- studies


class Trial(Struct, frozen=True, kw_only=True):
    """Settings that were tried: their score at each target of the study and the mean of these (None for none), their
    runs, and how many of these diverged, failed, or are no better than chance though compressed less than is judged."""

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


# ---------------------------------------------------------------- to JSON


def content_of(record: Written) -> dict[str, Any]:
    """A record as its file has it."""
    content = {name: getattr(record, name) for name in (STORED if record.status == "ok" else OF_FAILURES)}
    if record.status == "ok":
        del content["error"]
    return msgspec.to_builtins(content | {"spec": record.spec.to_dict()})
