"""The numbers of `curves` as tables: a row a curve, as texts for people and with every number for machines.

Units are those of `curves`: accuracies in percent, their differences in points, CR = numel / nnz, seconds.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from dwfbench.analysis import curves
from dwfbench.analysis.curves import AT, TOLERANCES
from dwfbench.analysis.frames import KEYS, PANEL
from dwfbench.analysis.matched import MAX_GAP
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base import escape
from dwfbench.base.errors import UsageError
from dwfbench.base.text import ACCURACY, by_number, judged_by, short
from dwfbench.show import typeset
from dwfbench.show.typeset import PLAIN, Marks, Sheet

FORMATS = ("table", "markdown", "latex", "csv", "json")
READINGS = {"points": (False,), "relative": (True,), "both": (False, True)}
"""How a tolerance is read: in points below dense, in percent of dense (relative), or one after the other."""

TITLES = {"dataset": "Dataset", "model": "Model", "label": "Method"}
LEFT = tuple(TITLES.values())  # columns of words
COUNTS = ("Runs", "Seeds", "Epochs", "Extra")
BESIDE = (" ci95", " n", " censored", " low", " high", " seeds")  # columns that belong to one before them


# --- numbers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """What is compared: accuracies `at` these CRs; CRs within `tolerances`, in the `reading` points, relative or both;
    areas over the CRs of `span`, by default from the lowest to the highest of `at`; `max_gap`, see `matched`; the
    `method`s shown, and the column by which rows are ordered (`sort`, see `compare`). Along another `axis` of
    `axes.CURVES` than the compression ratio all these CRs are places on that axis. Raises UsageError for numbers out of
    range.
    """

    at: Sequence[float] = AT
    tolerances: Sequence[float] = TOLERANCES
    reading: str = "points"
    span: tuple[float, float] | None = None
    max_gap: float = MAX_GAP
    method: Sequence[str] | None = None
    sort: str | None = None
    axis: str = "compression"

    def __post_init__(self) -> None:
        low, high = self.span or (1, math.inf)
        faults = {
            "at takes compression ratios of at least 1": any(not value >= 1 for value in self.at),
            "tolerance takes values from 0 to 100": any(not 0 <= value <= 100 for value in self.tolerances),
            "area takes two compression ratios, the smaller first": not 1 <= low < high,
            f"max-gap takes a factor of at least 1, not {self.max_gap:g}": not 1 <= self.max_gap < math.inf,
        }
        for sentence in (sentence for sentence, wrong in faults.items() if wrong):
            raise UsageError(f"--{sentence}.")

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the areas' range."""
        return curves.area_range(self.at, *(self.span or (None, None)))

    def words(self) -> list[str]:
        """The flags of `dwfbench report` that ask for the same again."""
        listed = {"at": (self.at, AT), "tolerance": (self.tolerances, TOLERANCES)}
        flags = [(name, values) for name, (values, usual) in listed.items() if list(values) != list(usual)]
        return [word for name, values in flags for word in (f"--{name}", ",".join(f"{value:g}" for value in values))]


USUAL = Question()


