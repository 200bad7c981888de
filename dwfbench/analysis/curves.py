"""What runs say at a given compression, from the frame `ResultSet.runs`.

Units, everywhere in this module: accuracies are percent (records hold fractions), compression ratios (CR) are
numel / nnz >= 1, times are seconds. A *curve* is all runs that agree in every field of their spec except
seed, strength and compression. Curves are interpolated per seed, linearly in log CR, and never extrapolated;
only then are seeds averaged, or two curves' values of one seed subtracted. Every frame names a curve by the three
columns `dataset`, `model`, `label`. Empty input gives empty frames with the same columns.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from dwfbench.analysis.frames import KEYS, PANEL, of_methods
from dwfbench.analysis.height import END_SLACK, mean_height
from dwfbench.base.errors import UsageError
from dwfbench.runs.spec import nearest

AT = (2, 5, 10, 30, 100, 300)
TOLERANCES = (1, 5, 10)
LEVEL = 0.05  # a difference is beyond noise where its Holm p is below this

ROUNDING = 1e-9  # points of accuracy; one test sample of a million is 1e-4


# --- curves -------------------------------------------------------------------------------------------------


def interpolate(rows: pd.DataFrame, at: Sequence[float] | np.ndarray) -> pd.DataFrame:
    """Accuracy of every curve and seed in `rows` (of `ResultSet.runs`) at the CRs `at`.

    Points of one seed with equal CR are averaged first; between two neighbouring points the accuracy is linear in
    log CR, so it never leaves the range of the two, and beyond the first and last point there is none.
    Columns: dataset, model, label, seed, compression (the CR asked for), accuracy (percent; NaN outside the
    seed's own measured range, whose ends are widened by 0.1 %). Raises UsageError for a CR below 1.
    """
    targets = _targets(at)
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
    curves = dense_reference(frame, reference_rows).set_index(KEYS)
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
    _check_range(low, high)
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


def _targets(at: Sequence[float] | np.ndarray) -> np.ndarray:
    """The CRs asked for, rising, each once."""
    targets = np.unique(np.asarray(at, dtype=float))
    if len(targets) and not targets[0] >= 1:
        raise UsageError(f"There is no compression ratio {targets[0]:g}: ask for accuracies at ratios of 1 and above.")
    return targets


def _check_range(low: float | None, high: float | None) -> None:
    if low is not None and (low < 1 or (high is not None and high <= low)):
        raise UsageError(f"An area needs a range 1 <= low < high, not {low} to {high}: give other bounds.")


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
    panels: dict[tuple, list[np.ndarray]] = {}
    for key, log_cr, _ in curves:
        panels.setdefault(key[:2], []).append(log_cr)
    return {panel: _common_range(logs, low, high) for panel, logs in panels.items()}


def _common_range(logs: list[np.ndarray], low: float | None, high: float | None) -> tuple[float, float]:
    """The ends of the log CR range that all curves of more than one point have measured, unless given."""
    measured = [log_cr for log_cr in logs if len(log_cr) > 1]
    start = np.log(low) if low is not None else max((log_cr[0] for log_cr in measured), default=np.nan)
    stop = np.log(high) if high is not None else min((log_cr[-1] for log_cr in measured), default=np.nan)
    return (start, stop) if start < stop else (np.nan, np.nan)


def _area(log_cr: np.ndarray, accuracy: np.ndarray, start: float, stop: float) -> float:
    """The mean height; NaN for a seed that has not measured the whole range."""
    return mean_height(log_cr, accuracy, start, stop, before=np.nan, after=np.nan)


def _summary(values: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """Mean, 95 % t half width and number of the values that are not NaN: columns `column`, ci95, n."""
    groups = values.astype({column: float}).groupby(by)[column].agg(["mean", "std", "count"]).reset_index()
    n = groups["count"].astype(float)
    groups["ci95"] = stdtrit(n - 1, 0.975) * groups["std"] / np.sqrt(n)
    return groups.rename(columns={"mean": column, "count": "n"})[[*by, column, "ci95", "n"]]


def dense_reference(frame: pd.DataFrame, dense: pd.DataFrame) -> pd.DataFrame:
    """For each curve of `frame`: dense (percent, NaN without a dense run), dense_ci95.

    The dense runs are those of the curve's result set, where sets are told apart, and of its number of epochs; else
    those of any set and its epochs; else any.
    """
    curves = frame[[*KEYS, "epochs", "set"]].drop_duplicates(KEYS).fillna({"set": ""})
    runs = dense[dense["method"] == "dense"].fillna({"set": ""})
    references = curves[KEYS].assign(dense=np.nan, dense_ci95=np.nan)
    for by in ([*PANEL, "epochs", "set"], [*PANEL, "epochs"], PANEL):
        per_seed = runs.groupby([*by, "seed"], as_index=False)["accuracy"].mean()
        alike = curves.merge(_summary(per_seed, by, "accuracy"), on=by, how="left")
        missing = references["dense"].isna().to_numpy()
        values = alike[["accuracy", "ci95"]].to_numpy(float)
        references.loc[missing, ["dense", "dense_ci95"]] = values[missing]
    return references


# --- statistics ---------------------------------------------------------------------------------------------


def differences(
    frame: pd.DataFrame,
    versus: str,
    at: Sequence[float] = AT,
    low: float | None = None,
    high: float | None = None,
) -> pd.DataFrame:
    """Every other curve's accuracy minus that of the curve labelled `versus`, at each CR and over the whole range.

    Paired by seed: runs of one seed share the split, the data order and, where the method uses them, the initial
    weights. Per data set and model, every other label is tested at every CR in `at` and once for its area (see
    `area`; over the CRs `low` to `high`, by default what the paired seeds of these two curves have all measured, so
    that no third curve changes it). Nothing is extrapolated. Dense curves have no compression to compare and get no
    rows, nor does a data set and model without `versus`.
    Columns: dataset, model, label, seeds (that both curves have), quantity ("accuracy" or "area"), compression (NaN
    for an area), low, high (CRs; NaN for an accuracy or without a common range), difference (points, mean over
    pairs), ci95 (half width of the t-interval), p (two-sided paired t-test), p_holm (corrected by Holm over all
    defined tests of the data set and model, areas included), n (pairs; below 2 the numbers are NaN).
    Raises UsageError for a CR below 1 and for an impossible range.
    """
    targets = _targets(at)
    _check_range(low, high)
    curves: dict[tuple, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
    for key, log_cr, accuracy in _seed_curves(frame[frame["method"] != "dense"]):
        curves.setdefault(key[:3], {})[key[3]] = (log_cr, accuracy)
    rows = []
    for key, mine in curves.items():
        theirs = curves.get((*key[:2], versus))
        if key[2] == versus or theirs is None:
            continue
        pairs = [(mine[seed], theirs[seed]) for seed in sorted(mine.keys() & theirs.keys())]
        for cr in targets:
            heights = [_interpolate(*a, np.log(cr)) - _interpolate(*b, np.log(cr)) for a, b in pairs]
            rows.append((*key, len(pairs), "accuracy", cr, np.nan, np.nan, *paired_t(heights)))
        start, stop = _common_range([log_cr for pair in pairs for log_cr, _ in pair], low, high)
        areas = [_area(*a, start, stop) - _area(*b, start, stop) for a, b in pairs]
        rows.append((*key, len(pairs), "area", np.nan, np.exp(start), np.exp(stop), *paired_t(areas)))
    columns = [*KEYS, "seeds", "quantity", "compression", "low", "high", "difference", "ci95", "p", "n"]
    found = pd.DataFrame(rows, columns=columns).astype({"p": float})
    found.insert(len(columns) - 1, "p_holm", np.nan)
    for family in found.groupby(PANEL).indices.values():
        found.loc[family, "p_holm"] = holm(found["p"].to_numpy()[family])
    return found


def paired_t(values: Sequence[float] | Sequence[np.ndarray]) -> tuple[float, float, float, int]:
    """Mean of paired differences, 95 % t half width, p of the two-sided t-test against 0, and their number.

    NaN is no pair; below 2 pairs all but the number is NaN. Differences that are equal but for rounding have the
    half width 0, and p = 1 if they are 0, else 0.
    """
    pairs = np.asarray(values, dtype=float)
    pairs = pairs[~np.isnan(pairs)]
    n = len(pairs)
    if n < 2:
        return np.nan, np.nan, np.nan, n
    mean = float(pairs.mean())
    if np.ptp(pairs) < ROUNDING:
        return mean, 0.0, 1.0 if abs(mean) < ROUNDING else 0.0, n
    error = pairs.std(ddof=1) / np.sqrt(n)
    return mean, float(stdtrit(n - 1, 0.975) * error), float(2 * stdtr(n - 1, -abs(mean) / error)), n


def holm(p: np.ndarray) -> np.ndarray:
    """The p-values of one family of tests, corrected by Holm's step-down procedure; NaN is no test and stays NaN."""
    count = np.count_nonzero(~np.isnan(p))
    order = np.argsort(p, kind="stable")[:count]  # NaN sorts last
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(count, 0, -1)), 1)
    return corrected


