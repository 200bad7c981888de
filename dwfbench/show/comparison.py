"""A comparison with all that belongs to it: its table, what the table shows, cautions, and the sentences at its end."""

from dataclasses import dataclass, field

import pandas as pd

from dwfbench.analysis import cautions, statistics
from dwfbench.analysis.axes import AXES
from dwfbench.analysis.frames import PANEL
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.text import ACCURACY, shared_score
from dwfbench.show import style, tables, verdicts
from dwfbench.show.tables import Question


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


def compare(results: ResultSet, question: Question) -> Comparison:
    """Accuracy at matched compression, compression at tolerance and areas: a row a curve."""
    results, moved = _along(results, question)
    table = _with_axis(tables.compare(results, question), question)
    shown_runs = results.only(method=question.method).runs
    lines = _of_runs(results, question)
    best = statistics.best(shown_runs, question.at, question.max_gap)
    score = shared_score(shown_runs["score"])
    return Comparison(
        table,
        tables.compare_caption(question, score),
        [*moved, *lines, *_of_numbers(table, question, score)],
        verdicts.closing(best),
        best,
        _heading(shown_runs),
        score,
    )


def versus(results: ResultSet, name: str, question: Question) -> Comparison:
    """Differences to the curve called so (its label, or a method of one label). Its table may be empty.

    Raises UsageError if that is no curve of a sparse method, or several.
    """
    results, moved = _along(results, question)
    runs = results.runs
    label = statistics.label_of(runs, name)
    shown_ids = results.only(method=question.method).runs["id"]
    shown_runs = runs[runs["id"].isin(shown_ids) | (runs["label"] == label)]
    differences = statistics.differences(shown_runs, label, question.at, *question.ends, question.max_gap)
    table = _with_axis(tables.versus(differences, question), question)
    score = shared_score(shown_runs["score"])
    lines = [*_of_runs(results, question, label), *cautions.pair_warnings(shown_runs, differences, label)]
    caption = tables.versus_caption(label, question, score)
    of_numbers = _of_numbers(table, question, score, label)
    return Comparison(table, caption, [*moved, *lines, *of_numbers], heading=_heading(shown_runs), score=score)


def _heading(shown_runs: pd.DataFrame) -> str:
    """Data sets, networks, epochs and seeds of some runs, as a sentence."""
    return f"{'; '.join(style.heading(key, runs) for key, runs in shown_runs.groupby(PANEL))}."


def _of_runs(results: ResultSet, question: Question, versus: str | None = None) -> list[str]:
    """Cautions on the runs that a table is made of: of its curves, of dense training and of what it compares with."""
    chosen = results.only(method=question.method)
    runs, failures = (
        frame[frame["id"].isin(own["id"]) | (frame["method"] == "dense") | (frame["label"] == versus)]
        for frame, own in ((results.runs, chosen.runs), (results.failures, chosen.failures))
    )
    astray = cautions.astray(runs, question.max_gap) if question.axis == "compression" else []
    return [*astray, *cautions.warnings(runs, failures)]


def _of_numbers(table: pd.DataFrame, question: Question, score: str, versus: str | None = None) -> list[str]:
    """Cautions on what a table's numbers are made of."""
    of_neighbours = cautions.of_neighbours(tables.made_of(table, versus=versus))
    return [*of_neighbours, *cautions.chances(tables.made_of(table, "Area", versus), score)]


def _along(results: ResultSet, question: Question) -> tuple[ResultSet, list[str]]:
    """The results along the axis, and what is to be said of it."""
    if question.axis == "compression":
        return results, []
    moved = results.along(question.axis)
    lines = [
        f"CR stands for {AXES[question.axis]} here, in the table and in what is said of it (--axis {question.axis})."
    ]
    if excluded := len(results.runs) - len(moved.runs):
        lines.append(f"Runs left out, as their {AXES[question.axis]} is not known or infinite: {excluded}.")
    return moved, lines


def _with_axis(table: pd.DataFrame, question: Question) -> pd.DataFrame:
    """The table with the axis beside every curve, if it is another one than the compression ratio."""
    if question.axis != "compression":
        table.insert(len(tables.TITLES), "Axis", question.axis)
    return table
