"""RunSpec: every number that changes a result, with its default, its check and its help, written once.

The fields make the flags of ``dwfbench run``, the keys of recipes and ``--config`` files, and the run's identity.
Device, threads, lanes and paths do not change a result; they belong to a record's provenance.
"""

import hashlib
import json
import math
import shlex
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from dwfbench.base import files, plugins, toml
from dwfbench.base.errors import UsageError
from dwfbench.base.text import nearest

Type = TypeVar("Type")

SCHEMA = 1
"""Version of the record and of the identity; it changes only when old records would be misread."""

AUGMENTATIONS = ("none", "standard", "paper")
OPTIMIZERS = ("sgd", "adam", "adamw")
PRECISIONS = ("float32", "bfloat16")
SHORT_PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}


def setting(
    default: Any, help: str, *, low=-math.inf, high=math.inf, open: bool = False, choices=(), short: Mapping = {}
):
    """A dataclass field with its help text and its range (``open``: the bounds themselves are excluded).

    ``short`` are other spellings of choices.
    """
    meta = {"help": help, "low": low, "high": high, "open": open, "choices": tuple(choices), "short": short}
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class RunSpec:
    """One run: one method at one knob value with one seed. Raises UsageError for a value out of range.

    ``options`` holds the method's options that differ from its defaults; ``id`` is the content hash.
    """

    method: str = "dwf"
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str = setting(
        "lenet-300-100", "network: a name of `dwfbench list models`, pkg.module:callable or file.py:callable"
    )
    dataset: str = setting(
        "digits",
        "data set: a name of `dwfbench list datasets`, or an image folder, also in a .zip, .tar, .tar.gz or .tar.xz",
    )
    init: str | None = setting(
        None, "trained weights to start from: .safetensors, or a state dict of torch.save; DWF takes balanced factors"
    )
    seed: int = setting(0, "seed of initial weights, batches and masks", low=0, high=2**31 - 1)
    strength: float | None = setting(None, "strength lambda of the penalty (dwf, spred, l1)", low=0)
    compression: float | None = setting(None, "target compression ratio numel / nnz (the pruners)", low=1)
    epochs: int = setting(100, "epochs, fine-tuning included", low=1, high=100_000)
    batch_size: int = setting(128, "samples a step; an epoch's incomplete last batch is dropped", low=1)
    optimizer: str = setting("sgd", "rule of the steps: sgd, adam or adamw", choices=OPTIMIZERS)
    lr: float = setting(0.1, "peak learning rate; Adam needs less than SGD, such as 1e-3", low=0, open=True)
    momentum: float = setting(0.9, "momentum of SGD, first beta of Adam", low=0, high=0.999)
    nesterov: bool = setting(False, "Nesterov momentum")
    weight_decay: float = setting(5e-4, "L2 decay of the prunable weights in methods without a penalty", low=0)
    warmup_epochs: float = setting(0.0, "epochs of linear warm-up", low=0, high=100_000)
    lr_drops: str | None = setting(None, "epochs after which lr falls, e.g. 60,120, instead of a cosine")
    lr_drop_factor: float = setting(10.0, "by what lr falls at lr_drops", low=1)
    clip_norm: float = setting(0.0, "clip each run's gradient to this norm (0: off)", low=0)
    precision: str = setting(
        "float32", "arithmetic of forward and backward: float32 or bf16", choices=PRECISIONS, short=SHORT_PRECISIONS
    )
    augment: str = setting("none", "augmentation of training images", choices=AUGMENTATIONS)
    val_fraction: float = setting(0.1, "part of the training data kept for validation", low=0, high=0.5)
    split_seed: int = setting(0, "seed of the train/validation split", low=0, high=2**31 - 1)
    image_size: int | None = setting(None, "resize all images to squares of this side", low=1, high=2048)
    prune_embeddings: bool = setting(False, "let the weights of Embedding layers be prunable, too")

    def __post_init__(self):
        settle(self)
        if self.strength is not None and self.compression is not None:
            raise UsageError("A run has one knob: give a strength or a compression, not both.")
        if self.nesterov and self.optimizer != "sgd":
            raise UsageError(f"nesterov is a form of SGD's momentum; leave it out with {self.optimizer}.")
        drops = self.drops
        if drops and not (list(drops) == sorted(set(drops)) and drops[0] > 0 and drops[-1] < self.epochs):
            raise UsageError(f"lr_drops must be rising epochs between 1 and {self.epochs - 1}, not {self.lr_drops}.")

    @property
    def drops(self) -> tuple[int, ...]:
        """``lr_drops`` as numbers; none for a cosine."""
        try:
            return tuple(int(part) for part in self.lr_drops.split(",")) if self.lr_drops else ()
        except ValueError:
            raise UsageError(f"lr_drops must be whole numbers separated by commas, not {self.lr_drops!r}.") from None

    @property
    def identity(self) -> str:
        """Canonical JSON of the schema version and the fields that are not at their defaults."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        changed = {name: value for name, value in values.items() if value != getattr(DEFAULTS, name)}
        return json.dumps({"schema": SCHEMA, **changed}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @property
    def id(self) -> str:
        """First 12 hex digits of the identity's SHA-256: the name of the run's folder."""
        return hashlib.sha256(self.identity.encode()).hexdigest()[:12]

    @property
    def knob(self) -> float | None:
        """The value of the knob, whichever it is; None for a method without one."""
        return self.strength if self.strength is not None else self.compression

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "options": dict(self.options)}


def settle(options: Any, but: Collection[str] = ()) -> None:
    """Check and convert the fields of a dataclass of settings, for its ``__post_init__``; ``but`` some.

    Raises UsageError as ``coerce``.
    """
    for item in fields(options):
        if item.name not in but:
            object.__setattr__(options, item.name, coerce(item, getattr(options, item.name)))


def from_given(settings_type: type[Type], values: Mapping[str, Any]) -> Type:
    """A dataclass of settings from those of its fields that are given, and not None; others may be among them."""
    names = [item.name for item in fields(settings_type)]  # type: ignore[arg-type]
    return settings_type(**{name: values[name] for name in names if values.get(name) is not None})


def coerce(item, value: Any) -> Any:
    """``value`` as the type of a dataclass field, checked against its range; UsageError if it does not fit.

    Text is read as the type demands ("False" is false, not true); an int is fine where a float is wanted.
    """
    name, value_type, meta = item.name, item.type, item.metadata
    optional = value_type in (int | None, float | None, str | None)
    if optional and (value is None or value == "none"):
        return None
    try:
        if value_type is bool:
            value = boolean(value)
        elif value_type in (int, int | None):
            if isinstance(value, bool) or float(value) != int(float(value)):
                raise ValueError
            value = int(float(value)) if isinstance(value, (str, float)) else int(value)
        elif value_type in (float, float | None):
            if isinstance(value, bool):
                raise ValueError
            value = float(value)
        elif value_type in (str, str | None):
            if not isinstance(value, str) or not value:
                raise ValueError
        elif not isinstance(value, Mapping):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        words_of = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        needed = next((words for base, words in words_of.items() if value_type in (base, base | None)), "a table")
        raise UsageError(f"{name} must be {needed}, not {value!r}.") from None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and meta:
        low, high = meta["low"], meta["high"]
        fits = (low < value < high) if meta["open"] else (low <= value <= high)
        if not fits or not math.isfinite(value):
            edge = "above" if meta["open"] else "at least"
            bounds = [f"{edge} {low:g}"] * (low > -math.inf) + [f"at most {high:g}"] * (high < math.inf)
            raise UsageError(f"{name} must be {' and '.join(bounds) or 'finite'}, not {value:g}.")
    value = meta.get("short", {}).get(value, value) if isinstance(value, str) else value
    if meta.get("choices") and value not in meta["choices"]:
        raise UsageError(f"{name} must be one of {', '.join(meta['choices'])}, not {value!r}.")
    return value


def stated(item, value: Any) -> Any:
    """The same as layers of settings hold it: "none" stays a text, for what is None there nobody has said."""
    checked = coerce(item, value)
    return "none" if checked is None else checked


def boolean(value: Any) -> bool:
    """A text, of which "no" is false, or what is true or false already. Raises ValueError for other words."""
    if isinstance(value, bool):
        return value
    words = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError
    return words[value.lower()]


DEFAULTS = RunSpec()


def settings() -> dict[str, Any]:
    """The dataclass fields of RunSpec that are shared by all methods, by name (no method, options, seed, knob)."""
    return {item.name: item for item in fields(RunSpec) if item.name not in OWN}


OWN = ("method", "options", "seed", "strength", "compression")

DATA_KEYS = ("val_fraction", "split_seed", "image_size")
"""Settings that choose the data; with model and dataset they are the same for all methods of a command."""

CURVE_KEYS = (
    *("seed", "seeds", "strength", "compression", "points"),
    *("strength_range", "strength_max", "compression_range", "max_runs", "max_gap"),
)
"""What a recipe, config file or command line may say about a curve, beside the fields of RunSpec."""


# ---------------------------------------------------------------- recipes and config files (TOML)

MOST_TOML = 1 << 16
"""Bytes of a recipe or config file: thirty times as many as the largest that comes with dwfbench."""


def read_toml(path: Path, allowed: Collection[str] | None = ()) -> dict[str, Any]:
    """A recipe or config file: fields of RunSpec and CURVE_KEYS, and a table ``[method.NAME]`` a method.

    Keys may be written with dashes. Of code that is not installed, the file may name what is ``allowed`` (None:
    everything), as it may be somebody else's. Raises UsageError for other code, for a file that cannot be read or
    parsed, for a value of the wrong type and for unknown top-level keys, naming the nearest known one. (Keys of method
    tables are checked against the method later.)
    """
    try:
        content = underscored(toml.parsed(files.text(path, MOST_TOML)))
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:  # what Python cannot hold too, such as a day 0 or 5,000 digits
        raise UsageError(f"{path} is not valid TOML: {error}.") from None
    known_keys = [*settings(), *CURVE_KEYS, "title", "methods", "method"]
    for key in content:
        if key not in known_keys:
            raise UsageError(f"{path}: unknown key {key!r}{nearest(key, known_keys)}")
        if key in settings():
            content[key] = stated(settings()[key], content[key])
    methods = content.get("methods", [])
    if not isinstance(methods, (str, list)) or not all(isinstance(name, str) for name in methods):
        raise UsageError(f"{path}: methods must be a list of names.")
    if any(name.endswith("]") for name in methods):
        raise UsageError(f"{path}: methods must be names without brackets; give options in a table, [method.dwf].")
    tables = content.get("method", {})
    shared = ("model", "dataset", "methods", *DATA_KEYS)
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise UsageError(f"{path}: write methods as tables, [method.dwf], and choose them with methods = [...].")
    for name, table in tables.items():
        whens = table.get("when", [])
        if not isinstance(whens, list) or not all(isinstance(when, dict) for when in whens):
            raise UsageError(f"{path}: write [[method.{name}.when]], in double brackets.")
        for key in shared:
            if any(key in part for part in (table, *whens)):
                raise UsageError(f"{path}: {key} is the same for all methods; move it out of [method.{name}].")
    if allowed is not None:
        refuse_code(path, content, allowed)
    return content


def refuse_code(path: Path, content: Mapping[str, Any], allowed: Collection[str]) -> None:
    """UsageError for code that the content of a file names and that is not among what is allowed."""
    methods = content.get("methods", [])
    named = {
        "model": [content.get("model", "")],
        "dataset": [name for name in [content.get("dataset", "")] if plugins.names_file(name)],
        "method": [*([methods] if isinstance(methods, str) else methods), *content.get("method", {})],
    }
    for flag, words in named.items():
        for word in words:
            if plugins.names_code(word) and word not in allowed:
                raise UsageError(
                    f"{path} names code, {word!r}, that runs only if the command line names it, too: read it, then add "
                    f"--{flag} {shlex.quote(word)} or --allow-code."
                )


def underscored(content: Any) -> Any:
    """Keys with dashes turned into underscores, except names of methods."""
    if isinstance(content, list):
        return [underscored(item) for item in content]
    if not isinstance(content, dict):
        return content
    return {
        key.replace("-", "_"): {name: underscored(table) for name, table in value.items()}
        if key == "method" and isinstance(value, dict)
        else underscored(value)
        for key, value in content.items()
    }


def recipes() -> dict[str, Path]:
    """The recipes that come with dwfbench, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.toml"))}


def recipe_path(name: str) -> Path:
    """The file of a recipe; UsageError with the nearest name if there is none."""
    by_name = recipes()
    if name not in by_name:
        raise UsageError(f"There is no recipe {name!r}{nearest(name, by_name)} `dwfbench list recipes` shows them.")
    return by_name[name]


def base_recipe(name: str | None, model: str | None, dataset: str | None) -> dict[str, Any]:
    """The lowest layer of settings: the named recipe, else the one named <model>-<dataset>, else none.

    So a recipe of another name, such as another paper's protocol for the same network, is used only when asked for.
    """
    if name is not None:
        return read_toml(recipe_path(name))
    path = recipes().get(f"{model or RunSpec.model}-{dataset or RunSpec.dataset}")
    return read_toml(path) if path else {}
