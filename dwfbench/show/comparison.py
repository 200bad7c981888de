"""A comparison with all that belongs to it: its table, what the table shows, cautions, and the sentences at its end."""

from dataclasses import dataclass, field

import pandas as pd

from dwfbench.analysis import cautions, statistics
from dwfbench.analysis.axes import AXES
from dwfbench.analysis.frames import PANEL, of_methods
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.text import ACCURACY, shared_score
from dwfbench.show import style, tables, verdicts
from dwfbench.show.tables import Asked


@dataclass(frozen=True)
class Comparison:
    """The table, for `tables.render`; what it shows, in a text; what its numbers cannot bear, a sentence each; who is
    best where and what is not decided, with the frame behind that (of `statistics.best`); of what the table is; the
    name of what is compared, of several scores "score"."""

    table: pd.DataFrame
    caption: str
    cautions: list[str]
    closing: list[str] = field(default_factory=list)
    best: pd.DataFrame | None = None
    heading: str = ""
    score: str = ACCURACY


def compare(results: ResultSet, asked: Asked) -> Comparison:
    """Accuracy at matched compression, compression at tolerance and areas: a row a curve."""
    results, moved = _along(results, asked)
    table = _with_axis(tables.compare(results, asked), asked)
    shown_runs = results.only(method=asked.method).runs
    best = statistics.best(shown_runs, asked.at, asked.max_gap)
    score = shared_score(shown_runs["score"])
    return Comparison(
        table,
        tables.compare_caption(asked, score),
        [*moved, *cautions.warnings(results.runs, results.failures), *_of_numbers(table, asked, score)],
        verdicts.closing(best),
        best,
        _heading(shown_runs),
        score,
    )


def versus(results: ResultSet, name: str, asked: Asked) -> Comparison:
    """Differences to the curve called so (its label, or a method of one label). Its table may be empty.

    Raises UsageError if that is no curve of a sparse method, or several.
    """
    results, moved = _along(results, asked)
    runs = results.runs
    label = statistics.label_of(runs, name)
    shown_runs = runs if asked.method is None else runs[of_methods(runs, asked.method) | (runs["label"] == label)]
    differences = statistics.differences(shown_runs, label, asked.at, *asked.ends, asked.max_gap)
    table = _with_axis(tables.versus(differences, asked), asked)
    score = shared_score(shown_runs["score"])
    lines = [*cautions.warnings(runs, results.failures), *cautions.pair_warnings(shown_runs, differences, label)]
    caption = tables.versus_caption(label, asked, score)
    of_numbers = _of_numbers(table, asked, score, label)
    return Comparison(table, caption, [*moved, *lines, *of_numbers], heading=_heading(shown_runs), score=score)


def _heading(shown_runs: pd.DataFrame) -> str:
    """Data sets, networks, epochs and seeds of some runs, as a sentence."""
    return f"{'; '.join(style.heading(key, runs) for key, runs in shown_runs.groupby(PANEL))}."


def _of_numbers(table: pd.DataFrame, asked: Asked, score: str, versus: str | None = None) -> list[str]:
    """Cautions on what a table's numbers are made of."""
    holes = cautions.holes(tables.made_of(table, versus=versus))
    return [*holes, *cautions.chances(tables.made_of(table, "Area", versus), *asked.ends, score)]


def _along(results: ResultSet, asked: Asked) -> tuple[ResultSet, list[str]]:
    """The results along the axis, and what is to be said of it."""
    if asked.axis == "compression":
        return results, []
    moved = results.along(asked.axis)
    lines = [f"CR stands for {AXES[asked.axis]} here, in the table and in what is said of it (--axis {asked.axis})."]
    if excluded := len(results.runs) - len(moved.runs):
        lines.append(f"Runs left out, as their {AXES[asked.axis]} is not known or infinite: {excluded}.")
    return moved, lines


def _with_axis(table: pd.DataFrame, asked: Asked) -> pd.DataFrame:
    """The table with the axis beside every curve, if it is another one than the compression ratio."""
    if asked.axis != "compression":
        table.insert(len(tables.TITLES), "Axis", asked.axis)
    return table
