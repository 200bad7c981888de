"""Verdicts: what records say about claims, each by one test that was declared with it.

The test is the paired t-interval over seeds at 95 %: runs of one seed share the split, the data order and, where the
methods use them, the initial weights. Of a claim that ``first`` is above ``second`` it must lie above 0, and its middle
at the smallest effect that matters or higher; of one that both are equal it must lie within the smallest effect on both
sides; of one that first is larger by the smallest effect at most it must lie below that. A claim is contradicted if the
interval excludes it: below the smallest effect, outside of it, or above it. So a claim about nothing is supported in
one of forty cases. Ratios are compared by their logarithms.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from dwfbench.analysis.curves import Read, dense_reference, read
from dwfbench.analysis.statistics import paired
from dwfbench.base.text import shared_score, short
from dwfbench.runs.claims import FILE, Claim, claims_of
from dwfbench.runs.curve import curve_key, curve_settings
from dwfbench.runs.record import Record

VERDICTS = SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN = "supported", "contradicted", "undecided", "not run"
MOST_SEEDS = 1000
QUANTILES = stdtrit(np.arange(1, MOST_SEEDS), 0.975)
"""Of the t distribution, for intervals at 95 % of 2, 3, ... MOST_SEEDS seeds."""
COLUMNS = [
    *("claim", "verdict", "dataset", "model", "epochs", "first", "second", "measure", "effect", "low", "high"),
    *("expected", "smallest", "unit", "n", "needed", "reason", "sentence", "source", "ids"),
]


Side = TypeVar("Side")


@dataclass
class Pair:
    """The effect of one seed, NaN if its runs do not say it; their ids, what is lacking or mixed, and its strengths."""

    seed: int
    effect: float
    ids: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    strengths: list[float] = field(default_factory=list)


def shipped() -> list[Claim]:
    """The paper's claims."""
    return claims_of((resources.files("dwfbench.analysis") / FILE).read_text(encoding="utf-8"), "dwfbench")


def verdicts(records: Mapping[str, Record], runs: pd.DataFrame, claims: Iterable[Claim]) -> pd.DataFrame:
    """A row for every claim, data set, model and budget of which there are runs on both sides; one row without any.

    By data set, model and budget; within these in the order of the claims.

    Columns: claim (its name), verdict (supported, contradicted, undecided, not run), dataset, model, epochs, first and
    second (labels), measure (what is compared), effect with low and high (the ends of its interval; points or, of
    ratios, times), expected, smallest, unit, n (pairs of seeds), needed (seeds that would decide, if mean and spread
    stayed; missing where none do or more than 1000), reason (why it was not run, or of fewer seeds, or what it
    mixes), sentence, source, ids (of the runs behind the effect).
    """
    representatives = runs.drop_duplicates(["dataset", "model", "label"])
    curves = [(run, curve_settings(records[run.id])) for run in representatives.itertuples()]
    lost = _lost_seeds(records, runs)
    rows = [row for claim in claims for row in _rows(claim, curves, records, runs, lost)]
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"epochs": "Int64", "n": "Int64", "needed": "Int64"})
    return table.sort_values(["dataset", "model", "epochs"], kind="stable", ignore_index=True)


# ---------------------------------------------------------------- the test


def decide(mean: np.ndarray, half: np.ndarray, expected: str, smallest: float) -> np.ndarray:
    """The verdicts on effects with these means and half widths of their intervals; NaN for one decides nothing."""
    low, high = mean - half, mean + half
    supported, contradicted = {
        "above": ((low > 0) & (mean >= smallest), high < smallest),
        "equal": ((low >= -smallest) & (high <= smallest), (low > smallest) | (high < -smallest)),
        "at most": (high <= smallest, low > smallest),
    }[expected]
    return np.select([supported, contradicted], [SUPPORTED, CONTRADICTED], UNDECIDED)


