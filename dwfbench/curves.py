"""Run records as tidy tables, and what they say at a given compression.

Units, everywhere in this module: accuracies are percent (records hold fractions), compression ratios (CR) are
numel / nnz >= 1, times are seconds. A *curve* is all runs that agree in every field of their spec except
seed, strength and compression. Curves are interpolated per seed, linearly in log CR, and never extrapolated;
only then are seeds averaged. Every frame names a curve by the three columns `dataset`, `model`, `label`.
Empty input gives empty frames with the same columns.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, fields

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from dwfbench.errors import UsageError
from dwfbench.spec import RunSpec

AT = (2, 5, 10, 30, 100, 300)
TOLERANCES = (1, 5, 10)
FORMATS = ("table", "markdown", "latex", "csv", "json")

PANEL = ["dataset", "model"]
KEYS = [*PANEL, "label"]
VARYING = {"seed", "strength", "compression"}  # the spec fields that move along a curve, not between curves
END_SLACK = np.log1p(1e-3)  # a target CR of 10 met as 9.9996 counts as reached

TEXTS = ["id", "curve", "label", "method", "dataset", "model", "knob", "status", "error", "data_checksum"]
NUMBERS = [
    *("seed", "epochs", "depth", "knob_value", "compression", "accuracy", "val_accuracy"),
    *("effective_compression", "seconds", "macs"),
]
FRAME = [
    *("id", "curve", "label", "method", "depth", "dataset", "model", "seed", "epochs", "knob", "knob_value"),
    *("compression", "accuracy", "val_accuracy", "effective_compression", "seconds", "macs", "connected"),
    "data_checksum",
]
FAILURES = ["id", "label", "method", "dataset", "model", "seed", "knob", "knob_value", "status", "error"]
LAYERS = [
    *KEYS,
    "method",
    "seed",
    "knob_value",
    "compression",
    "layer",
    "position",
    "numel",
    "nnz",
    "density",
]
HISTORY = ["epoch", "train_loss", "val_accuracy", "compression", "misalignment", "lr"]
DYNAMICS = [*KEYS, "method", "depth", "seed", "knob", "knob_value", *HISTORY]


# --- records -> tidy frames ---------------------------------------------------------------------------------


DEFAULTS = {item.name: item.default for item in fields(RunSpec) if item.default is not MISSING}


def filter_records(
    records: Iterable[dict],
    dataset: Sequence[str] | None = None,
    model: Sequence[str] | None = None,
    method: Sequence[str] | None = None,
    label: Sequence[str] | None = None,
) -> list[dict]:
    """The records whose data set, model, method and label are among the given names; None lets everything
    through.
    """
    wanted = {"dataset": dataset, "model": model, "method": method}

    def matches(record: dict) -> bool:
        # A folder's data set is called name@checksum; its name alone is enough to ask for it.
        in_spec = all(
            names is None or record["spec"][field] in names or record["spec"][field].partition("@")[0] in names
            for field, names in wanted.items()
        )
        return in_spec and (label is None or record["label"] in label)

    return [record for record in records if matches(record)]


def counted_at(records: Iterable[dict], threshold: float) -> list[dict]:
    """The same records, with `compression` and `test_accuracy` as they are when every |w| below `threshold` is cut.

    Dense runs stay as they are: they are the reference. A run that loses all its weights gets the status "emptied".
    What was counted at training's end stays in the other fields. Raises UsageError for a threshold at which the
    runs were not assessed, naming those at which they were.
    """
    recounted = []
    for record in records:
        if record["status"] == "ok" and record["spec"]["method"] != "dense":
            found = {cut["threshold"]: cut for cut in record["thresholds"]}
            if threshold not in found:
                known = ", ".join(f"{value:g}" for value in found)
                raise UsageError(f"The runs were not assessed at the threshold {threshold:g}, only at {known}.")
            cut = found[threshold]
            status = "emptied" if cut["compression"] is None else "ok"
            changed = {"status": status, "compression": cut["compression"], "test_accuracy": cut["test_accuracy"]}
            record = record | changed
        recounted.append(record)
    return recounted


def frame(records: Iterable[dict]) -> pd.DataFrame:
    """One row per usable run: status ok, with a finite compression and accuracy. A run given twice is one
    row.

    Columns: id; curve (hash of the fields that make a curve); label (made unique within a data set and
    model by appending what differs, "dwf D=3 (epochs=100)"); method; depth (NaN if none); dataset; model;
    seed; epochs; knob (strength, compression or None); knob_value; compression (achieved CR); accuracy,
    val_accuracy (percent); effective_compression (CR of live paths); seconds; macs (sparse / dense, 0 to 1);
    connected; data_checksum.
    """
    runs = _runs(records)
    return runs.loc[runs["usable"], FRAME].reset_index(drop=True)


def failures(records: Iterable[dict]) -> pd.DataFrame:
    """One row per run that `frame` leaves out: id, label, method, dataset, model, seed, knob, knob_value,
    status, error.
    """
    runs = _runs(records)
    return runs.loc[~runs["usable"], FAILURES].reset_index(drop=True)


def layers(records: Iterable[dict]) -> pd.DataFrame:
    """One row per usable run and prunable layer: dataset, model, label, method, seed, knob_value, compression
    (of the whole network), layer (name), position (0 = nearest the input), numel, nnz, density (nnz / numel,
    0 to 1).
    """
    by_id = _by_id(records)
    rows = [
        (run.id, layer["name"], position, layer["numel"], layer["nnz"])
        for run in frame(by_id.values()).itertuples()
        for position, layer in enumerate(by_id[run.id].get("layers") or [])
    ]
    found = pd.DataFrame(rows, columns=["id", "layer", "position", "numel", "nnz"])
    found["density"] = found["nnz"].astype(float) / found["numel"].astype(float)
    return found.merge(frame(by_id.values()), on="id", how="left")[LAYERS]


def mean_layers(layer_frame: pd.DataFrame) -> pd.DataFrame:
    """`layers` averaged over seeds at each knob value: dataset, model, label, method, knob_value, layer,
    position, compression (geometric mean), density (mean).
    """
    logs = layer_frame.assign(compression=np.log(layer_frame["compression"].astype(float)))
    by = [*KEYS, "method", "knob_value", "position", "layer"]
    means = logs.groupby(by, as_index=False, dropna=False)[["compression", "density"]].mean()
    return means.assign(compression=np.exp(means["compression"]))


def dynamics(records: Iterable[dict]) -> pd.DataFrame:
    """One row per usable run and epoch: dataset, model, label, method, depth, seed, knob, knob_value, epoch,
    train_loss, val_accuracy (percent), compression (NaN where not finite), misalignment (NaN if none), lr."""
    by_id = _by_id(records)
    runs = frame(by_id.values())
    rows = [
        (id_, *(step.get(name) for name in HISTORY)) for id_ in runs["id"] for step in by_id[id_].get("history") or []
    ]
    steps = pd.DataFrame(rows, columns=["id", *HISTORY]).astype(dict.fromkeys(HISTORY, float))
    steps["val_accuracy"] *= 100
    steps["compression"] = steps["compression"].where(np.isfinite(steps["compression"]))
    return steps.merge(runs.drop(columns=["val_accuracy", "compression"]), on="id", how="left")[DYNAMICS]


def _by_id(records: Iterable[dict]) -> dict[str, dict]:
    """Records by id, the last of one id. A field of RunSpec that a record does not know has its default: as before."""

    def whole(record: dict) -> dict:
        spec = record["spec"]
        return record if spec.keys() >= DEFAULTS.keys() else record | {"spec": DEFAULTS | spec}

    return {record["id"]: whole(record) for record in records}


def _runs(records: Iterable[dict]) -> pd.DataFrame:
    """Every run, usable or not, so that all frames agree on the labels."""
    records = list(_by_id(records).values())
    keys = [_curve_key(record["spec"]) for record in records]
    labels = _labels(records, keys)
    rows = [_row(record, key, labels[key]) for record, key in zip(records, keys, strict=True)]
    runs = pd.DataFrame(rows, columns=[*TEXTS, *NUMBERS, "connected"])
    runs = runs.astype({**dict.fromkeys(TEXTS, object), **dict.fromkeys(NUMBERS, float)})
    runs = runs.astype({"seed": "Int64", "epochs": "Int64"})
    runs["macs"] = runs["macs"].clip(upper=1)
    finite = np.isfinite(runs["compression"]) & np.isfinite(runs["accuracy"])
    return runs.assign(usable=(runs["status"] == "ok") & finite).astype({"usable": bool})


def _row(record: dict, key: str, label: str) -> dict:
    spec, knob = record["spec"], record.get("knob")
    return {
        **{name: record.get(name) for name in ("id", "status", "error", "compression", "effective_compression")},
        **{name: spec.get(name) for name in ("method", "dataset", "model", "seed", "epochs")},
        "curve": key,
        "label": label,
        "depth": (spec.get("options") or {}).get("depth"),
        "knob": knob,
        "knob_value": spec.get(knob) if knob else None,
        "accuracy": _percent(record.get("test_accuracy")),
        "val_accuracy": _percent(record.get("val_accuracy")),
        "seconds": record.get("seconds"),
        "macs": record["macs_sparse"] / record["macs_dense"] if record.get("macs_dense") else None,
        "connected": record.get("connected"),
        "data_checksum": (record.get("provenance") or {}).get("data_checksum"),
    }


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _curve_key(spec: dict) -> str:
    kept = {name: value for name, value in spec.items() if name not in VARYING}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _flat(spec: dict) -> dict:
    """The spec with its method's options among the other fields."""
    return {name: value for name, value in spec.items() if name != "options"} | (spec.get("options") or {})