def dominance(differences: pd.DataFrame) -> pd.DataFrame:
    """At how many CRs a label is better or worse than the other beyond noise; from the rows of `differences`.

    Columns: dataset, model, label, above, below (numbers of CRs with Holm p < 0.05), undecided (all other CRs,
    those that cannot be compared included).
    """
    found = differences[differences["quantity"] == "accuracy"]
    beyond = found["p_holm"] < LEVEL
    above, below = beyond & (found["difference"] > 0), beyond & (found["difference"] < 0)
    found = found.assign(above=above, below=below, undecided=~(above | below))
    return found.groupby(KEYS, as_index=False)[["above", "below", "undecided"]].sum()


def label_of(frame: pd.DataFrame, name: str) -> str:
    """The label `name`, or the only label of the method `name`.

    Raises UsageError if no curve of a sparse method is meant, naming the nearest, or several are.
    """
    frame = frame[frame["method"] != "dense"]
    labels = sorted(frame["label"].unique())
    if name in labels:
        return name
    own = sorted(frame.loc[of_methods(frame, [name]), "label"].unique())
    if len(own) > 1:
        raise UsageError(f"The method {name} has several curves; choose one of {', '.join(own)}.")
    if not labels:
        raise UsageError(f"There is no sparse curve here, {name!r} neither.")
    if not own:
        close = nearest(name, labels)
        raise UsageError(f"There is no sparse curve {name!r} to compare with{close} Choose one of {', '.join(labels)}.")
    return own[0]