def judge(effects: Sequence[float], expected: str, smallest: float) -> tuple[str, float, float, int | None]:
    """The verdict on effects of seeds, their mean, the half width of its interval, and the seeds that would decide.

    The latter is the smallest number at which the same mean and spread would decide; None where it is decided, where
    fewer than 2 effects say nothing of their spread, and where MOST_SEEDS would not do.
    """
    mean, half, n = paired(effects)
    verdict = str(decide(np.array(mean), np.array(half), expected, smallest)) if n else NOT_RUN
    if verdict != UNDECIDED or not 2 <= n < MOST_SEEDS:
        return verdict, mean, half, None
    deviation = half * np.sqrt(n) / QUANTILES[n - 2]
    seed_counts = np.arange(n + 1, MOST_SEEDS + 1)
    verdicts = decide(np.array(mean), QUANTILES[n - 1 :] * deviation / np.sqrt(seed_counts), expected, smallest)
    deciding = seed_counts[verdicts != UNDECIDED]
    return verdict, mean, half, int(deciding[0]) if len(deciding) else None


# ---------------------------------------------------------------- rows

Curves = Sequence[tuple[Any, dict[str, Any]]]
"""A run of every curve, as a row of the frame, with the settings of the curve."""


def _lost_seeds(records: Mapping[str, Record], runs: pd.DataFrame) -> dict[str, list[int]]:
    """The seeds of which every run of a curve failed, by the curve's key."""
    ids, ended_well = set(runs["id"]), set(zip(runs["curve"], runs["seed"], strict=True))
    failed = {(curve_key(record), record.spec.seed) for name, record in records.items() if name not in ids}
    lost: dict[str, list[int]] = {}
    for curve, seed in sorted(failed - ended_well):
        lost.setdefault(curve, []).append(seed)
    return lost


def _rows(
    claim: Claim, curves: Curves, records: Mapping[str, Record], runs: pd.DataFrame, lost: Mapping[str, list[int]]
) -> Iterator[tuple]:
    panels = _panels(claim, curves)
    comparable = {key: both for key, both in sorted(panels.items()) if all(both)}
    if not comparable:
        wanted = (claim.first, claim.second)
        absent = [_named(wanted[index]) for index in (0, 1) if not any(both[index] for both in panels.values())]
        reason = f"no run of {' and of '.join(absent)}" if absent else "no data set, model and budget has runs of both"
        score = shared_score(runs["score"])
        yield _row(claim, (None, None, None), _named(claim.first), _named(claim.second), [], reason, score)
    for (dataset, model, epochs, _), sides in comparable.items():
        first, second = (", ".join(run.label for run in side) for side in sides)
        panel_runs = runs[(runs["dataset"] == dataset) & (runs["model"] == model)]
        pairs: list[Pair] = []
        if sum(map(len, sides)) > 2:
            reason = f"several curves are meant: {first}; {second}"
        elif first == second:
            reason = f"both sides mean the same curve: {first}"
        else:
            pairs = PAIRS[claim.quantity](claim, panel_runs, first, second, records)
            gone = [(f"no run of {run.label} ended well", lost.get(run.curve)) for side in sides for run in side]
            words = [*_lacking(pairs), *(_of_seeds(text, seeds) for text, seeds in gone if seeds)]
            reason = "; ".join(words) or _no_spread(pairs)
        score = shared_score(panel_runs["score"])
        yield _row(claim, (dataset, model, epochs), first, second, pairs, reason, score)


def _panels(claim: Claim, curves: Curves) -> dict[tuple, tuple[list[Any], list[Any]]]:
    """A run of every curve that either side means, by data set, model, budget, and the result set that tells curves
    apart ("" for none): a curve that is no set's own is compared within each."""
    sides = (claim.first, claim.second)
    meant = [(run, index) for run, settings in curves for index in (0, 1) if _is_meant(settings, sides[index])]
    sets: dict[tuple, set[str]] = {}
    for run, _ in meant:
        sets.setdefault((run.dataset, run.model, run.epochs), set()).update([run.set] if pd.notna(run.set) else [])
    panels: dict[tuple, tuple[list[Any], list[Any]]] = {}
    for run, index in meant:
        place = (run.dataset, run.model, run.epochs)
        for name in [run.set] if pd.notna(run.set) else sets[place] or {""}:
            panels.setdefault((*place, name), ([], []))[index].append(run)
    return panels


def _no_spread(pairs: Sequence[Pair]) -> str:
    """Why so few pairs decide nothing."""
    if len(pairs) == 2 and np.isnan(paired([pair.effect for pair in pairs])[1]):
        return "two seeds that agree to the last digit say nothing of the spread"
    return {0: "no seed in common", 1: "one seed has no spread"}.get(len(pairs), "")


