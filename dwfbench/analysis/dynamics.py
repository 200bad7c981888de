"""How runs became sparse: their course over the epochs, the phases of it, and the sizes of their weights.

The functions take records by id and their frame, `ResultSet.runs`. Units as there: accuracies are percent,
compression ratios (CR) are numel / nnz. Epochs are the recorded ones
(`--eval-every`). Sizes are counted in the bins of `count.SIZES`, over all prunable weights. Records need the
`history` (and `weights`) that `Store.load` adds; what an older record lacks is NaN. Empty input gives empty frames
with the same columns.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from operator import attrgetter

import msgspec
import numpy as np
import pandas as pd

from dwfbench.analysis.frames import KEYS
from dwfbench.runs.record import HistoryRow, Record

HISTORY = ["epoch", "train_loss", "val_accuracy", "compression", "misalignment", "norm", "lr"]
DYNAMICS = [*KEYS, "method", "depth", "seed", "knob", "knob_value", "score", "final_compression", *HISTORY]
AVERAGED = ["val_accuracy", "compression", "misalignment", "norm", "final_compression"]
RUN = [*KEYS, "method", "depth", "seed", "knob_value", "compression"]
MARKS = ["onset", "dip", "dip_epoch", "recovery", "aligned", "norm_start", "norm_end"]
PHASES = [*RUN, *MARKS, "bimodality_onset", "bimodality_end"]
WEIGHTS = [*RUN, "onset", "epoch", "low", "high", "share"]

THRESHOLD = 1.19e-7  # a smaller |w| counts as zero in every recorded CR
FIRST_EDGE = math.log10(THRESHOLD)  # where the bin named -7 begins
WIDTH = 0.25  # of a bin, in log10 |w|
ALIGNED = 0.01  # misalignment relative to the norm from which factors count as aligned
STRENGTHS = 6  # shown of a curve
EPOCHS = 5  # shown of a run's weights
POINTS = 60  # more epochs than these are smoothed


# --- histories ----------------------------------------------------------------------------------------------


def histories(records: Mapping[str, Record], runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run of `runs` and epoch, from the records by id.

    Columns: dataset, model, label, method, depth, seed, knob, knob_value, score; final_compression (CR of the finished
    run, where a final threshold may have cut further); epoch, train_loss, val_accuracy (percent), compression (NaN
    where not finite), misalignment (NaN if none), norm (the penalty without its strength, sum |w|^(2/D); NaN if none),
    lr.
    """
    values = attrgetter(*HISTORY)
    rows = [(id_, *values(step)) for id_ in runs["id"] for step in _steps(records[id_])]
    steps = pd.DataFrame(rows, columns=["id", *HISTORY]).astype(dict.fromkeys(HISTORY, float))
    steps["val_accuracy"] *= 100
    steps["compression"] = steps["compression"].where(np.isfinite(steps["compression"]))
    runs = runs.drop(columns="val_accuracy").rename(columns={"compression": "final_compression"})
    return steps.merge(runs, on="id", how="left")[DYNAMICS]


def mean_histories(frame: pd.DataFrame) -> pd.DataFrame:
    """`histories` averaged over seeds at each knob value and epoch: dataset, model, label, method, depth, knob,
    knob_value, epoch, val_accuracy (mean), compression, misalignment, norm, final_compression (geometric means),
    n (seeds). An epoch that half of the seeds or fewer have recorded has no row, or a line would run between different
    seeds.
    """
    by = [*KEYS, "method", "depth", "knob", "knob_value", "epoch"]
    at_epoch, in_all = (frame.groupby(keys, dropna=False)["seed"].transform("nunique") for keys in (by, by[:-1]))
    frame = frame[2 * at_epoch > in_all]
    logarithmic = AVERAGED[1:]
    with np.errstate(divide="ignore"):  # a misalignment of exactly 0 has the geometric mean 0
        logs = frame.assign(**{name: np.log(frame[name].astype(float)) for name in logarithmic})
    means, groups = logs.groupby(by, dropna=False)[AVERAGED].mean(), frame.groupby(by, dropna=False)
    # Equal values have exactly themselves as their mean: a logarithm's rounding must not set a figure's scale.
    between = np.exp(means[logarithmic]).clip(groups[logarithmic].min(), groups[logarithmic].max())
    return means.assign(**between, n=groups["seed"].nunique()).reset_index()