def _labels(records: list[dict], keys: list[str]) -> dict[str, str]:
    """A label for every curve, unique within its data set and model."""
    groups: dict[tuple, dict[str, dict]] = {}
    for record, key in zip(records, keys, strict=True):
        spec = record["spec"]
        specs = groups.setdefault((spec.get("dataset"), spec.get("model"), record["label"]), {})
        if key not in specs:
            specs[key] = _flat(spec)
    return {key: name for (*_, label), specs in groups.items() for key, name in _distinguish(label, specs).items()}


def _distinguish(label: str, specs: dict[str, dict]) -> dict[str, str]:
    """Appends to a shared label the fields in which its curves differ: "a" -> "a (lr=0.1)", "b (x)" -> "b (x,
    lr=0.1)".
    """
    names = dict.fromkeys(name for spec in specs.values() for name in spec if name not in VARYING)
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


# --- curves -------------------------------------------------------------------------------------------------


def interpolate(rows: pd.DataFrame, at: Sequence[float]) -> pd.DataFrame:
    """Accuracy of every curve and seed in `rows` (of a `frame`) at the CRs `at`.

    Columns: dataset, model, label, seed, compression (the CR asked for), accuracy (percent; NaN outside the
    seed's own measured range, whose ends are widened by 0.1 %). Points of one seed with equal CR are averaged
    first. Raises UsageError for a CR below 1.
    """
    targets = np.unique(np.asarray(at, dtype=float))
    if len(targets) and not targets[0] >= 1:
        raise UsageError(f"There is no compression ratio {targets[0]:g}: ask for accuracies at ratios of 1 and above.")
    found = [
        (*key, target, value)
        for key, log_cr, accuracy in _seed_curves(rows)
        for target, value in zip(targets, _interpolate(log_cr, accuracy, np.log(targets)), strict=True)
    ]
    return pd.DataFrame(found, columns=[*KEYS, "seed", "compression", "accuracy"])


