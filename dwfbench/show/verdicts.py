"""What comparisons say, in sentences: which curve is best where, and what is not decided."""

import itertools
from typing import Any

import pandas as pd

from dwfbench.analysis.frames import PANEL


def closing(best: pd.DataFrame) -> list[str]:
    """Two sentences for each data set, model and budget of `statistics.best`: what is best, and what is not decided."""
    lines = []
    for (dataset, model, epochs), cells in best.groupby([*PANEL, "epochs"]):
        where = f"{dataset}/{model}, {epochs} epochs"
        known = cells[cells["label"].notna()].to_dict("records")
        groups = [(label, list(rows)) for label, rows in itertools.groupby(known, key=lambda row: row["label"])]
        said = "; ".join(f"{label} at {_ratios(rows)} ({', '.join(map(_lead, rows))})" for label, rows in groups)
        lines.append(f"{where}: best is {said}." if said else f"{where}: no curve has a value at these ratios.")
        level = [f"at CR {row['compression']:g} against {', '.join(row['level'])}" for row in known if row["level"]]
        unknown = cells.loc[cells["label"].isna(), "compression"]
        if len(unknown):
            level.append(f"at CR {', '.join(f'{ratio:g}' for ratio in unknown)} at all")
        if level:
            what = "not decided (the 95 % interval of the paired difference holds 0, or there is no second pair)"
            lines.append(f"{where}: {what} {'; '.join(level)}.")
        else:
            lines.append(f"{where}: the best is told apart from all others at every ratio.")
    return lines


CLOSING = (
    "Best: the highest mean; not decided: the 95 % t-interval of the paired difference holds 0, or is of one seed."
)


def _ratios(rows: list[dict[str, Any]]) -> str:
    first, last = rows[0]["compression"], rows[-1]["compression"]
    return f"CR {first:g}" if first == last else f"CR {first:g} to {last:g}"


def _lead(row: dict[str, Any]) -> str:
    """How far the best curve is above the next one."""
    if pd.isna(row["next"]):
        return "alone"
    half = "" if pd.isna(row["ci95"]) else f" ± {row['ci95']:.2f}"
    return f"{row['difference']:+.2f}{half} over {row['next']}"
