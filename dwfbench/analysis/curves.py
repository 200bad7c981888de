"""What runs say at a given compression, from the frame `ResultSet.runs`.

Units, everywhere in this module: accuracies are percent (records hold fractions), compression ratios (CR) are
numel / nnz >= 1. A *curve* is all runs that agree in every field of their spec except seed, strength, compression and
what a tuning study chose. Curves are read per seed by the rule of `matched`: between runs at most a factor of `max_gap`
apart, never beyond them; only then are seeds averaged. Every frame names a curve by the three columns `dataset`,
`model`, `label`, and says in a column `seeds` what its numbers are made of: a list with a dictionary for every seed,
with the CRs of the neighbouring runs (`below`, `above`: the same for a run at that CR, None for no run on that side),
their `ids`, and, where studies chose several settings for these, all of them (`tuned`). Empty input gives empty frames
with the same columns.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from dwfbench.analysis.frames import KEYS, PANEL
from dwfbench.analysis.matched import MAX_GAP, ROUNDING, SeedCurve, is_at
from dwfbench.base.errors import UsageError

AT = (2, 5, 10, 30, 100, 300)
TOLERANCES = (1, 5, 10)


class Read(NamedTuple):
    """The curve of a seed: dataset, model, label, seed; its points, for each the ids of the runs there, and by these
    what a study chose."""

    key: tuple
    points: SeedCurve
    ids: list[list[str]]
    tuned: dict[str, str | None]

    def neighbours(self, below: int, above: int) -> dict[str, Any]:
        """The CRs, ids and choices of studies of two points of the curve, -1 none."""
        indices = [index for index in ((below, above) if below != above else (below,)) if index >= 0]
        ids = [name for index in indices for name in self.ids[index]]
        choices = sorted({choice for name in ids if (choice := self.tuned[name])})
        return {
            "below": math.exp(self.points.log_cr[below]) if below >= 0 else None,
            "above": math.exp(self.points.log_cr[above]) if above >= 0 else None,
            "ids": ids,
            **({"tuned": choices} if len(choices) > 1 else {}),
        }


def read(frame: pd.DataFrame) -> Iterator[Read]:
    """The curve of every seed in `frame`, by data set, model, label and seed."""
    by = [*KEYS, "seed"]
    columns = [frame[name].to_numpy() for name in ("compression", "accuracy", "id", "numel", "tuned")]
    for key, rows in frame.groupby(by).indices.items():
        ratios, accuracies, ids, weights, tuned = (column[rows] for column in columns)
        at: dict[float, list[str]] = {}
        for ratio, name in sorted(zip(ratios.tolist(), ids, strict=True)):
            at.setdefault(ratio, []).append(name)
        yield Read(
            key, SeedCurve.of(ratios, accuracies, weights.max()), list(at.values()), dict(zip(ids, tuned, strict=True))
        )


def interpolate(
    rows: pd.DataFrame, at: Sequence[float] | np.ndarray, max_gap: float = MAX_GAP, neighbours: bool = True
) -> pd.DataFrame:
    """Accuracy of every curve and seed in `rows` (of `ResultSet.runs`) at the CRs `at`.

    Columns: dataset, model, label, seed, compression (the CR asked for), accuracy (percent; NaN where the seed's runs
    do not say it), runs (their neighbours; None without `neighbours`). Raises UsageError for a CR below 1.
    """
    targets = targets_of(at)
    entries = []
    for curve in read(rows):
        reading = (column.tolist() for column in curve.points.at(targets, max_gap))
        for target, height, below, above in zip(targets, *reading, strict=True):
            entries.append((*curve.key, target, height, curve.neighbours(below, above) if neighbours else None))
    return pd.DataFrame(entries, columns=[*KEYS, "seed", "compression", "accuracy", "runs"])


def matched(frame: pd.DataFrame, at: Sequence[float] = AT, max_gap: float = MAX_GAP) -> pd.DataFrame:
    """Accuracy at matched compression, one row per curve and CR.

    Columns: dataset, model, label, compression, accuracy (percent, mean over the seeds whose runs say it), ci95 (half
    width of the t-interval; NaN below 2 seeds), n (number of those seeds; 0 leaves accuracy NaN), seeds (`seed`,
    `accuracy`, `below`, `above`, `ids`).
    """
    by, values = [*KEYS, "compression"], interpolate(frame, at, max_gap)
    return summary(values, by, "accuracy").assign(seeds=by_seed(values, by, "accuracy"))


def at_tolerance(
    frame: pd.DataFrame,
    tolerances: Sequence[float] = TOLERANCES,
    relative: bool = False,
    dense: pd.DataFrame | None = None,
    max_gap: float = MAX_GAP,
) -> pd.DataFrame:
    """The largest CR at which a curve is still within a tolerance of the dense network.

    Within: accuracy >= reference - t points, or >= reference * (1 - t / 100) if `relative`. The reference
    is the mean accuracy of the method "dense" on the same data set and model, of the same number of epochs if
    there is such a run, of the nearest otherwise; it is taken from the rows `dense` (default: `frame`). Dense curves
    themselves get no rows.
    Columns: dataset, model, label, tolerance, compression (geometric mean over seeds of the crossing; NaN without a
    reference, if no run is within, and if the curve falls below between runs too far apart), censored (some seed never
    leaves the tolerance: its largest measured CR was taken, and the mean is a lower bound), n (seeds with a
    value), seeds (`seed`, `compression`, `censored`, `below`, `above`, `ids`), dense, dense_ci95.
    """
    reference_rows = frame if dense is None else dense
    frame = frame[frame["method"] != "dense"]
    curves = dense_reference(frame, reference_rows).set_index(KEYS)[["dense", "dense_ci95"]]
    references = curves["dense"].to_dict()
    rows = []
    for curve in read(frame):
        reference = references[curve.key[:3]]
        for tolerance in dict.fromkeys(tolerances):
            level = reference * (1 - tolerance / 100) if relative else reference - tolerance
            ratio, censored, *indices = curve.points.last_within(level, max_gap)
            neighbours = curve.neighbours(*indices) | {"censored": censored}
            rows.append((*curve.key, tolerance, ratio, censored, neighbours))
    by = [*KEYS, "tolerance"]
    crossings = pd.DataFrame(rows, columns=[*KEYS, "seed", "tolerance", "compression", "censored", "runs"])
    crossings = crossings.assign(log_cr=np.log(crossings["compression"].astype(float)))
    table = summary(crossings, by, "log_cr").assign(
        compression=lambda means: np.exp(means["log_cr"]),
        censored=crossings.groupby(by)["censored"].max().to_numpy(),
        seeds=by_seed(crossings, by, "compression"),
    )
    table = table.astype({"censored": "boolean", "n": "Int64"})[[*by, "compression", "censored", "n", "seeds"]]
    return table.merge(curves.reset_index(), on=KEYS, how="left")


def area(frame: pd.DataFrame, low: float = AT[0], high: float = AT[-1], max_gap: float = MAX_GAP) -> pd.DataFrame:
    """Mean height of each curve over log CR: its area between the CRs `low` and `high`, divided by the log range.

    The range is the same for all. Beyond a seed's last run chance accuracy counts, so that no curve gains by ending
    early. A seed with a hole in the range, or whose first run lies above its low end, has no area: nothing is known.
    Columns: dataset, model, label, area (percent, mean over the seeds that have one), ci95, n, seeds (`seed`, `area`,
    `first` and `last`, the CRs of its first and last run; `chance_above`, the last where chance counts beyond it;
    `holes`, pairs of CRs), low, high. Without a range, where `low` is `high`, all areas are NaN. Raises UsageError for
    a range that is none or starts below 1.
    """
    area_range((), low, high)
    chances = frame.groupby(KEYS)["chance"].first().to_dict()
    rows = [(*curve.key, *seed_area(curve, low, high, chances[curve.key[:3]], max_gap)) for curve in read(frame)]
    values = pd.DataFrame(rows, columns=[*KEYS, "seed", "area", "runs"])
    table = summary(values, KEYS, "area").assign(seeds=by_seed(values, KEYS, "area"))
    return table.assign(low=low if low < high else np.nan, high=high if low < high else np.nan)


def seed_area(curve: Read, low: float, high: float, chance: float, max_gap: float) -> tuple[float, dict[str, Any]]:
    """The mean height of a seed's curve, and what it is made of."""
    points = curve.points
    composition: dict[str, Any] = {"first": points.first, "last": points.last, "chance_above": None, "holes": []}
    if not low < high:
        return np.nan, composition
    composition["chance_above"] = points.last if points.ends_within(high) else None
    composition["holes"] = [list(hole) for hole in points.holes(low, high, max_gap)]
    return points.mean_height(low, high, chance, max_gap), composition


