"""Run records as tidy frames, and the one place that labels curves.

Accuracies are percent (records hold fractions), compression ratios (CR) are numel / nnz >= 1, times are seconds. A
*curve* is all runs that agree in every field of their spec except seed, strength, compression and what a tuning study
chose; every frame names it by the three columns `dataset`, `model`, `label`. Empty input gives empty frames with the
same columns.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dwfbench.analysis import soundness
from dwfbench.runs.curve import chosen, curve_key, curve_label, curve_settings
from dwfbench.runs.record import Record

PANEL = ["dataset", "model"]
KEYS = [*PANEL, "label"]


class Column(NamedTuple):
    """A column of the runs: its value for a record, None where that is said of the record's curve, and its type."""

    read: Callable[[Record], Any] | None
    dtype: Any = object


def _field(path: str, dtype: Any = object) -> Column:
    return Column(attrgetter(path), dtype)


def _depth(record: Record) -> float | None:
    depth = record.spec.options.get("depth")
    return None if isinstance(depth, str) else depth  # another package's method may mean something else by it


def _macs(record: Record) -> float | None:
    return min((record.macs_sparse or 0) / record.macs_dense, 1) if record.macs_dense else None


def _tuned(record: Record) -> str | None:
    return ", ".join(f"{name}={value}" for name, value in sorted(chosen(record).items())) or None


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


COLUMNS = {
    "id": _field("id"),
    "curve": Column(None),
    "label": Column(None),
    "method": _field("spec.method"),
    "depth": Column(_depth, float),
    "dataset": _field("spec.dataset"),
    "model": _field("spec.model"),
    "seed": _field("spec.seed", "Int64"),
    "epochs": _field("spec.epochs", "Int64"),
    "knob": _field("knob"),
    "knob_value": _field("knob_value", float),
    "status": _field("status"),
    "error": _field("error"),
    "compression": _field("compression", float),
    "accuracy": Column(lambda record: _percent(record.test_accuracy), float),
    "val_accuracy": Column(lambda record: _percent(record.val_accuracy), float),
    "effective_compression": _field("effective_compression", float),
    "seconds": _field("seconds", float),
    "macs": Column(_macs, float),
    "connected": _field("connected", None),
    "data_checksum": _field("provenance.data_checksum"),
    "torch": Column(lambda record: record.provenance.versions.get("torch")),
    "device": _field("provenance.device_name"),
    "extra_passes": _field("extra_passes", float),
    "set": _field("set"),
    "sources": _field("sources"),
    "chance": Column(lambda record: _percent(soundness.chance(record)), float),
    "unsound": Column(None),
    "numel": Column(lambda record: record.numel or math.inf, float),
    **{name: _field(f"spec.{name}") for name in ("precision", "batch_size", "val_fraction", "augment", "image_size")},
    "score": _field("judged_by"),
    "tuned": Column(_tuned),
}
"""Every column of the runs, in their order; the type None is that of its values."""

FAILURES = ["id", "label", "method", "dataset", "model", "seed", "knob", "knob_value", "status", "error"]
FRAME = [name for name in COLUMNS if name not in ("status", "error")]
LAYERS = [*KEYS, "method", "seed", "knob_value", "compression", "layer", "position", "numel", "nnz", "density"]


def labelled(records: Sequence[Record]) -> pd.DataFrame:
    """Every run, usable or not, so that all frames agree on the labels; whether it is usable is the column `usable`."""
    keys = [curve_key(record) for record in records]
    labels = _labels(records, keys)
    reasons = soundness.unsound(records, keys)
    of_curves = {
        "curve": keys,
        "label": [labels[key] for key in keys],
        "unsound": [reasons.get(record.id) for record in records],
    }
    runs = pd.DataFrame(
        {
            name: pd.Series(of_curves[name] if read is None else list(map(read, records)), dtype=dtype)
            for name, (read, dtype) in COLUMNS.items()
        }
    )
    finite = np.isfinite(runs["compression"]) & np.isfinite(runs["accuracy"])
    return runs.assign(usable=(runs["status"] == "ok") & finite).astype({"usable": bool})