def _is_meant(settings: Mapping[str, Any], side: Mapping[str, Any]) -> bool:
    method = str(settings["method"])
    same_method = side["method"] in (method, method.partition("@")[0])
    return same_method and all(
        name in settings and (settings[name] == value or (settings[name] is None and value == "none"))
        for name, value in side.items()
        if name != "method"
    )


def _named(side: Mapping[str, Any]) -> str:
    """As on the command line: dwf[depth=3]."""
    options = ",".join(f"{name}={value}" for name, value in side.items() if name != "method")
    return f"{side['method']}[{options}]" if options else str(side["method"])


def _lacking(pairs: Sequence[Pair]) -> list[str]:
    """What is lacking, each once, with the seeds."""
    seeds: dict[str, list[int]] = {}
    for pair in pairs:
        for text in pair.lacking:
            seeds.setdefault(text, []).append(pair.seed)
    return [_of_seeds(text, numbers) for text, numbers in seeds.items()]


def _of_seeds(text: str, seeds: Sequence[int]) -> str:
    return f"{text} (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})"


def _row(claim: Claim, panel: tuple, first: str, second: str, pairs: Sequence[Pair], reason: str, score: str) -> tuple:
    limit = np.log(claim.smallest) if claim.is_ratio else claim.smallest
    verdict, mean, half, needed = judge([pair.effect for pair in pairs], claim.expected, limit)
    ends = np.array([mean, mean - half, mean + half])
    ids = dict.fromkeys(name for pair in pairs if not np.isnan(pair.effect) for name in pair.ids)
    n = sum(not np.isnan(pair.effect) for pair in pairs)
    unit = "times" if claim.is_ratio else "points"
    return (
        *(
            claim.name,
            verdict,
            *panel,
            first,
            second,
            _measure(claim, score, pairs),
            *(np.exp(ends) if claim.is_ratio else ends),
        ),
        *(claim.expected, claim.smallest, unit, n, needed, reason, claim.sentence, claim.source, list(ids)),
    )


def _measure(claim: Claim, score: str, pairs: Sequence[Pair]) -> str:
    strengths = next((list(map(short, pair.strengths)) for pair in pairs if pair.strengths), [])
    if len(strengths) > 3:
        strengths = [f"({len(strengths)} from {strengths[0]} to {strengths[-1]})"]
    return {
        "accuracy": f"{score} at CR {', '.join(f'{ratio:g}' for ratio in claim.at)}",
        "accuracy at strength": f"{score} at equal strength {', '.join(strengths)}".strip(),
        "compression": f"CR within {claim.tolerance or 0:g} points of dense",
        "seconds": "seconds a run",
    }[claim.quantity]


# ---------------------------------------------------------------- effects of seeds


def _in_common(sides: Mapping[tuple, Side], first: str, second: str) -> Iterator[tuple[int, Side, Side]]:
    """For every seed that two labels have in common: the seed, and the side of each of those by (label, seed)."""
    for label, seed in sorted(sides, key=lambda key: key[1]):
        if label == first and (second, seed) in sides:
            yield int(seed), sides[first, seed], sides[second, seed]


def _by_seed(runs: pd.DataFrame) -> dict[tuple, pd.DataFrame]:
    return dict(iter(runs.groupby(["label", "seed"])))


def _of_curves(runs: pd.DataFrame, first: str, second: str, number: Callable[[Read, Pair], float]) -> list[Pair]:
    """The pairs of which the effect is the difference of a number of either curve, which says where it comes from."""
    pairs = []
    curves = {curve.key[2:]: curve for curve in read(runs[runs["label"].isin([first, second])])}
    for seed, first_curve, second_curve in _in_common(curves, first, second):
        pair = Pair(seed, np.nan)
        pair.effect = number(first_curve, pair) - number(second_curve, pair)
        pairs.append(pair)
    return pairs


def _known(curve: Read, value: float, below: int, above: int, pair: Pair) -> float:
    """A value that is read between two points of a curve; its pair is told what it comes from, or why there is none."""
    label, neighbours = curve.key[2], curve.neighbours(below, above)
    pair.ids += neighbours["ids"]
    low, high = (short(neighbours[side]) for side in ("below", "above"))
    if np.isnan(value):
        place = f"above CR {low}" if above < 0 else f"below CR {high}" if below < 0 else f"between CR {low} and {high}"
        pair.lacking.append(f"no run of {label} {place}")
    elif choices := neighbours.get("tuned"):
        pair.lacking.append(f"{label} is read between runs for which tuning chose {' and '.join(choices)}")
    return float(value)