def compare(results: ResultSet, question: Question = USUAL) -> pd.DataFrame:
    """One row per curve; within each data set and model dense comes first, then the others by falling `sort`, a column
    of numbers, those without a number last, or by "Method". By default they fall by Area if each has one, so that no
    curve stands above others because these have a hole; else they are in the order of their names.

    Columns (numbers, unrounded): Dataset, Model, Method (the label), Runs, Seeds, Epochs, Extra (passes over a batch
    beside its epochs, where any method needs them; missing in old records), Dense (the reference, percent, be it shown
    or not); "CR 10" (accuracy in percent) for every CR in `at`; "CR@-1pt" or, in the relative reading, "CR@-1%" for
    every tolerance (see READINGS); Area (percent, over the CRs "Area low" to "Area high", by default from the lowest
    to the highest of `at`, see `curves.area`); s/run, if all are of one device. Beside them "... ci95" (95 % half
    width), "... n" (seeds whose runs say it), "... censored" (a lower bound) and "... seeds" (see `curves`).
    Raises UsageError for a column `sort` that there is not.
    """
    everything, shown_runs = results.runs, results.only(method=question.method).runs
    of_curves = shown_runs.groupby(KEYS)
    table = of_curves.agg(
        Runs=("id", "size"),
        Seeds=("seed", "nunique"),
        Epochs=("epochs", "first"),
        Extra=("extra_passes", "max"),
        method=("method", "first"),
    )
    if not (table["Extra"] > 0).any():
        table = table.drop(columns="Extra")
    references = curves.dense_reference(shown_runs, everything).set_index(KEYS)
    table = table.assign(**{"Dense": references["dense"], "Dense ci95": references["dense_ci95"]})
    heights = curves.matched(shown_runs, question.at, question.max_gap)
    _add(table, heights, "compression", {f"CR {cr:g}": cr for cr in question.at}, ["accuracy", "ci95", "n", "seeds"])
    for relative in READINGS[question.reading]:
        names = {f"CR@-{value:g}{'%' if relative else 'pt'}": value for value in question.tolerances}
        crossings = curves.at_tolerance(shown_runs, question.tolerances, relative, everything, question.max_gap)
        _add(table, crossings, "tolerance", names, ["compression", "censored", "n", "seeds"])
    sparse = shown_runs[shown_runs["method"] != "dense"]
    areas = curves.area(sparse, *question.ends, question.max_gap).assign(quantity="area")
    _add(table, areas, "quantity", {"Area": "area"}, ["area", "ci95", "n", "low", "high", "seeds"])
    table["s/run"] = of_curves["seconds"].mean().where(of_curves["device"].nunique() < 2)
    return _sorted(table.reset_index(), question.sort).rename(columns=TITLES)


def _sorted(table: pd.DataFrame, sort: str | None) -> pd.DataFrame:
    if sort not in (None, "Method") and (sort not in table or not pd.api.types.is_numeric_dtype(table[sort])):
        raise UsageError(f"There is no column {sort!r} to sort by; choose Method, Area, or another one of numbers.")
    table = table.assign(sparse=table["method"] != "dense", place=table["label"].map(by_number))
    if sort is None:
        complete = (table["Area"].notna() | ~table["sparse"]).groupby([table[name] for name in PANEL]).transform("all")
        order = table["Area"].where(complete)
    else:
        order = table["label"].isna() if sort == "Method" else table[sort]
    by = [*PANEL, "sparse", "order", "place"]
    table = table.assign(order=order).sort_values(by, ascending=[name != "order" for name in by], na_position="last")
    return table.drop(columns=["method", "sparse", "order", "place"]).reset_index(drop=True)


def versus(differences: pd.DataFrame, question: Question = USUAL) -> pd.DataFrame:
    """`statistics.differences` with one row per curve, in the order of `compare`.

    Columns (numbers, unrounded): Dataset, Model, Method (the label), Seeds (in common); "CR 10" (difference in
    points) for every CR, rising; Area (points, over the CRs "Area low" to "Area high"). Beside them "... ci95",
    "... n" (pairs) and "... seeds".
    """
    columns = ["difference", "ci95", "n", "seeds"]
    table = differences.groupby(KEYS).agg(Seeds=("common", "first"))
    ratios = differences["compression"].dropna().unique()
    _add(table, differences, "compression", {f"CR {cr:g}": cr for cr in ratios}, columns)
    _add(table, differences, "quantity", {"Area": "area"}, [*columns, "low", "high"])
    return _sorted(table.reset_index().assign(method=""), question.sort).rename(columns=TITLES)


def made_of(table: pd.DataFrame, column: str | None = None, versus: str | None = None) -> dict[tuple[str, str], list]:
    """What the numbers of a table, or of a column of it, are made of: the dictionaries of its columns "... seeds" by
    data set and model ("mnist/lenet") and label; of a `versus` table with those of the curve `versus`.
    """
    names = [name for name in table if name.endswith(" seeds") and column in (None, name.removesuffix(" seeds"))]
    seeds_by_curve: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table.to_dict("records"):
        panel = f"{row['Dataset']}/{row['Model']}"
        for entry in (entry for name in names if isinstance(row[name], list) for entry in row[name]):
            seeds_by_curve.setdefault((panel, row["Method"]), []).append(entry)
            if versus is not None:
                seeds_by_curve.setdefault((panel, versus), []).append({"seed": entry["seed"], **entry["versus"]})
    return seeds_by_curve


def _add(table: pd.DataFrame, values: pd.DataFrame, by: str, names: dict, columns: list[str]) -> None:
    """Adds, for every name, the rows of `values` whose `by` is its value: columns[0] under the name, the rest
    beside.
    """
    for name, value in names.items():
        rows = values[values[by] == value].set_index(KEYS)
        table[name] = rows[columns[0]]
        for column in columns[1:]:
            table[f"{name} {column}"] = rows[column]