def of_methods(table: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """Which rows belong to the named methods; Class@checksum, of a file, is also named by its Class alone."""
    short = table["method"].map(lambda method: method.partition("@")[0])
    return table["method"].isin(names) | short.isin(names)


def layers(records: Mapping[str, Record], runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run of `runs` and prunable layer, from the records by id: dataset, model, label, method, seed,
    knob_value, compression (of the whole network), layer (name), position (0 = nearest the input), numel, nnz, density
    (nnz / numel, 0 to 1).
    """
    rows = [
        (run_id, layer.name, position, layer.numel, layer.nnz)
        for run_id in runs["id"]
        for position, layer in enumerate(records[run_id].layers)
    ]
    table = pd.DataFrame(rows, columns=["id", "layer", "position", "numel", "nnz"])
    table["density"] = table["nnz"].astype(float) / table["numel"].astype(float)
    return table.merge(runs.drop(columns="numel"), on="id", how="left")[LAYERS]


def mean_layers(layer_frame: pd.DataFrame) -> pd.DataFrame:
    """`layers` averaged over seeds at each knob value: dataset, model, label, method, knob_value, layer,
    position, numel, compression (that of the network's mean density), density (mean).
    """
    whole = layer_frame.assign(whole=1 / layer_frame["compression"].astype(float))
    by = [*KEYS, "method", "knob_value", "position", "layer", "numel"]
    means = whole.groupby(by, as_index=False, dropna=False)[["whole", "density"]].mean()
    return means.assign(compression=1 / means["whole"]).drop(columns="whole")


def labels_across(records: Sequence[Record], setting: str) -> dict[str, str]:
    """A label for every run, by its id: that of its curve, alike for curves that differ in this setting alone."""
    curves = [curve_key(record) for record in records]
    wider = {
        curve: json.dumps([_without(curve_settings(record), setting), record.set], sort_keys=True, default=str)
        for curve, record in dict(zip(curves, records, strict=True)).items()
    }
    keys = [wider[curve] for curve in curves]
    labels = _labels(records, keys, setting)
    return {record.id: labels[key] for record, key in zip(records, keys, strict=True)}


def _without(settings: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != name}


def _labels(records: Sequence[Record], keys: list[str], aside: str | None = None) -> dict[str, str]:
    """A label for every curve, unique within its data set and model, whatever the order of its runs.

    Runs of other versions may say more or less of the same settings; the shortest of their labels is the curve's. A
    setting that is left ``aside`` tells none apart.
    """
    names: dict[str, str] = {}
    settings: dict[str, dict[str, Any]] = {}
    for record, key in zip(records, keys, strict=True):
        name = curve_label(record)
        names[key] = min(names.get(key, name), name, key=lambda label: (len(label), label))
        if key not in settings:
            settings[key] = _without(curve_settings(record), aside)
    groups: dict[tuple, dict[str, dict]] = {}
    for key, name in names.items():
        groups.setdefault((settings[key]["dataset"], settings[key]["model"], name), {})[key] = settings[key]
    return {key: name for (*_, label), specs in groups.items() for key, name in _distinguish(label, specs).items()}


def _distinguish(label: str, specs: dict[str, dict]) -> dict[str, str]:
    """Appends to a shared label the fields in which its curves differ: "a" -> "a (lr=0.1)", "b (x)" -> "b (x,
    lr=0.1)".
    """
    names = dict.fromkeys(name for spec in specs.values() for name in spec)
    differing = [name for name in names if len({_text(spec, name) for spec in specs.values()}) > 1]

    def named(spec: dict) -> str:
        details = ", ".join(f"{name}={_text(spec, name)}" for name in differing if name in spec)
        if not details:
            return label
        return f"{label[:-1]}, {details})" if label.endswith(")") else f"{label} ({details})"

    return {key: named(spec) for key, spec in specs.items()}


def _text(spec: dict, name: str) -> str:
    value = spec.get(name, "")
    return value if isinstance(value, str) else json.dumps(value, default=str)