def bands(frame: pd.DataFrame, max_gap: float = MAX_GAP) -> pd.DataFrame:
    """What a figure draws: each curve's mean over seeds with a band, on a grid of the CRs its seeds have measured.

    Columns: dataset, model, label, compression, accuracy (percent, mean of the seeds whose runs say it), lower, upper
    (t-interval from 3 seeds on, minimum and maximum of 2, NaN for 1), n. Where no more than half of the curve's seeds
    say anything, there is no mean, so that it is not the luck of a single seed: the line ends there, or, in a hole,
    has rows whose accuracy is NaN, over which nothing is to be drawn.
    """
    seeds = frame.groupby(KEYS)["seed"].nunique().rename("seeds").reset_index()
    grids = [
        interpolate(rows, _grid(rows["compression"]), max_gap, neighbours=False) for _, rows in frame.groupby(KEYS)
    ]
    values = pd.concat(grids) if grids else interpolate(frame, AT)
    by = [*KEYS, "compression"]
    ends = values.groupby(by)["accuracy"].agg(["min", "max"]).reset_index()
    table = summary(values, by, "accuracy").merge(seeds, on=KEYS, how="left").merge(ends, on=by, how="left")
    has_mean = table["n"] * 2 > table["seeds"]
    curve = [table[name] for name in KEYS]
    within = has_mean.groupby(curve).cummax() & has_mean[::-1].groupby([name[::-1] for name in curve]).cummax()
    interval, pair = has_mean & (table["n"] >= 3), has_mean & (table["n"] == 2)
    table = table.assign(
        accuracy=table["accuracy"].where(has_mean),
        lower=(table["accuracy"] - table["ci95"]).where(interval, table["min"].where(pair)),
        upper=(table["accuracy"] + table["ci95"]).where(interval, table["max"].where(pair)),
    )
    return table.loc[within, [*by, "accuracy", "lower", "upper", "n"]].reset_index(drop=True)


