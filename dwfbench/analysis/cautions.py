"""One-line cautions on what a comparison of runs can bear."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import geometric_mean
from typing import Any

import numpy as np
import pandas as pd

from dwfbench.analysis.curves import dense_reference
from dwfbench.analysis.frames import KEYS, PANEL
from dwfbench.analysis.matched import MAX_GAP, near
from dwfbench.base.text import ACCURACY, judged_by, short


class Caution(str):
    """A sentence that also says, for every curve that it concerns, what is to be said of that one; data set and model
    before it ("mnist/lenet"), "" where it concerns all.
    """

    panel: str
    of: Mapping[str, str]

    def __new__(cls, panel: str, sentence: str, of: Mapping[str, str] | None = None) -> "Caution":
        caution = super().__new__(cls, f"{panel}: {sentence}" if panel else sentence)
        caution.panel, caution.of = panel, of or {}
        return caution


def by_curve(cautions: Iterable[str]) -> tuple[list[str], dict[tuple[str, str], list[str]]]:
    """Those that concern no curve in particular, and by panel and label what is to be said of each curve."""
    general, words_by_curve = [], dict[tuple[str, str], list[str]]()
    for caution in cautions:
        if isinstance(caution, Caution) and caution.of:
            for label, words in caution.of.items():
                words_by_curve.setdefault((caution.panel, label), []).append(words)
        else:
            general.append(str(caution))
    return general, dict(sorted(words_by_curve.items()))


def warnings(frame: pd.DataFrame, failed: pd.DataFrame | None = None) -> list[str]:
    """Of the runs `frame`; `failed` (of `ResultSet.failures`) is counted, and named where it leaves a seed no run."""
    lines: list[str] = [line for panel, rows in frame.groupby(PANEL) for line in _panel_warnings("/".join(panel), rows)]
    if failed is not None and len(failed):
        lines += _lost(frame, failed)
        statuses = failed["status"].replace("ok", "not tested").value_counts()
        counts = ", ".join(f"{count} {status}" for status, count in statuses.items())
        lines.append(f"Runs left out: {counts}.")
    return lines


def _lost(frame: pd.DataFrame, failed: pd.DataFrame) -> Iterator[Caution]:
    """Of the seeds of a curve that has no run with them."""
    by = [*KEYS, "seed"]
    ended_well = set(frame[by].itertuples(index=False, name=None))
    lost = [key for key in failed[by].drop_duplicates().itertuples(index=False, name=None) if key not in ended_well]
    for panel, rows in pd.DataFrame(lost, columns=by).groupby(PANEL):
        texts = {label: _seeds(group["seed"]) for label, group in rows.groupby("label")}
        names = ", ".join(f"{label} ({seeds})" for label, seeds in texts.items())
        of = {label: f"no run ended well of {seeds}" for label, seeds in texts.items()}
        yield Caution("/".join(panel), f"seeds of which no run ended well: {names}.", of)


def astray(frame: pd.DataFrame, most: float = MAX_GAP) -> list[str]:
    """Of the curves of pruners that `off_target` names, which a figure draws without a line."""
    lines: list[str] = []
    for panel, rows in frame.groupby(PANEL):
        if labels := [label for *_, label in off_target(rows, most)]:
            sentence = f"runs of {', '.join(labels)} end far from the CR asked for; what lies between them is chance."
            lines.append(Caution("/".join(panel), sentence, dict.fromkeys(labels, "ends far from the CR asked for")))
    return lines


def off_target(runs: pd.DataFrame, most: float) -> list[tuple[str, str, str]]:
    """The curves (data set, model, label) of pruners most of whose runs end a factor of more than ``most`` from the
    compression that was asked for: what lies between such runs is chance.
    """
    targeted = runs[runs["knob"] == "compression"]
    ended, target = targeted["compression"].astype(float), targeted["knob_value"]
    missed = targeted.assign(far=~near(np.minimum(ended, target), np.maximum(ended, target), most, targeted["numel"]))
    return [key for key, share in missed.groupby(KEYS)["far"].mean().items() if share > 0.5]


def pair_warnings(frame: pd.DataFrame, differences: pd.DataFrame, versus: str) -> list[str]:
    """Of `statistics.differences` of the runs `frame` to `versus`."""
    lines: list[str] = []
    for panel, rows in frame[frame["method"] != "dense"].groupby(PANEL):
        if versus not in set(rows["label"]):
            lines.append(Caution("/".join(panel), f"no run of {versus}, so nothing is compared with it."))
    for panel, rows in differences[differences["common"] < 3].drop_duplicates(KEYS).groupby(PANEL):
        counts = list(zip(rows["label"], rows["common"], strict=True))
        names = ", ".join(f"{label} ({count})" for label, count in counts)
        of = {label: f"fewer than 3 seeds in common with {versus} ({count})" for label, count in counts}
        lines.append(Caution("/".join(panel), f"fewer than 3 seeds in common with {versus}: {names}.", of))
    return lines


SeedsByCurve = Mapping[tuple[str, str], Sequence[dict[str, Any]]]
"""What numbers are made of, by panel ("mnist/lenet") and label: dictionaries as in the columns `seeds` of `curves`."""


def of_neighbours(seeds_by_curve: SeedsByCurve) -> list[str]:
    """Of numbers that are not given, as the runs next to them lie too far apart, a line for curves with the same CRs;
    and of those that are read between runs for which tuning, as it may for every target, chose different settings."""
    lines: list[str] = []
    for panel, gaps in _gaps(seeds_by_curve, _holes).items():
        for gap in dict.fromkeys(gaps.values()):
            names = [label for label in gaps if gaps[label] == gap]
            text = f"no run of {', '.join(names)} between CR {gap}."
            lines.append(Caution(panel, text, dict.fromkeys(names, f"no run between CR {gap}")))
    for panel, gaps in _gaps(seeds_by_curve, _mixed).items():
        text = f"some numbers of {', '.join(gaps)} are {MIXED}."
        of = {label: f"some numbers are {MIXED}: CR {gap}" for label, gap in gaps.items()}
        lines.append(Caution(panel, text, of))
    return lines


MIXED = "read between runs for which tuning chose different settings"


def _gaps(seeds_by_curve: SeedsByCurve, holes_of: Callable[[dict[str, Any]], list]) -> dict[str, dict[str, str]]:
    """By panel and label, in words: between which CRs there are holes, and of which seeds."""
    gaps: dict[str, dict[str, str]] = {}
    for (panel, label), seeds in seeds_by_curve.items():
        around = {(low, high, entry["seed"]) for entry in seeds for low, high in holes_of(entry)}
        by_seeds: dict[str, list[list[Hole]]] = {}
        for alike in _alike(sorted(around)):
            by_seeds.setdefault(_seeds(seed for *_, seed in alike), []).append(alike)
        if by_seeds:
            gap = "; ".join(f"{_between(groups)} ({seeds_text})" for seeds_text, groups in by_seeds.items())
            gaps.setdefault(panel, {})[label] = gap
    return gaps


CONDITIONS = {
    **{"torch": "versions of torch", "device": "devices", "precision": "precisions", "batch_size": "batch sizes"},
    **{"val_fraction": "parts kept for validation", "augment": "augmentations", "image_size": "image sizes"},
    "numel": "numbers of prunable weights",
}
"""What runs of one data set and network may differ in without that being what is compared; how it is called."""

ALIKE = 1.15
"""Holes of several seeds are named together if both of their ends differ by no more than this factor."""

Hole = tuple[float, float, int]
"""The CRs around a hole, and the seed that has it."""


def _alike(around: Sequence[Hole]) -> list[list[Hole]]:
    groups: list[list[Hole]] = []
    for hole in around:  # by rising CR
        for group in groups:
            if all(hole[end] <= ALIKE * group[0][end] <= ALIKE**2 * hole[end] for end in (0, 1)):
                group.append(hole)
                break
        else:
            groups.append([hole])
    return groups


def _between(groups: Sequence[Sequence[Hole]]) -> str:
    """ "2 and 10, 10 and 30": the ends of holes; of holes that are alike and not the same "about" and with two digits
    their middle."""
    pairs = [[[hole[end] for hole in alike] for end in (0, 1)] for alike in groups]
    if all(len({short(ratio) for ratio in ratios}) == 1 for pair in pairs for ratios in pair):
        return ", ".join(" and ".join(dict.fromkeys(short(ratios[0]) for ratios in pair)) for pair in pairs)
    return "about " + ", ".join(" and ".join(short(geometric_mean(ratios), 2) for ratios in pair) for pair in pairs)


def _holes(entry: dict[str, Any]) -> list[tuple[float, float]]:
    """Of a number of a seed: that of an area has its holes listed, another one is between its neighbours or is none."""
    if "holes" in entry:
        return [(low, high) for low, high in entry["holes"]]
    none = entry.get("accuracy", entry.get("compression")) is None
    return [(entry["below"], entry["above"])] if none and entry["below"] and entry["above"] else []


def _mixed(entry: dict[str, Any]) -> list[tuple[float, float]]:
    """Between which runs a number of a seed is read, if these were trained at different choices of a study."""
    given = entry.get("accuracy", entry.get("compression")) is not None
    return [(entry["below"], entry["above"])] if given and "tuned" in entry else []


def chances(seeds_by_curve: SeedsByCurve, score: str = ACCURACY) -> list[str]:
    """Of areas in which chance accuracy counts beyond a curve's last run: a line a panel."""
    counts = judged_by(score, "chance accuracy counts in the area")
    ends_by_panel: dict[str, dict[str, str]] = {}
    for (panel, label), seeds in seeds_by_curve.items():
        if ends := [entry["chance_above"] for entry in seeds if entry["area"] is not None and entry["chance_above"]]:
            ends_by_panel.setdefault(panel, {})[label] = f"above CR {short(min(ends))}"
    return [
        Caution(
            panel,
            f"{counts} of {', '.join(f'{label} {ends}' for label, ends in curves.items())}.",
            {label: f"{counts} {ends}" for label, ends in curves.items()},
        )
        for panel, curves in ends_by_panel.items()
    ]


