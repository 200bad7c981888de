"""The tables of the page: grids that it can sort and filter.

A grid is {"columns": [{"name", "number", "falling", "hidden"}], "rows": [{"group", "cells": [{"text", "key",
"half"}]}]}: the page sorts by the key if there is one (an empty one goes last), first falling or rising as the column
says, so that what is best comes first, and can show the rows of one group only. `half`, the half width of the key's
interval, and hidden columns are for the CSV file.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dwfbench.analysis import curves
from dwfbench.base.text import knob, short
from dwfbench.runs.record import Record, Study, Tuned
from dwfbench.show import studies, tables

RISING = ("Seed", "Epochs", "Extra", "Knob", "Seconds", "s/run")
"""Columns of numbers of which low ones are better, or come first."""
PANEL_TITLES = [tables.TITLES[name] for name in curves.PANEL]


def grid(
    columns: Sequence[str], rows: Sequence[tuple[str, list]], words: Iterable[str], hidden: Iterable[str] = ()
) -> dict:
    """A grid of rows (group, cells), a cell a text, (text, number) or (text, number, half width of its interval); the
    columns `words` are flush left.

    Data set and model have no columns where all rows agree in them: the page's head names them.
    """

    def differs(index: int) -> bool:
        return columns[index] not in PANEL_TITLES or len({row[index] for _, row in rows}) > 1

    indices = [index for index in range(len(columns)) if differs(index)]
    return {
        "columns": [
            _column(columns[index], columns[index] not in set(words)) | {"hidden": columns[index] in set(hidden)}
            for index in indices
        ],
        "rows": [{"group": group, "cells": [_cell(row[index]) for index in indices]} for group, row in rows],
    }


def _column(name: str, number: bool) -> dict:
    return {"name": name, "number": number, "falling": number and name not in RISING}


def _cell(content: str | tuple) -> dict:
    if isinstance(content, str):
        return {"text": content, "key": None, "half": None}
    text, *numbers = content
    key, half = ("" if number is None or pd.isna(number) else f"{number:.10g}" for number in (*numbers, None)[:2])
    return {"text": text, "key": key, "half": half or None}


def amount(value: Any, form: str | None = None) -> tuple[str, object]:
    """Text and value of a cell; without a format, four significant digits."""
    if value is None or pd.isna(value):
        return "-", None
    return (short(value, 4) if form is None else format(value, form)), value


def dense(runs: pd.DataFrame) -> list[str]:
    """What dense runs are worth: every dense curve among the runs, by its label where a budget has several."""
    rows = runs[runs["method"] == "dense"]
    by = [*curves.PANEL, "epochs", "label"]
    per_seed = rows.groupby([*by, "seed"], as_index=False)["accuracy"].mean()
    table = curves.summary(per_seed, by, "accuracy")
    several = table.duplicated(by[:-1], keep=False)
    texts = []
    for row, told in zip(table.to_dict("records"), several, strict=True):
        half = "" if pd.isna(row["ci95"]) else f" ± {row['ci95']:.2f}"
        words = [f"{row['dataset']}/{row['model']}", f"{row['epochs']} epochs", *([row["label"]] if told else [])]
        texts.append(f"{row['accuracy']:.2f}{half} % ({', '.join(words)})")
    return texts


def shared(table: pd.DataFrame) -> dict[str, str]:
    """The columns of counts and of the dense reference in which all rows of a `compare` table agree, with the text."""
    header, *body = tables.cells(table)
    columns = dict(zip(header, zip(*body, strict=True), strict=True)) if len(body) > 1 else {}
    alike = [name for name in ("Seeds", "Epochs", "Extra", "Dense") if len(set(columns.get(name, ()))) == 1]
    return {name: columns[name][0] for name in alike}


def comparison(table: pd.DataFrame, shown_runs: pd.DataFrame) -> dict:
    """A `compare` or `versus` table of the runs `shown_runs`; the columns in which all rows agree are hidden."""
    header, *body = tables.cells(table)
    method = shown_runs.drop_duplicates("label").set_index("label")["method"]
    names = [name for name in table.columns if not name.endswith(tables.BESIDE)]
    rows = []
    for texts, row in zip(body, table.to_dict("records"), strict=True):
        pairs = zip(names, texts, strict=True)
        cells = [text if name in tables.LEFT else (text, row[name], row.get(f"{name} ci95")) for name, text in pairs]
        rows.append((method[row["Method"]], cells))
    return grid(header, rows, tables.LEFT, shared(table))


def runs(shown_runs: pd.DataFrame, by_id: dict[str, Record], labels: Sequence[str]) -> dict:
    """Every finished run, in the order of the legend, seeds and knobs."""
    ranks = {label: rank for rank, label in enumerate(labels)}
    ordered = shown_runs.assign(place=shown_runs["label"].map(ranks)).sort_values(
        [*curves.PANEL, "place", "seed", "knob_value"]
    )
    columns = [*PANEL_TITLES, "Method", "Seed", "Knob", "CR", "Effective CR", "Test %", "Val %", "Dense-equivalent %"]
    columns += ["Seconds", "Connected", "Id"]
    rows = []
    for run in ordered.itertuples():
        before = by_id[run.id].dense_equivalent_accuracy
        cells = [
            run.dataset,
            run.model,
            run.label,
            amount(run.seed, "d"),
            (knob(run.knob, run.knob_value), run.knob_value),
            amount(run.compression),
            amount(run.effective_compression),
            amount(run.accuracy, ".2f"),
            amount(run.val_accuracy, ".2f"),
            amount(None if before is None else 100 * before, ".2f"),
            amount(run.seconds, ".1f"),
            {True: "yes", False: "no"}.get(run.connected, "-"),
            run.id,
        ]
        rows.append((run.method, cells))
    return grid(columns, rows, ("Dataset", "Model", "Method", "Connected", "Id"))


def failures(failed: pd.DataFrame) -> dict | None:
    """Every run without a result, None if there is none."""
    if failed.empty:
        return None
    columns = ["Dataset", "Model", "Method", "Seed", "Knob", "Status", "Error", "Id"]
    rows = []
    for run in failed.sort_values([*curves.PANEL, "label", "seed", "knob_value", "id"]).itertuples():
        error = str(run.error) if pd.notna(run.error) else NO_ERROR.get(run.status, "-")
        turned_to = (knob(run.knob, run.knob_value), run.knob_value)
        cells = [run.dataset, run.model, run.label, amount(run.seed, "d"), turned_to, run.status, error, run.id]
        rows.append((run.method, cells))
    return grid(columns, rows, ("Dataset", "Model", "Method", "Status", "Error", "Id"))


NO_ERROR = {
    "emptied": "no weight is left at this threshold",
    "ok": "no finite accuracy or compression was recorded",
}


def settings(shown_runs: pd.DataFrame, by_id: dict[str, Record], labels: Sequence[str]) -> dict:
    """How each curve was trained; several values of a cell are listed."""
    rows = []
    for (dataset, model), panel in shown_runs.groupby(curves.PANEL):
        for label in (label for label in labels if label in set(panel["label"])):
            label_runs = panel[panel["label"] == label]
            records = [by_id[run] for run in label_runs["id"]]

            def spec(name: str, records: list[Record] = records) -> str:
                return _listed(getattr(record.spec, name) for record in records)

            cells = [dataset, model, label, amount(len(label_runs), "d"), _listed(label_runs["seed"]), spec("epochs")]
            cells += [spec("batch_size"), spec("lr"), _tuned(records), spec("precision")]
            rows.append((label_runs["method"].iloc[0], cells))
    columns = ["Dataset", "Model", "Method", "Runs", "Seeds", "Epochs", "Batch", "Learning rate", "Tuned", "Precision"]
    return grid(columns, rows, [name for name in columns if name != "Runs"])


def _tuned(records: list[Record]) -> str:
    """Which study chose the settings of a curve's runs."""
    return _listed(_tuning(record.provenance.tuned) for record in records)


def _tuning(tuned: Tuned | None) -> str:
    if tuned is None or tuned.study is None:
        return "no"
    reached = "" if tuned.objective is None else f", objective {100 * tuned.objective:.2f} %"
    return f"study {tuned.study}, {tuned.trials} trials{reached}"


def _listed(values: Iterable[object]) -> str:
    """The different values, numbers in their order, then words."""
    different = {value for value in values if value is not None}
    numbers = sorted(value for value in different if isinstance(value, (int, float, np.integer)))
    words = sorted(str(value) for value in different - set(numbers))
    return ", ".join([*(f"{value:g}" for value in numbers), *words]) or "-"


def study(study: Study) -> dict:
    """A tuning study as a heading, a sentence and a grid of its trials."""
    header, *trials = studies.rows([study])
    return {
        "title": f"{study.label} ({study.dataset}, {study.model})",
        "id": study.id,
        "objective": study.objective,
        "grid": grid(header[1:], [(study.method, row[1:]) for row in trials], ["trial"]),
    }
