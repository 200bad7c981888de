"""How far curves lie apart: paired by seed, as runs of one seed share the split, the data order and, where the method
uses them, the initial weights. These numbers describe; what is tested are claims, each once (`claims`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from dwfbench.analysis.curves import AT, Read, area_range, interpolate, number_or_none, read, seed_area, targets_of
from dwfbench.analysis.frames import KEYS, PANEL, of_methods
from dwfbench.analysis.matched import MAX_GAP, ROUNDING
from dwfbench.base.errors import UsageError
from dwfbench.base.text import no_such

Value = tuple[float, dict[str, Any]]
"""A number of a seed's curve, NaN for none, and what it is made of."""


def paired(values: Sequence[float | None] | np.ndarray) -> tuple[float, float, int]:
    """The `intervals` of one row of differences."""
    mean, half, n = intervals(np.asarray(values, dtype=float))
    return float(mean), float(half), int(n)


def intervals(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of paired differences, 95 % half width of its t-interval, and their number; along the last axis.

    NaN is no pair. Without a pair the mean is NaN, below 2 the half width. Differences that are equal but for rounding
    have the half width 0; two of them, which are so by chance on a small test set, have none.
    """
    is_pair = ~np.isnan(pairs)
    n = is_pair.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(is_pair, pairs, 0).sum(axis=-1) / n
        squares = np.where(is_pair, pairs - mean[..., None], 0) ** 2
        half = stdtrit(n - 1, 0.975) * np.sqrt(squares.sum(axis=-1) / (n - 1) / n)
    equal = (n > 1) & (np.sqrt(squares.max(axis=-1, initial=0)) < ROUNDING)
    return mean, np.where(equal, np.where(n > 2, 0, np.nan), half), n


def differences(
    frame: pd.DataFrame,
    versus: str,
    at: Sequence[float] = AT,
    low: float | None = None,
    high: float | None = None,
    max_gap: float = MAX_GAP,
) -> pd.DataFrame:
    """Every other curve's accuracy minus that of the curve labelled `versus`, at each CR and over the whole range.

    Per data set and model, every other label has a row for every CR in `at` and one for its area (see `curves.area`;
    over the CRs `low` to `high`, by default from the lowest to the highest of `at`). Dense curves have no compression
    to compare and get no rows, nor does a data set and model without `versus`.
    Columns: dataset, model, label, common (number of seeds that both curves have), quantity ("accuracy" or "area"),
    compression (NaN for an area), low, high (CRs; NaN for an accuracy), difference (points, mean over pairs of seeds),
    ci95 (half width of the t-interval; NaN below 2 pairs), n (pairs), seeds (`seed`, `difference`, what the curve's
    number is made of, and under `versus` the same of the other curve).
    Raises UsageError for a CR below 1 and for an impossible range.
    """
    targets = targets_of(at)
    low, high = area_range(list(targets), low, high)
    sparse = frame[frame["method"] != "dense"]
    chances = sparse.groupby(KEYS)["chance"].first().to_dict()
    curves: dict[tuple, dict[int, list[Value]]] = {}
    for curve in read(sparse):
        area = seed_area(curve, low, high, chances[curve.key[:3]], max_gap)
        curves.setdefault(curve.key[:3], {})[curve.key[3]] = [*_at(curve, targets, max_gap), area]
    quantities = [*(("accuracy", ratio, np.nan, np.nan) for ratio in targets), ("area", np.nan, low, high)]
    rows = []
    for key, values in curves.items():
        versus_values = curves.get((*key[:2], versus))
        if key[2] == versus or versus_values is None:
            continue
        common = sorted(values.keys() & versus_values.keys())
        for index, quantity in enumerate(quantities):
            seeds = [_subtracted(seed, quantity[0], values[seed][index], versus_values[seed][index]) for seed in common]
            rows.append((*key, len(common), *quantity, *paired([entry["difference"] for entry in seeds]), seeds))
    columns = [*KEYS, "common", "quantity", "compression", "low", "high", "difference", "ci95", "n", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def _at(curve: Read, targets: np.ndarray, max_gap: float) -> list[Value]:
    reading = curve.points.at(targets, max_gap)
    return [(height, curve.neighbours(below, above)) for height, below, above in zip(*reading, strict=True)]


def _subtracted(seed: int, quantity: str, value: Value, versus: Value) -> dict[str, Any]:
    """The two values of a seed and their difference, with what they are made of."""
    sides = [{quantity: number_or_none(number), **composition} for number, composition in (value, versus)]
    return {"seed": int(seed), "difference": number_or_none(value[0] - versus[0]), **sides[0], "versus": sides[1]}


def best(frame: pd.DataFrame, at: Sequence[float] = AT, max_gap: float = MAX_GAP) -> pd.DataFrame:
    """The curve that comes first at each CR, among the sparse ones of one data set, model and budget.

    First comes a curve that no other is surely above; of several the one with most seeds, then the highest mean.
    Columns: dataset, model, epochs, compression, label (missing where no curve says anything), accuracy (percent), n
    (seeds), level (the labels that it is not surely above, in the same order: the interval of the paired difference
    reaches 0, or there are fewer than 2 pairs), next (the first of these, else the label that comes second),
    difference (points, paired over the seeds that both have), ci95. It is the best only where there is a next and
    nothing is level.
    """
    by = [*PANEL, "epochs"]
    budgets = frame[[*KEYS, "epochs"]].drop_duplicates(KEYS)
    values = interpolate(frame[frame["method"] != "dense"], at, max_gap, neighbours=False).merge(budgets, on=KEYS)
    rows = []
    for key, group in values.groupby(by):
        table = group.pivot(index="label", columns=["compression", "seed"], values="accuracy")
        for ratio in targets_of(at):
            rows.append((*key, ratio, *_best(table.index.to_numpy(), table[ratio].to_numpy())))
    columns = [*by, "compression", "label", "accuracy", "n", "level", "next", "difference", "ci95"]
    return pd.DataFrame(rows, columns=columns)


def _best(labels: np.ndarray, heights: np.ndarray) -> tuple:
    """The columns of `best` from label on, by the heights of the labels (rows) and seeds (columns)."""
    means, _, counts = intervals(heights)
    leads, halves, _ = intervals(heights[:, None] - heights)
    surely_above = leads - halves > 0
    order = [curve for curve in np.lexsort((-means, -counts, surely_above.any(axis=0))) if counts[curve]]
    if not order:
        return None, np.nan, 0, [], None, np.nan, np.nan
    first, *rivals = order
    level = [rival for rival in rivals if not surely_above[first, rival]]
    compared: tuple = (None, np.nan, np.nan)
    if rivals:
        following = (level or rivals)[0]
        compared = (labels[following], leads[first, following], halves[first, following])
    return labels[first], means[first], int(counts[first]), labels[level].tolist(), *compared


def label_of(frame: pd.DataFrame, name: str) -> str:
    """The label `name`, or the only label of the method `name`.

    Raises UsageError if no curve of a sparse method is meant, naming the nearest, or several are.
    """
    frame = frame[frame["method"] != "dense"]
    labels = sorted(frame["label"].unique())
    if name in labels:
        return name
    method_labels = sorted(frame.loc[of_methods(frame, [name]), "label"].unique())
    if len(method_labels) > 1:
        raise UsageError(f"The method {name} has several curves; choose one of {', '.join(method_labels)}.")
    if not labels:
        raise UsageError(f"There is no sparse curve here, {name!r} neither.")
    if not method_labels:
        raise UsageError(no_such("sparse curve", name, labels, " to compare with"))
    return method_labels[0]