def _panel_warnings(panel: str, rows: pd.DataFrame) -> Iterator[str]:
    seeds = rows.groupby("label")["seed"].nunique()
    if (few := seeds[seeds < 3]).size:
        names = ", ".join(f"{label} ({count})" for label, count in few.items())
        of = {label: f"fewer than 3 seeds ({count})" for label, count in few.items()}
        yield Caution(panel, f"fewer than 3 seeds, differences may be chance: {names}.", of)
    for reason, runs in rows.groupby("unsound"):
        texts = {label: _ratios(label_runs) for label, label_runs in runs.groupby("label")}
        names = ", ".join(f"{label} at {ratios}" for label, ratios in texts.items())
        yield Caution(panel, f"{reason}: {names}.", {label: f"{reason} at {ratios}" for label, ratios in texts.items()})
    if rows["epochs"].nunique() > 1:
        yield Caution(panel, f"budgets differ: {_listed(rows['epochs'])} epochs.")
    if (versions := rows["data_checksum"].nunique()) > 1:
        yield Caution(panel, f"the runs saw {versions} different versions of the data (checksums differ).")
    for name, noun in CONDITIONS.items():
        values = rows[name].fillna("the data's own") if name == "image_size" else rows[name].replace(math.inf, None)
        if len(different := sorted(values.dropna().unique(), key=lambda value: (isinstance(value, str), value))) > 1:
            listed = ", ".join(value if isinstance(value, str) else f"{value:,g}" for value in different)
            yield Caution(panel, f"runs of different {noun} are compared: {listed}.")
    dense = rows[rows["method"] == "dense"]
    if dense.empty:
        yield Caution(panel, "no dense run, so the CR at a tolerance is unknown: run the method dense.")
    elif missing_epochs := set(rows["epochs"]) - set(dense["epochs"]):
        yield Caution(panel, f"no dense run of {_listed(missing_epochs)} epochs; those of the nearest number stand in.")
    if (dense_reference(rows, rows)["dense_settings"] > 1).any():
        yield Caution(panel, "several dense settings share a budget; their mean is the reference.")


def _ratios(runs: pd.DataFrame) -> str:
    """ "CR 100 (seeds 0, 1), 300 (seed 0)": which runs these are."""
    runs = runs.sort_values("compression")
    texts = runs["compression"].map(short)
    return "CR " + ", ".join(f"{ratio} ({_seeds(group['seed'])})" for ratio, group in runs.groupby(texts, sort=False))


def _seeds(seeds: Iterable[int]) -> str:
    """ "seed 0", "seeds 0, 2", "seeds 0 to 4": from four in a row on as a range."""
    listed = sorted(set(seeds))
    if len(listed) > 3 and listed[-1] - listed[0] == len(listed) - 1:
        return f"seeds {listed[0]} to {listed[-1]}"
    return f"seed{'s' * (len(listed) > 1)} {', '.join(map(str, listed))}"


def _listed(epochs: Iterable[int]) -> str:
    return ", ".join(f"{value:g}" for value in sorted(set(epochs)))