# --- captions -----------------------------------------------------------------------------------------------

INTERVAL = "± is the half width of the 95 % t-interval over seeds; (n=2): the mean of the 2 seeds that have a value."
READ = "Per seed, between runs at most a factor of {max_gap:g} apart in CR, linear in log CR; else -."
AREA = "Area: mean over log CR of the range; chance accuracy where a seed has no runs, - where it has a hole."


def compare_caption(question: Question = USUAL, score: str = ACCURACY) -> str:
    """What a `compare` table shows, in which reading its tolerances are, and how its rows are ordered."""
    within = {
        False: "CR@-Xpt: the largest CR at which accuracy is at most X points below dense.",
        True: "CR@-X%: the largest CR at which accuracy is at most X % of dense's below dense (relative).",
    }
    readings = " ".join(within[relative] for relative in READINGS[question.reading])
    text = judged_by(
        score, f"Accuracy in percent. {INTERVAL} {readings} {READ.format(max_gap=question.max_gap)} {AREA}"
    )
    return f"{text} Rows: dense first, then {_order(question)}."


def versus_caption(versus: str, question: Question = USUAL, score: str = ACCURACY) -> str:
    """What a `versus` table shows."""
    unit = "in points, paired by seed; what is tested are claims (`dwfbench claims`)."
    explanation = judged_by(score, f"{INTERVAL} {READ.format(max_gap=question.max_gap)} {AREA}")
    return f"{judged_by(score, 'Accuracy')} minus that of {versus}, {unit} {explanation} Rows {_order(question)}."


def _order(question: Question) -> str:
    orders = {None: "by falling Area if all have one, else by name", "Method": "by name"}
    return orders.get(question.sort, f"by falling {question.sort}, those without one last")


# --- texts --------------------------------------------------------------------------------------------------


def cells(table: pd.DataFrame) -> list[list[str]]:
    """A `compare` or `versus` table as rows of short texts, the header first: "97.81 ± 0.12", ">=174", "-" for
    nothing; a difference is "+1.23 ± 0.40".

    "(n=2)" marks a value of fewer seeds than the curve has.
    """
    names = [name for name in table.columns if not name.endswith(BESIDE)]
    with_area = table[table["Area low"].notna()].head(1)
    ends = "".join(f" CR {short(row['Area low'])}-{short(row['Area high'])}" for row in with_area.to_dict("records"))
    signed = "Dense" not in table
    rows = [[_cell(row, name, signed) for name in names] for row in table.to_dict("records")]
    return [[f"{name}{ends}" if name == "Area" else name for name in names], *rows]


GROUPS = {
    "CR ": "accuracy (%) at CR",
    "CR@-pt": "largest CR within (points)",
    "CR@-%": "largest CR within (% of dense)",
    "ms at ": "ms at batch",
    "x at ": "speed-up at batch",
}
"""Headings that columns of numbers have in common in LaTeX."""


def render(
    table: pd.DataFrame,
    format: str = "table",
    cells: Callable[[pd.DataFrame], list[list[str]]] = cells,
    sheet: Sheet = PLAIN,
    marks: Marks | None = None,
    score: str = ACCURACY,
) -> str:
    """A table as text: table (aligned), markdown and latex (booktabs) show its `cells`, those of `compare` and `versus`
    unless others are given, with `marks` (see `typeset`) and the name of the `score` in headings; csv and json (a list
    of objects, null for missing) hold every column unrounded, csv what numbers are made of as JSON. Raises UsageError
    for another format and for a column that `sheet` asks for and that is not there.
    """
    if format in ("csv", "json"):
        return _for_machines(chosen_columns(table, sheet), format)
    if format not in FORMATS:
        raise UsageError(f"There is no table format '{format}': choose one of {', '.join(FORMATS)}.")
    groups = GROUPS if "Dense" in table or "Seeds" not in table else GROUPS | {"CR ": "difference (points) at CR"}
    groups = {columns: judged_by(score, heading) for columns, heading in groups.items()}
    return typeset.text(cells(table), format, sheet, marks, groups)


def chosen_columns(table: pd.DataFrame, sheet: Sheet) -> pd.DataFrame:
    """The columns that are asked for, each with those that belong to it."""
    main_columns = [name for name in table if not name.endswith(BESIDE)]
    selected = [main_columns[index] for index in sheet.chosen(main_columns)]
    beside = {name: [f"{name}{end}" for end in BESIDE if f"{name}{end}" in table] for name in selected}
    return table if sheet.columns is None else table[[column for name in selected for column in (name, *beside[name])]]