def _grid(compressions: pd.Series) -> np.ndarray:
    """The measured CRs, where the mean has its kinks, and points between for the curved edges of a band."""
    measured = np.unique(compressions)
    between = np.geomspace(measured[0], measured[-1], 50)[1:-1]
    return np.union1d(measured, between[~is_at(measured[:, None], between).any(axis=0)])


def targets_of(at: Sequence[float] | np.ndarray) -> np.ndarray:
    """The CRs asked for, rising, each once. Raises UsageError for one below 1."""
    targets = np.unique(np.asarray(at, dtype=float))
    if len(targets) and not targets[0] >= 1:
        raise UsageError(f"There is no compression ratio {targets[0]:g}: ask for accuracies at ratios of 1 and above.")
    return targets


def area_range(at: Sequence[float], low: float | None = None, high: float | None = None) -> tuple[float, float]:
    """The ends of the range of an area: the given ones, else the lowest and the highest CR in `at`.

    They are equal where there is one CR only: that is no range. Raises UsageError for ends in the wrong order.
    """
    low, high = (min(at) if low is None else low), (max(at) if high is None else high)
    if not 1 <= low <= high:
        raise UsageError(f"An area needs a range 1 <= low < high, not {low:g} to {high:g}: give other bounds.")
    return low, high


def summary(values: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """Mean, 95 % t half width and number of the values that are not NaN: columns `column`, ci95, n.

    Two values that are equal, which they are by chance on a small test set, have no half width.
    """
    groups = values.astype({column: float}).groupby(by)[column].agg(["mean", "std", "count"]).reset_index()
    n = groups["count"].astype(float)
    half = stdtrit(n - 1, 0.975) * groups["std"] / np.sqrt(n)
    groups["ci95"] = half.mask((n == 2) & (groups["std"] < ROUNDING))
    return groups.rename(columns={"mean": column, "count": "n"})[[*by, column, "ci95", "n"]]


def by_seed(values: pd.DataFrame, by: list[str], column: str) -> list[list[dict[str, Any]]]:
    """What the rows of `summary` are made of: a dictionary a seed, with its value (None for NaN) and its `runs`."""
    groups = values.groupby(by)
    lists: list[list[dict[str, Any]]] = [[] for _ in range(groups.ngroups)]
    columns = (groups.ngroup(), values["seed"], values[column].astype(float), values["runs"])
    for number, seed, value, runs in zip(*columns, strict=True):
        lists[number].append({"seed": int(seed), column: number_or_none(value), **runs})
    return lists


def number_or_none(value: float) -> float | None:
    """The number; None for NaN."""
    return None if math.isnan(value) else float(value)


def dense_reference(frame: pd.DataFrame, dense: pd.DataFrame) -> pd.DataFrame:
    """For each curve of `frame`: dense (percent, NaN without a dense run), dense_ci95, dense_settings (of how many
    dense curves it is the mean).

    The dense runs are the curve's own, if it is a dense one; else those of its number of epochs, or of the nearest (by
    its logarithm) that there is: of the result sets that have the curve, of several, else of any.
    """
    runs = dense[dense["method"] == "dense"]
    rows = []
    for key, curve in frame.groupby(KEYS, sort=False):
        epochs, sources = curve["epochs"].iloc[0], set(curve["sources"].iloc[0])
        of_panel = runs[(runs[PANEL] == list(key[:2])).all(axis=1)]
        distances = {other: abs(math.log(other / epochs)) for other in sorted(of_panel["epochs"], reverse=True)}
        of_budget = of_panel[of_panel["epochs"] == min(distances, key=distances.__getitem__, default=epochs)]
        own = of_panel[of_panel["label"] == key[2]]
        beside = of_budget[np.array([bool(sources & set(names)) for names in of_budget["sources"]], dtype=bool)]
        reference = next((choice for choice in (own, beside) if len(choice)), of_budget)
        per_seed = reference.groupby([*PANEL, "seed"], as_index=False)["accuracy"].mean()
        mean = summary(per_seed, PANEL, "accuracy")
        numbers = mean[["accuracy", "ci95"]].iloc[0] if len(mean) else (np.nan, np.nan)
        rows.append((*key, *numbers, reference["label"].nunique()))
    return pd.DataFrame(rows, columns=[*KEYS, "dense", "dense_ci95", "dense_settings"])