def matched(frame: pd.DataFrame, at: Sequence[float] = AT) -> pd.DataFrame:
    """Accuracy at matched compression, one row per curve and CR.

    Columns: dataset, model, label, compression, accuracy (percent, mean over the seeds that reach this CR),
    ci95 (half width of the t-interval; NaN below 2 seeds), n (number of those seeds; 0 leaves accuracy NaN).
    """
    return _summary(interpolate(frame, at), [*KEYS, "compression"], "accuracy")


def at_tolerance(
    frame: pd.DataFrame,
    tolerances: Sequence[float] = TOLERANCES,
    relative: bool = False,
    dense: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The largest CR at which a curve is still within a tolerance of the dense network.

    Within: accuracy >= reference - t points, or >= reference * (1 - t / 100) if `relative`. The reference
    is the mean accuracy of the method "dense" on the same data set and model, of the same number of epochs if
    there is such a run, of any otherwise; it is taken from the rows `dense` (default: `frame`). Dense curves
    themselves get no rows.
    Columns: dataset, model, label, tolerance, compression (geometric mean over seeds of the crossing on the
    piecewise-linear curve; NaN without a reference or if no point is within), censored (some seed never
    leaves the tolerance: its largest measured CR was taken, and the mean is a lower bound), n (seeds with a
    value), dense, dense_ci95.
    """
    reference_rows = frame if dense is None else dense
    frame = frame[frame["method"] != "dense"]
    curves = _dense_reference(frame, reference_rows).set_index(KEYS)
    references = curves["dense"].to_dict()
    rows = []
    for key, log_cr, accuracy in _seed_curves(frame):
        reference = references[key[:3]]
        for tolerance in dict.fromkeys(tolerances):
            target = reference * (1 - tolerance / 100) if relative else reference - tolerance
            rows.append((*key[:3], tolerance, *_crossing(log_cr, accuracy, target)))
    crossings = pd.DataFrame(rows, columns=[*KEYS, "tolerance", "log_cr", "censored"]).astype({"log_cr": float})
    found = crossings.groupby([*KEYS, "tolerance"], as_index=False).agg(
        compression=("log_cr", "mean"), censored=("censored", "max"), n=("log_cr", "count")
    )
    found = found.assign(compression=np.exp(found["compression"])).astype({"censored": "boolean", "n": "Int64"})
    return found.merge(curves.reset_index(), on=KEYS, how="left")


def area(frame: pd.DataFrame, low: float | None = None, high: float | None = None) -> pd.DataFrame:
    """Mean height of each curve over log CR: its area between the CRs `low` and `high`, divided by the log
    range.

    The default range is what all seeds of all curves of the data set and model have measured (seeds with one
    point are left out). Columns: dataset, model, label, area (percent, mean over the seeds that cover the
    range; NaN if none does), ci95, n, low, high (the range used; NaN if there is no common one). Raises
    UsageError for a range that is empty or starts below 1.
    """
    if low is not None and (low < 1 or (high is not None and high <= low)):
        raise UsageError(f"An area needs a range 1 <= low < high, not {low} to {high}: give other bounds.")
    curves = list(_seed_curves(frame))
    ranges = _common_ranges(curves, low, high)
    rows = [(*key, _area(log_cr, accuracy, *ranges[key[:2]])) for key, log_cr, accuracy in curves]
    found = _summary(pd.DataFrame(rows, columns=[*KEYS, "seed", "area"]), KEYS, "area")
    bounds = [(*panel, *np.exp(ends)) for panel, ends in ranges.items()]
    return found.merge(pd.DataFrame(bounds, columns=[*PANEL, "low", "high"]), on=PANEL, how="left")


def bands(frame: pd.DataFrame) -> pd.DataFrame:
    """What a figure draws: each curve's mean over seeds with a band, on a grid of the CRs its seeds have
    measured.

    Columns: dataset, model, label, compression, accuracy (percent, mean of the seeds that reach this CR),
    lower, upper (t-interval from 3 seeds on, minimum and maximum of 2, NaN for 1), n. A CR is on the grid if
    more than half of the curve's seeds reach it, so that the end of a mean line is not the luck of a single
    seed.
    """
    seeds = frame.groupby(KEYS)["seed"].nunique()
    grids = [interpolate(rows, _grid(rows["compression"])) for _, rows in frame.groupby(KEYS)]
    values = pd.concat(grids) if grids else interpolate(frame, AT)
    by = [*KEYS, "compression"]
    found = _summary(values, by, "accuracy")
    ends = values.groupby(by)["accuracy"].agg(["min", "max"]).reset_index()
    found = found.merge(ends, on=by, how="left")
    found = found[found["n"] * 2 > found[KEYS].merge(seeds.reset_index(), on=KEYS, how="left")["seed"]]
    interval, pair = found["n"] >= 3, found["n"] == 2
    return found.assign(
        lower=(found["accuracy"] - found["ci95"]).where(interval, found["min"].where(pair)),
        upper=(found["accuracy"] + found["ci95"]).where(interval, found["max"].where(pair)),
    )[[*by, "accuracy", "lower", "upper", "n"]].reset_index(drop=True)


def _grid(compressions: pd.Series) -> np.ndarray:
    """The measured CRs, where the mean has its kinks, and points between for the curved edges of a band."""
    measured = np.unique(compressions)
    return np.union1d(measured, np.geomspace(measured[0], measured[-1], 50)[1:-1])


def _seed_curves(frame: pd.DataFrame) -> Iterator[tuple[tuple, np.ndarray, np.ndarray]]:
    """For each curve and seed: (dataset, model, label, seed), rising log CR, accuracy; equal CRs averaged."""
    by = [*KEYS, "seed"]
    points = frame.groupby([*by, "compression"], as_index=False)["accuracy"].mean()
    log_cr, accuracy = np.log(points["compression"].to_numpy(float)), points["accuracy"].to_numpy(float)
    for key, rows in points.groupby(by).indices.items():
        yield key, log_cr[rows], accuracy[rows]


def _interpolate(log_cr: np.ndarray, accuracy: np.ndarray, at: np.ndarray) -> np.ndarray:
    inside = (at >= log_cr[0] - END_SLACK) & (at <= log_cr[-1] + END_SLACK)
    return np.where(inside, np.interp(at, log_cr, accuracy), np.nan)


def _crossing(log_cr: np.ndarray, accuracy: np.ndarray, target: float) -> tuple[float, bool]:
    """Largest log CR with accuracy >= target, and whether the curve ends before it falls below."""
    within = np.flatnonzero(accuracy >= target - 1e-9)  # 98.3 - 1 must not exceed a measured 97.3 by rounding
    if not len(within):
        return np.nan, False
    last = within[-1]
    if last == len(accuracy) - 1:
        return log_cr[last], True
    fall = max(accuracy[last] - target, 0) / (accuracy[last] - accuracy[last + 1])
    return log_cr[last] + fall * (log_cr[last + 1] - log_cr[last]), False


def _common_ranges(curves: list[tuple], low: float | None, high: float | None) -> dict[tuple, tuple[float, float]]:
    """For each (dataset, model) the ends of the log CR range in use, NaN if it is empty."""
    ranges = {}
    for panel in dict.fromkeys(key[:2] for key, *_ in curves):
        measured = [log_cr for key, log_cr, _ in curves if key[:2] == panel and len(log_cr) > 1]
        start = np.log(low) if low is not None else max((log_cr[0] for log_cr in measured), default=np.nan)
        stop = np.log(high) if high is not None else min((log_cr[-1] for log_cr in measured), default=np.nan)
        ranges[panel] = (start, stop) if start < stop else (np.nan, np.nan)
    return ranges


def _area(log_cr: np.ndarray, accuracy: np.ndarray, start: float, stop: float) -> float:
    inner = log_cr[(log_cr > start) & (log_cr < stop)]
    at = np.concatenate([[start], inner, [stop]])
    height = _interpolate(log_cr, accuracy, at)
    return np.sum((height[1:] + height[:-1]) / 2 * np.diff(at)) / (stop - start)


def _summary(values: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """Mean, 95 % t half width and number of the values that are not NaN: columns `column`, ci95, n."""
    groups = values.astype({column: float}).groupby(by)[column].agg(["mean", "std", "count"]).reset_index()
    n = groups["count"].astype(float)
    groups["ci95"] = stdtrit(n - 1, 0.975) * groups["std"] / np.sqrt(n)
    return groups.rename(columns={"mean": column, "count": "n"})[[*by, column, "ci95", "n"]]


def _dense_reference(frame: pd.DataFrame, dense: pd.DataFrame) -> pd.DataFrame:
    """For each curve of `frame`: dense (percent, NaN without a dense run), dense_ci95."""
    curves = frame[[*KEYS, "epochs"]].drop_duplicates(KEYS)
    runs = dense[dense["method"] == "dense"].groupby([*PANEL, "epochs", "seed"], as_index=False)["accuracy"].mean()
    same = curves.merge(_summary(runs, [*PANEL, "epochs"], "accuracy"), on=[*PANEL, "epochs"], how="left")
    other = curves.merge(_summary(runs, PANEL, "accuracy"), on=PANEL, how="left")
    known = same["accuracy"].notna()
    return same[KEYS].assign(
        dense=same["accuracy"].where(known, other["accuracy"]),
        dense_ci95=same["ci95"].where(known, other["ci95"]),
    )


# --- tables -------------------------------------------------------------------------------------------------


def compare(
    records: Iterable[dict],
    at: Sequence[float] = AT,
    tolerances: Sequence[float] = TOLERANCES,
    relative: bool = False,
    dataset: Sequence[str] | None = None,
    model: Sequence[str] | None = None,
    method: Sequence[str] | None = None,
    label: Sequence[str] | None = None,
    low: float | None = None,
    high: float | None = None,
) -> pd.DataFrame:
    """One row per curve; within each data set and model dense comes first, then by falling area.

    The filters choose the rows shown; the dense reference is found even if they exclude it.
    Columns (numbers, unrounded): Dataset, Model, Method (the label), Runs, Seeds, Epochs, Dense (reference,
    percent); "CR 10" (accuracy in percent) for every CR in `at`; "CR@-1pt" or, if relative, "CR@-1%" for
    every tolerance; Area (percent, over the CRs "Area low" to "Area high", see `area`); s/run. Beside them
    "... ci95" (95 % half width), "... n" (seeds that reach it) and "... censored" (the CR is a lower bound).
    """
    records = list(records)
    everything = frame(filter_records(records, dataset, model))
    ids = {record["id"] for record in filter_records(records, dataset, model, method, label)}
    shown = everything[everything["id"].isin(ids)]
    table = shown.groupby(KEYS).agg(
        Runs=("id", "size"), Seeds=("seed", "nunique"), Epochs=("epochs", "first"), method=("method", "first")
    )
    table = table.join(_dense_reference(shown, everything).set_index(KEYS))
    table = table.rename(columns={"dense": "Dense", "dense_ci95": "Dense ci95"})
    _add(table, matched(shown, at), "compression", {f"CR {cr:g}": cr for cr in at}, ["accuracy", "ci95", "n"])
    names = {f"CR@-{value:g}{'%' if relative else 'pt'}": value for value in tolerances}
    found = at_tolerance(shown, tolerances, relative, dense=everything)
    _add(table, found, "tolerance", names, ["compression", "censored", "n"])
    areas = area(shown, low, high).set_index(KEYS)
    for column, name in zip(areas, ["Area", "Area ci95", "Area n", "Area low", "Area high"], strict=True):
        table[name] = areas[column]
    table["s/run"] = shown.groupby(KEYS)["seconds"].mean()
    table = table.assign(later=table["method"] != "dense").reset_index()
    table = table.sort_values([*PANEL, "later", "Area", "label"], ascending=[True, True, True, False, True])
    table = table.drop(columns=["method", "later"]).reset_index(drop=True)
    return table.rename(columns={"dataset": "Dataset", "model": "Model", "label": "Method"})


def _add(table: pd.DataFrame, values: pd.DataFrame, by: str, names: dict[str, float], columns: list[str]) -> None:
    """Adds, for every name, the rows of `values` whose `by` is its value: columns[0] under the name, the rest
    beside.
    """
    for name, value in names.items():
        rows = values[values[by] == value].set_index(KEYS)
        table[name] = rows[columns[0]]
        for column in columns[1:]:
            table[f"{name} {column}"] = rows[column]


def cells(table: pd.DataFrame) -> list[list[str]]:
    """A `compare` table as rows of short texts, the header first: "97.81 ± 0.12", ">=174", "-" for nothing.

    "(n=2)" marks a value that fewer seeds reach than the curve has.
    """
    beside = (" ci95", " n", " censored", " low", " high")
    names = [name for name in table.columns if not name.endswith(beside)]
    ranges = {_range(row) for row in table.to_dict("records")} - {""}
    shared = ranges.pop() if len(ranges) == 1 else ""
    rows = []
    for row in table.to_dict("records"):
        texts = {name: _cell(row, name) for name in names}
        if not shared and texts["Area"] != "-":
            texts["Area"] += f" {_range(row)}"
        rows.append(list(texts.values()))
    return [[f"{name} {shared}".strip() if name == "Area" else name for name in names], *rows]


def render(table: pd.DataFrame, format: str = "table") -> str:
    """A `compare` table as text: table (aligned), markdown and latex (booktabs) show `cells`; csv and json (a
    list of objects, null for missing) hold every column unrounded. Raises UsageError for another format.
    """
    if format == "csv":
        return table.to_csv(index=False)
    if format == "json":
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
    if format not in FORMATS:
        raise UsageError(f"There is no table format '{format}': choose one of {', '.join(FORMATS)}.")
    return {"table": _plain, "markdown": _markdown, "latex": _latex}[format](cells(table))


def _cell(row: dict, name: str) -> str:
    value = row[name]
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "-"
    if name in ("Runs", "Seeds", "Epochs"):
        return str(int(value))
    if name.startswith("CR@"):
        text = f"{'>=' if row[f'{name} censored'] else ''}{_short(value)}"
    elif name == "s/run":
        text = _short(value)
    else:
        ci95 = row[f"{name} ci95"]
        text = f"{value:.2f}" + ("" if pd.isna(ci95) else f" ± {ci95:.2f}")
    n = row.get(f"{name} n", row["Seeds"])
    return text if n == row["Seeds"] else f"{text} (n={n:.0f})"


def _short(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _range(row: dict) -> str:
    return "" if pd.isna(row["Area low"]) else f"CR {_short(row['Area low'])}-{_short(row['Area high'])}"


def _left(header: list[str]) -> list[bool]:
    return [name in ("Dataset", "Model", "Method") for name in header]


def _aligned(rows: list[list[str]]) -> list[list[str]]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lefts = _left(rows[0])
    return [
        [text.ljust(width) if left else text.rjust(width) for text, width, left in zip(row, widths, lefts, strict=True)]
        for row in rows
    ]


def _plain(rows: list[list[str]]) -> str:
    return "".join("  ".join(row).rstrip() + "\n" for row in _aligned(rows))


def _markdown(rows: list[list[str]]) -> str:
    header, *body = _aligned([[text.replace("|", r"\|") for text in row] for row in rows])
    rule = [
        "-" * len(text) if left else "-" * (len(text) - 1) + ":"
        for text, left in zip(header, _left(rows[0]), strict=True)
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in [header, rule, *body])


LATEX = str.maketrans({"±": r"$\pm$", "λ": r"$\lambda$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})
LATEX.update({ord(sign): f"\\{sign}" for sign in "&%$#_{}"})


def _latex(rows: list[list[str]]) -> str:
    header, *body = [[text.translate(LATEX).replace(">=", r"$\geq$") for text in row] for row in rows]
    lines = [rf"\begin{{tabular}}{{{''.join('l' if left else 'r' for left in _left(rows[0]))}}}", r"\toprule"]
    lines += [" & ".join(header) + r" \\", r"\midrule"]
    for before, row in zip([None, *body], body, strict=False):
        if before and before[:2] != row[:2]:
            lines.append(r"\midrule")  # between two data sets or models
        lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


# --- cautions -----------------------------------------------------------------------------------------------


def warnings(frame: pd.DataFrame, failed: pd.DataFrame | None = None) -> list[str]:
    """One-line cautions on what a comparison of these runs can bear; `failed` (of `failures`) is counted."""
    lines = [line for panel, rows in frame.groupby(PANEL) for line in _panel_warnings("/".join(panel), rows)]
    if failed is not None and len(failed):
        counts = ", ".join(f"{count} {status}" for status, count in failed["status"].value_counts().items())
        lines.append(f"Runs left out: {counts}.")
    return lines


def _panel_warnings(panel: str, rows: pd.DataFrame) -> Iterator[str]:
    seeds = rows.groupby("label")["seed"].nunique()
    if (few := seeds[seeds < 3]).size:
        names = ", ".join(f"{label} ({count})" for label, count in few.items())
        yield f"{panel}: fewer than 3 seeds, differences may be chance: {names}."
    if rows["epochs"].nunique() > 1:
        yield f"{panel}: budgets differ: {_listed(rows['epochs'])} epochs."
    if (versions := rows["data_checksum"].nunique()) > 1:
        yield f"{panel}: the runs saw {versions} different versions of the data (checksums differ)."
    dense = rows[rows["method"] == "dense"]
    if dense.empty:
        yield f"{panel}: no dense run, so the CR at a tolerance is unknown: run the method dense."
    elif missing := set(rows["epochs"]) - set(dense["epochs"]):
        yield f"{panel}: no dense run of {_listed(missing)} epochs; dense runs of other budgets stand in."
    if dense.groupby("epochs")["curve"].nunique().gt(1).any():
        yield f"{panel}: several dense settings share a budget; their mean is the reference."


def _listed(epochs: Iterable[int]) -> str:
    return ", ".join(f"{value:g}" for value in sorted(set(epochs)))