def _for_machines(table: pd.DataFrame, format: str) -> str:
    if format == "csv":
        lists = [name for name in table if name.endswith(" seeds") or name == "ids"]
        as_json = partial(json.dumps, ensure_ascii=False)
        return csv(table.assign(**{name: table[name].map(as_json, na_action="ignore") for name in lists}))
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def marks(table: pd.DataFrame, best: pd.DataFrame | None = None) -> Marks:
    """Which cells of a `compare` or `versus` table are the best of their data set, model and budget, among the sparse
    methods: bold. Where `best` (of `statistics.best`) says so, those not told apart from the best are italic. A curve
    of fewer seeds is not the best, nor is a lead that is none.
    """
    best_by_cell = (
        {} if best is None else {(*row[:3], f"CR {row[3]:g}"): row[4:] for row in best[BEST].itertuples(index=False)}
    )
    looks_by_cell: dict[tuple[int, str], str] = {}
    names = [name for name in table if name.startswith(("CR ", "CR@", "Area")) and not name.endswith(BESIDE)]
    for key, rows in table.reset_index(drop=True).groupby([name for name in (*LEFT[:2], "Epochs") if name in table]):
        for name in names:
            if (*key, name) in best_by_cell:
                label, level = best_by_cell[(*key, name)]
                looks = {label: "bold", **dict.fromkeys(level, "italic")}
                looks_by_cell |= {(row, name): looks[label] for row, label in rows["Method"].items() if label in looks}
            else:
                firsts = [row for row in _firsts(rows, name) if best is not None or rows[name][row] > 0]
                looks_by_cell |= {(row, name): "bold" for row in firsts}
    return looks_by_cell


def _firsts(rows: pd.DataFrame, column: str) -> list[int]:
    """Those with the highest number of as many seeds as any other's, unless another's CR within a tolerance may be
    higher, as it is a lower bound or lies in a hole."""
    seeds = rows[f"{column} n"].where(rows[column].notna())
    numbers = rows.loc[seeds == seeds.max(), column]
    firsts = numbers.index[numbers == (highest := numbers.max())]
    if not column.startswith("CR@"):
        return list(firsts)
    hidden = rows[f"{column} seeds"].map(lambda entries: _in_hole_above(highest, entries), na_action="ignore")
    higher = set(rows.index[rows[f"{column} censored"].eq(True) | hidden.eq(True)])
    return [row for row in firsts if higher <= {row}]


def _in_hole_above(value: float, entries: list[dict[str, Any]]) -> bool:
    return any(seed["compression"] is None and seed["below"] and seed["above"] > value for seed in entries)


BEST = ["dataset", "model", "epochs", "compression", "label", "level"]
BOLD = {"table": "*", "markdown": "Bold", "latex": "Bold"}
ITALIC = {"table": "~", "markdown": "italic", "latex": "italic"}


def marks_caption(format: str, compared: bool) -> str:
    """What the marks of a table mean."""
    if not compared:
        return f"{BOLD[format]}: the largest lead with the most seeds."
    level = f"{ITALIC[format]}: not told apart from it (the 95 % interval of the paired difference holds 0)"
    return f"{BOLD[format]}: the highest of the sparse methods of a budget with the most seeds; {level}."


def csv(table: pd.DataFrame) -> str:
    """A table of numbers and texts as CSV, in which no text is a formula."""
    texts = {name: table[name].map(escape.spreadsheet) for name in table.select_dtypes(exclude="number")}
    return table.assign(**texts).to_csv(index=False, lineterminator="\n")


def _cell(row: dict, name: str, signed: bool) -> str:
    value = row[name]
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "-"
    if name in COUNTS:
        return str(int(value))
    if name.startswith("CR@"):
        text = f"{'>=' if row[f'{name} censored'] else ''}{short(value)}"
    elif name == "s/run":
        text = short(value)
    else:
        ci95 = row[f"{name} ci95"]
        text = f"{value:+.2f}" if signed else f"{value:.2f}"
        text += "" if pd.isna(ci95) else f" ± {ci95:.2f}"
    n = row.get(f"{name} n", row["Seeds"])
    return text if n == row["Seeds"] else f"{text} (n={n:.0f})"