def _at_compression(claim: Claim, runs: pd.DataFrame, first: str, second: str, _: Any) -> list[Pair]:
    def accuracy(curve: Read, pair: Pair) -> float:
        readings = zip(*curve.points.at(claim.at), strict=True)
        return float(np.mean([_known(curve, *reading, pair) for reading in readings]))

    return _of_curves(runs, first, second, accuracy)


def _at_tolerance(claim: Claim, runs: pd.DataFrame, first: str, second: str, _: Any) -> list[Pair]:
    compared = runs[runs["label"].isin([first, second])]
    dense = dense_reference(compared, runs).set_index("label")["dense"]

    def log_ratio(curve: Read, pair: Pair) -> float:
        label = curve.key[2]
        ratio, censored, below, above = curve.points.last_within(dense[label] - (claim.tolerance or 0))
        if censored or np.isnan(dense[label]):
            pair.lacking.append(f"{label} never leaves the tolerance" if censored else f"no dense run beside {label}")
            return np.nan
        return float(np.log(_known(curve, ratio, below, above, pair)))

    return _of_curves(runs, first, second, log_ratio)


def _at_strength(claim: Claim, runs: pd.DataFrame, first: str, second: str, _: Any) -> list[Pair]:
    """The mean over the strengths that all seeds have in common, but for networks that are no result. Several runs of a
    strength, of which tuning chose other settings for other targets, count as their mean."""
    sound = runs[(runs["knob"] == "strength") & runs["unsound"].isna()]
    by_seed = _in_common(_by_seed(sound), first, second)
    merged = {seed: first_runs.merge(second_runs, on="knob_value") for seed, first_runs, second_runs in by_seed}
    strengths_by_seed = [set(pairs["knob_value"]) for pairs in merged.values() if len(pairs)]
    strengths = sorted(set.intersection(*strengths_by_seed)) if strengths_by_seed else []
    seeds = "all seeds of " if strengths_by_seed else ""
    pairs = []
    for seed, both in merged.items():
        both = both[both["knob_value"].isin(strengths)]
        lacking = [] if len(both) else [f"no strength that {seeds}both {first} and {second} have"]
        effect = (both["accuracy_x"] - both["accuracy_y"]).groupby(both["knob_value"]).mean().mean()
        pairs.append(Pair(seed, effect, [*both["id_x"].unique(), *both["id_y"].unique()], lacking, strengths))
    return pairs


def _seconds(claim: Claim, runs: pd.DataFrame, first: str, second: str, records: Mapping[str, Record]) -> list[Pair]:
    """Only runs of one machine that were trained alike can be compared."""
    runs = runs.assign(alike=[_conditions(records[name]) for name in runs["id"]])
    pairs = []
    for seed, *sides in _in_common(_by_seed(runs[runs["seconds"] > 0]), first, second):
        common = set(sides[0]["alike"]) & set(sides[1]["alike"])
        first_runs, second_runs = (side[side["alike"].isin(common)] for side in sides)
        ratios = [_mean_seconds(first_runs, place) / _mean_seconds(second_runs, place) for place in common]
        effect = float(np.log(np.sort(ratios)).mean()) if common else np.nan
        lacking = [] if common else [f"no runs of {first} and {second} on one machine with the same settings of speed"]
        pairs.append(Pair(seed, effect, [*first_runs["id"], *second_runs["id"]], lacking))
    return pairs


def _mean_seconds(runs: pd.DataFrame, place: tuple) -> float:
    """Of the runs that were trained under these conditions."""
    return float(runs.loc[[alike == place for alike in runs["alike"]], "seconds"].mean())


def _conditions(record: Record) -> tuple:
    origin = record.provenance
    return origin.device_name, origin.threads, origin.lanes, origin.compiled, origin.versions.get("torch")


PAIRS = {
    "accuracy": _at_compression,
    "accuracy at strength": _at_strength,
    "compression": _at_tolerance,
    "seconds": _seconds,
}