# --- cautions -----------------------------------------------------------------------------------------------


def warnings(frame: pd.DataFrame, failed: pd.DataFrame | None = None) -> list[str]:
    """One-line cautions on what a comparison of these runs can bear; `failed` (of `ResultSet.failures`) is counted."""
    lines = [line for panel, rows in frame.groupby(PANEL) for line in _panel_warnings("/".join(panel), rows)]
    if failed is not None and len(failed):
        counts = ", ".join(f"{count} {status}" for status, count in failed["status"].value_counts().items())
        lines.append(f"Runs left out: {counts}.")
    return lines


def pair_warnings(frame: pd.DataFrame, found: pd.DataFrame, versus: str) -> list[str]:
    """One-line cautions on `found`, the `differences` of the runs `frame` to `versus`."""
    lines = []
    for panel, rows in frame[frame["method"] != "dense"].groupby(PANEL):
        if versus not in set(rows["label"]):
            lines.append(f"{'/'.join(panel)}: no run of {versus}, so nothing is compared with it.")
    for panel, rows in found[found["seeds"] < 3].drop_duplicates(KEYS).groupby(PANEL):
        names = ", ".join(f"{label} ({count})" for label, count in zip(rows["label"], rows["seeds"], strict=True))
        lines.append(f"{'/'.join(panel)}: fewer than 3 seeds in common with {versus}, a test can tell little: {names}.")
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
    for what, name in (("versions of torch", "torch"), ("devices", "device")):
        if (kinds := sorted(rows[name].dropna().unique())) and len(kinds) > 1:
            yield f"{panel}: runs of different {what} are compared: {', '.join(kinds)}."
    dense = rows[rows["method"] == "dense"]
    if dense.empty:
        yield f"{panel}: no dense run, so the CR at a tolerance is unknown: run the method dense."
    elif missing := set(rows["epochs"]) - set(dense["epochs"]):
        yield f"{panel}: no dense run of {_listed(missing)} epochs; dense runs of other budgets stand in."
    if dense.groupby("epochs")["curve"].nunique().gt(1).any():
        yield f"{panel}: several dense settings share a budget; their mean is the reference."


def _listed(epochs: Iterable[int]) -> str:
    return ", ".join(f"{value:g}" for value in sorted(set(epochs)))
