"""What comparisons say: which curve is best where, what is not decided, and the verdicts on claims as a table."""

import itertools
from collections.abc import Iterable
from typing import Any

import pandas as pd

from dwfbench.analysis.claims import MOST_SEEDS, UNDECIDED, VERDICTS
from dwfbench.analysis.frames import PANEL
from dwfbench.base.text import short

TITLES = {
    "dataset": "Dataset",
    "model": "Model",
    "epochs": "Epochs",
    "claim": "Claim",
    "verdict": "Verdict",
    "first": "First",
    "second": "Second",
    "measure": "Measure",
    "effect": "Effect",
    "expected": "Expected",
    "n": "Seeds",
    "needed": "To decide",
    "sentence": "Sentence",
    "reason": "Reason",
    "source": "Source",
}
"""Columns of `claims.verdicts` that people see, and their titles; the last three are long, see `typeset.LONG`."""


def closing(best: pd.DataFrame) -> list[str]:
    """Two sentences for each data set, model and budget of `statistics.best`: what is best, and what is not decided.

    Best is a curve where it is surely above every other that has a value there.
    """
    lines = []
    for (dataset, model, epochs), cells in best.groupby([*PANEL, "epochs"]):
        panel = f"{dataset}/{model}, {epochs} epochs"
        known = cells[cells["label"].notna()].to_dict("records")
        unrivalled = _by_label(row for row in known if pd.isna(row["next"]))
        surely = _by_label(row for row in known if not pd.isna(row["next"]) and not row["level"])
        clauses = [f"best is {label} at {_at(rows)} ({', '.join(map(_lead, rows))})" for label, rows in surely]
        clauses += [f"only {label} has a value at {_at(rows)}" for label, rows in unrivalled]
        none = "no curve is surely the best at any of these ratios" if known else "no curve has a value at these ratios"
        lines.append(f"{panel}: {'; '.join(clauses) or none}.")
        level = [f"at CR {row['compression']:g} {row['label']} against {_rivals(row)}" for row in known if row["level"]]
        open_ratios = cells.loc[cells["label"].isna(), "compression"]
        level += [f"at CR {', '.join(f'{ratio:g}' for ratio in open_ratios)} anything"] if len(open_ratios) else []
        if level:
            heading = "not decided (the 95 % interval of the paired difference reaches 0, or there is no second pair)"
            lines.append(f"{panel}: {heading}: {'; '.join(level)}.")
        elif surely:
            lines.append(f"{panel}: nothing is left undecided at these ratios.")
        else:
            lines.append(f"{panel}: there is no second value to compare with.")
    return lines


def _by_label(rows: Iterable[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Neighbouring rows of one label together."""
    return [(label, list(group)) for label, group in itertools.groupby(rows, key=lambda row: row["label"])]


def _at(rows: list[dict[str, Any]]) -> str:
    return "CR " + ", ".join(f"{row['compression']:g}" for row in rows)


def _lead(row: dict[str, Any]) -> str:
    """How far the best curve is above the one that comes second."""
    return f"{_difference(row)} over {row['next']}"


def _rivals(row: dict[str, Any]) -> str:
    """The curves that are level with the first one, and the difference to the first of them."""
    return ", ".join([f"{row['next']} ({_difference(row)})", *row["level"][1:]])


def _difference(row: dict[str, Any]) -> str:
    if pd.isna(row["difference"]):
        return "no seed in common"
    half = "" if pd.isna(row["ci95"]) else f" ± {row['ci95']:.2f}"
    return f"{row['difference']:+.2f}{half}"


# --- claims ---------------------------------------------------------------------------------------------------


def cells(verdicts: pd.DataFrame) -> list[list[str]]:
    """A frame of `claims.verdicts` as rows of short texts, the header first: "+1.89 [+1.60, +2.18] points"."""
    rows = verdicts.astype(object).where(verdicts.notna(), None).to_dict("records")
    return [list(TITLES.values()), *[[_cell(row, name) for name in TITLES] for row in rows]]


def counts(verdicts: pd.DataFrame) -> str:
    """How often each verdict is given: "3 supported, 0 contradicted, 1 undecided, 4 not run"."""
    numbers = verdicts["verdict"].value_counts()
    return ", ".join(f"{numbers.get(verdict, 0)} {verdict}" for verdict in VERDICTS)


def notes(verdicts: pd.DataFrame) -> list[str]:
    """What stands below such a table: how it was tested, every claim's sentence and source, and for every verdict what
    was lacking and the runs behind it."""
    lines = [TEST]
    for name, rows in verdicts.groupby("claim", sort=False):
        lines.append(f"{name}: {rows['sentence'].iloc[0]} ({rows['source'].iloc[0]})")
        for row in rows.to_dict("records"):
            panel = "" if pd.isna(row["epochs"]) else f"{row['dataset']}/{row['model']}, {row['epochs']} epochs: "
            runs = f"runs {', '.join(row['ids'])}" if row["ids"] else ""
            if details := "; ".join(text for text in (row["reason"], runs) if text):
                lines.append(f"  {panel}{row['verdict']}: {details}.")
    return lines


TEST = (
    "Effect: first minus second, or the ratio of the two, with the 95 % paired t-interval over seeds. Supported: it "
    "lies where it is expected; contradicted: it excludes that; undecided: neither, and To decide is the number of "
    "seeds that would, if mean and spread stayed. One test a claim, data set, model and budget."
)


def _cell(row: dict[str, Any], name: str) -> str:
    value = row[name]
    if name == "effect":
        return "-" if value is None else _effect(row)
    if name == "expected":
        return _expected(row)
    if name == "needed":
        return _needed(row)
    return "-" if value is None else str(value)


def _effect(row: dict[str, Any]) -> str:
    texts = [_number(row[name], row["unit"]) for name in ("effect", "low", "high") if row[name] is not None]
    return " ".join([texts[0], *([f"[{texts[1]}, {texts[2]}]"] if texts[1:] else []), row["unit"]])


def _number(value: float, unit: str) -> str:
    return f"{value:+.2f}" if unit == "points" else short(value)


def _expected(row: dict[str, Any]) -> str:
    """What is claimed of the effect: "0.5 or more", "within 0.5", "at most 1.25"."""
    words = {"above": "{:g} or more", "equal": "within {:g}", "at most": "at most {:g}"}
    return words[row["expected"]].format(row["smallest"])


def _needed(row: dict[str, Any]) -> str:
    """How many seeds would decide."""
    if row["verdict"] != UNDECIDED:
        return "-"
    if row["needed"] is not None:
        return str(row["needed"])
    return f"{row['n'] + 1} or more" if row["low"] is None else f"over {MOST_SEEDS}"