def smoothed(frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """`histories` with the validation accuracy as a centred running mean, so that the noise of hundreds of epochs does
    not hide its course, and over how many recorded epochs: 1, as it was, up to `POINTS` epochs a run.
    """
    by = [*KEYS, "knob_value", "seed"]
    runs = frame.groupby(by, dropna=False)["val_accuracy"]
    window = max(1, round(runs.size().max() / POINTS)) if len(frame) else 1
    if window == 1:
        return frame, window
    means = runs.rolling(window, center=True, min_periods=1).mean().droplevel(by)
    return frame.assign(val_accuracy=means), window


def shown(means: pd.DataFrame, most: int = STRENGTHS) -> pd.DataFrame:
    """The rows of `mean_histories` of at most `most` knob values of each curve, spread evenly in the log of the final
    CR; the lowest and the highest CR are among them.
    """
    by = [*KEYS, "knob_value"]
    knobs = means.drop_duplicates(by)
    parts = [rows.iloc[_spread(np.log(rows["final_compression"].to_numpy()), most)] for _, rows in knobs.groupby(KEYS)]
    return means.merge(pd.concat(parts)[by], on=by) if parts else means


def _spread(values: np.ndarray, most: int) -> list[int]:
    """Positions of at most `most` values nearest to evenly spaced ones; all if there are no more."""
    if len(values) <= most:
        return list(range(len(values)))
    return sorted({int(np.abs(values - at).argmin()) for at in np.linspace(values.min(), values.max(), most)})


# --- phases -------------------------------------------------------------------------------------------------


def phases(records: Mapping[str, Record], runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run of `runs` of a method with a strength: where the phases of its training lie (Kolb et al., ICLR
    2025: accuracy rises, sparsity sets in and accuracy dips, accuracy recovers).

    Columns: dataset, model, label, method, depth, seed, knob_value; compression (final CR);
    onset: first epoch with a weight that counts as zero, so that the CR is above 1; NaN if never;
    dip: largest fall of the validation accuracy below its best so far, in points, noise included; dip_epoch: where
    that fall ends; recovery: final accuracy minus the accuracy there, in points (both NaN without a fall);
    aligned: first epoch from which misalignment stays within `ALIGNED` times the norm, that is from which the
    factors' penalty is within 1 % of the L_{2/D} penalty it stands for; NaN if never, without misalignment or norm;
    norm_start, norm_end: first and last norm;
    bimodality_onset, bimodality_end: `bimodality` of log10 |w| at the onset and at the last epoch. All zeros are one
    value just below the threshold, so a large value can also mean few weights far from the rest (skewness).
    """
    runs = _with_strength(runs)
    onsets = {id_: _onset(records[id_]) for id_ in runs["id"]}
    rows = [(onset, *_marks(records[id_]), *_bimodalities(records[id_], onset)) for id_, onset in onsets.items()]
    marks = pd.DataFrame(rows, columns=PHASES[len(RUN) :]).astype(float)
    return pd.concat([runs[RUN], marks], axis=1)


def _marks(record: Record) -> tuple[float, ...]:
    """The columns MARKS of a run, but for the onset."""
    history = record.history
    if not history:
        return (math.nan,) * (len(MARKS) - 1)
    columns = {name: np.array([getattr(step, name) for step in history], float) for name in HISTORY}
    epochs, norm = columns["epoch"], columns["norm"]
    fall = _dip(epochs, 100 * columns["val_accuracy"])
    return *fall, _from_then_on(epochs, columns["misalignment"] <= ALIGNED * norm), norm[0], norm[-1]


def _onset(record: Record) -> float:
    """First recorded epoch with weights that count as zero; NaN if never. A blank CR is that of an empty network."""
    ratios = {step.epoch: step.compression for step in _steps(record)}
    return next((epoch for epoch, cr in ratios.items() if cr is None or cr > 1), math.nan)


def _dip(epochs: np.ndarray, accuracy: np.ndarray) -> tuple[float, float, float]:
    """The largest fall below an earlier value: points, epoch of its end, and what is won back until the last epoch."""
    falls = np.maximum.accumulate(accuracy) - accuracy
    lowest = falls.argmax()
    if not falls[lowest] > 0:
        return falls[lowest], math.nan, math.nan
    return falls[lowest], epochs[lowest], accuracy[-1] - accuracy[lowest]


def _from_then_on(epochs: np.ndarray, holds: np.ndarray) -> float:
    """First epoch from which a condition holds to the end, NaN if it does not hold there."""
    broken = np.flatnonzero(~holds)
    start = broken[-1] + 1 if len(broken) else 0
    return epochs[start] if start < len(epochs) else math.nan


# --- sizes of weights ---------------------------------------------------------------------------------------


def bimodality(values: np.ndarray, counts: np.ndarray) -> float:
    """Sarle's coefficient (skewness^2 + 1) / kurtosis of `values` that occur `counts` times: above 0, at most 1.

    1 for exactly two values, 5/9 for a uniform and 1/3 for a normal distribution; above 5/9 suggests two modes.
    NaN for fewer than two values.
    """
    shares = counts / counts.sum()
    deviations = values - shares @ values
    deviations = deviations[shares > 0]
    shares = shares[shares > 0]
    if len(shares) < 2:
        return math.nan
    deviations = deviations / np.abs(deviations).max()  # no unit, and no underflow of the fourth power
    second, third, fourth = (shares @ deviations**power for power in (2, 3, 4))
    return (third**2 / second + second**2) / fourth


def _bimodalities(record: Record, onset: float) -> tuple[float, float]:
    """Bimodality of log10 |w| at the onset and at the last epoch."""
    sizes = _sizes(record)
    if not sizes:
        return math.nan, math.nan

    def of(epoch: float) -> float:
        if epoch not in sizes:
            return math.nan
        low, high = _edges(sizes[epoch])
        return bimodality((low + high) / 2, np.array(list(sizes[epoch].values()), float))

    return of(onset), of(max(sizes))


def _edges(sizes: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of the bins in log10 |w|; the two open ones, zero and 1 or more, as wide as the others."""
    low = np.array([FIRST_EDGE - WIDTH if name == "zero" else max(float(name), FIRST_EDGE) for name in sizes])
    return low, np.append(low[1:], low[-1] + WIDTH)


def weights(records: Mapping[str, Record], runs: pd.DataFrame, compression: float = 100.0) -> pd.DataFrame:
    """How large the weights of one run of every curve with a strength are at up to `EPOCHS` epochs: a row per epoch
    and bin, as trained (before a final threshold, where the method has one).

    The run is the one of the curve's first seed whose final CR is nearest to `compression` (in log CR). The epochs
    are the first, the onset, the last, and others between these in log CR or, where that gives fewer, in time.

    Columns: dataset, model, label, method, depth, seed, knob_value, compression (final CR), onset (NaN if never),
    epoch, low, high (ends of the bin in log10 |w|), share (percent of the prunable weights). The first bin of an
    epoch, below the threshold, holds what counts as zero; the last one all |w| >= 1.
    """
    runs = _with_strength(runs)
    runs = runs[np.array([bool(records[id_].weights) for id_ in runs["id"]], bool)]
    rows = []
    for _, curve in runs.groupby(KEYS):
        curve = curve[curve["seed"] == curve["seed"].min()]
        run = curve.loc[np.abs(np.log(curve["compression"] / compression)).idxmin()]
        rows += _weight_rows(run, records[run["id"]])
    return pd.DataFrame(rows, columns=WEIGHTS)


def _weight_rows(run: pd.Series, record: Record) -> list[tuple]:
    sizes = _sizes(record)
    onset = _onset(record)
    rows = []
    for epoch in _selected_epochs(sizes, onset):
        counts = np.array(list(sizes[epoch].values()), float)
        bins = zip(*_edges(sizes[epoch]), 100 * counts / counts.sum(), strict=True)
        rows += [(*run[RUN], onset, epoch, *size_bin) for size_bin in bins]
    return rows


def _selected_epochs(sizes: dict[float, dict[str, float]], onset: float, most: int = EPOCHS) -> list[float]:
    """Up to `most` epochs: the first, the onset, the last, those at a third and at two thirds of the last log CR;
    where these are fewer, also the one in the middle of the widest gap, again and again.
    """
    epochs = sorted(sizes)
    # With all weights gone log CR is infinite; one weight left is near enough to place an epoch.
    highest = sum(sizes[epochs[0]].values())
    log_cr = np.log([min(_ratio(sizes[epoch]), highest) for epoch in epochs])
    selected = {epochs[0], epochs[-1]} | {epoch for epoch in epochs if epoch == onset}
    if log_cr[-1] > 0:
        selected |= {epochs[int(np.abs(log_cr - fraction * log_cr[-1]).argmin())] for fraction in (1 / 3, 2 / 3)}
    while len(selected) < min(most, len(epochs)):
        positions = sorted(epochs.index(epoch) for epoch in selected)
        before, after = max(pairwise(positions), key=lambda pair: pair[1] - pair[0])
        selected.add(epochs[(before + after) // 2])
    return sorted(selected)


# --- shared -------------------------------------------------------------------------------------------------


def _with_strength(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that are turned by a strength, by label, strength and seed."""
    runs = runs[runs["knob"] == "strength"]
    return runs.sort_values([*KEYS, "knob_value", "seed"], ignore_index=True)


def _sizes(record: Record) -> dict[float, dict[str, float]]:
    """Numbers of weights by epoch and bin; empty in older records."""
    return {row.epoch: row.sizes for row in record.weights or []}


def _ratio(row: dict[str, float]) -> float:
    """CR of counted weights, infinite when all are zero."""
    numel = sum(row.values())
    nonzero = numel - row["zero"]
    return numel / nonzero if nonzero else math.inf


def _steps(record: Record) -> list[HistoryRow]:
    """The rows of the history, with the CR of the counted weights where there are any: a stored CR is rounded, in older
    records so that a few zeros among many weights are none. One that is above 1 by no more than rounding is 1."""
    ratios = {epoch: _ratio(row) for epoch, row in _sizes(record).items()}
    rows = []
    for step in record.history or []:
        stored = step.compression
        if stored is not None and stored <= 1 + THRESHOLD:
            stored = 1.0
        rows.append(msgspec.structs.replace(step, compression=ratios.get(step.epoch, stored)))
    return rows
