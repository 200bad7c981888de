"""The commands that read results: compare, claims and report, and the list of runs; plot has a file of its own."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from dwfbench.base.errors import UsageError
from dwfbench.base.streams import answer, beside
from dwfbench.cli.app import NOTHING, OK, SETTINGS, guarded, message
from dwfbench.cli.help import TEXT, Command, examples
from dwfbench.cli.options import flags_of, with_flags
from dwfbench.cli.sources import RESULTS, Cut, Debug, Listed, ResultSets, Tagged, nothing, stored_records
from dwfbench.cli.tables import curve_table
from dwfbench.cli.values import names, numbers, one_of, pair
from dwfbench.runs import resultsets
from dwfbench.runs.record import content_of
from dwfbench.runs.resultsets import Source
from dwfbench.runs.store import uncollected
from dwfbench.show.typeset import Sheet

Format = Annotated[str, typer.Option(help="table, markdown, latex, csv or json")]
At = Annotated[str, typer.Option(help="compression ratios to compare at")]
Tolerance = Annotated[str, typer.Option(help="losses of accuracy against dense, for the largest CR within")]
AT, TOLERANCES = "2,5,10,30,100,300", "1,5,10"

app = typer.Typer(**SETTINGS)


@app.command(
    "compare",
    cls=Command,
    epilog=examples(
        "dwfbench compare --at 10,30,100 --tolerance 1,5",
        "dwfbench compare --versus magnitude",
        "dwfbench compare --results mine --results theirs.zip --format json",
        'dwfbench compare --format latex --best bold --columns "Method,CR 10"',
    ),
)
@guarded
@uncollected()
@with_flags(flags_of(Sheet, TEXT))
def compare(
    results: ResultSets = RESULTS,
    at: At = AT,
    tolerance: Tolerance = TOLERANCES,
    reading: Annotated[
        str, typer.Option(help="of a tolerance: points (below dense), relative (percent of dense) or both")
    ] = "points",
    versus: Annotated[
        str | None, typer.Option(help="instead: differences to this curve (label, or method of one label)")
    ] = None,
    area: Annotated[
        str | None, typer.Option(help="lowest,highest CR of the area under the curve [default: those of --at]")
    ] = None,
    max_gap: Annotated[
        float, typer.Option(help="factor in CR up to which a curve is read between neighbouring runs")
    ] = 2.0,
    axis: Annotated[
        str, typer.Option(help="what is meant by CR: compression, effective (of paths from input to output) or macs")
    ] = "compression",
    sort: Annotated[
        str | None,
        typer.Option(help='order of rows: "CR 100", Area, ... (falling) or Method [default: Area if all have one]'),
    ] = None,
    dataset: Listed = None,
    model: Listed = None,
    method: Listed = None,
    threshold: Cut = None,
    tag: Tagged = None,
    format: Format = "table",
    best: Annotated[
        str, typer.Option(help="how the best of a column is marked: none or bold", rich_help_panel=TEXT)
    ] = "none",
    debug: Debug = False,
    **given: str | None,
) -> int:
    """Accuracy at matched compression, compression at tolerance, area under the curve; a row a curve."""
    from dwfbench.analysis.axes import AXES
    from dwfbench.analysis.resultset import ResultSet
    from dwfbench.show import comparison, tables, typeset

    one_of(format, "format", tables.FORMATS)
    one_of(best, "best", ("none", "bold"))
    sheet = sheet_of(given, format)
    asked = comparison.Asked(
        compression_ratios(at),
        tolerances_of(tolerance),
        one_of(reading, "reading", tables.READINGS),
        None if area is None else area_range(area),
        gap(max_gap),
        names(method),
        sort,
        one_of(axis, "axis", AXES),
    )
    named = resultsets.sources(results)
    stored = ResultSet(stored_records(named, dataset, model, method, threshold, tag))
    if stored.runs.empty:
        return nothing(named)
    made = comparison.compare(stored, asked) if versus is None else comparison.versus(stored, versus, asked)
    if made.table.empty and versus is not None:
        message(f"There is no other sparse curve here to compare with {versus}.")
        return NOTHING
    if made.table.empty:
        return nothing(named)
    for line in made.cautions:
        message(line)
    marks = tables.marks(made.table, made.best) if best == "bold" else {}
    said = [made.caption, *([tables.marks_caption(format, versus is None)] if marks else [])]
    sheet = typeset.captioned(sheet, [made.heading, *said])
    answer(tables.render(made.table, format, sheet=sheet, marks=marks, score=made.score).rstrip("\n"))
    for line in (*([""] if format == "table" else []), " ".join(said), *made.closing):
        beside(format, line)
    return OK


def sheet_of(given: Mapping[str, str | None], format: str) -> Sheet:
    """What is asked of a table as text. UsageError for what the format has none of."""
    for flag in ("caption", "label"):
        if given[flag] is not None and format != "latex":
            raise UsageError(f"--{flag} is of a LaTeX table: add --format latex, or leave it out.")
    return Sheet(**{name: value for name, value in given.items() if value is not None})


def compression_ratios(text: str) -> list[float]:
    ratios = numbers(text, "at")
    if any(not value >= 1 for value in ratios):
        raise UsageError("--at takes compression ratios of at least 1.")
    return ratios


def tolerances_of(text: str) -> list[float]:
    values = numbers(text, "tolerance")
    if any(not 0 <= value <= 100 for value in values):
        raise UsageError("--tolerance takes values from 0 to 100.")
    return values


def area_range(text: str) -> tuple[float, float]:
    low, high = pair(text, "area")
    if not 1 <= low < high:
        raise UsageError("--area takes two compression ratios, the smaller first.")
    return low, high


def gap(factor: float) -> float:
    if not (math.isfinite(factor) and factor >= 1):
        raise UsageError(f"--max-gap takes a factor of at least 1, not {factor:g}.")
    return factor


@app.command(
    "claims",
    cls=Command,
    epilog=examples("dwfbench claims", "dwfbench claims --results theirs.zip --format markdown"),
)
@guarded
@uncollected()
@with_flags(flags_of(Sheet, TEXT))
def claims(
    results: ResultSets = RESULTS,
    dataset: Listed = None,
    model: Listed = None,
    threshold: Cut = None,
    tag: Tagged = None,
    format: Format = "table",
    debug: Debug = False,
    **given: str | None,
) -> int:
    """Verdicts on claims: supported, contradicted, undecided (and how many seeds would decide) or not run.

    The claims are the paper's, which come with dwfbench, and those of a claims.toml in a results folder or archive.
    Each is one paired test over seeds, for every data set, model and budget of epochs.
    """
    from dwfbench.analysis import cautions
    from dwfbench.analysis.resultset import ResultSet
    from dwfbench.show import tables, typeset, verdicts

    one_of(format, "format", tables.FORMATS)
    sheet = typeset.captioned(sheet_of(given, format), [verdicts.TEST])
    named = resultsets.sources(results)
    stored = ResultSet(stored_records(named, dataset, model, None, threshold, tag), claimed=resultsets.claims(named))
    if stored.runs.empty:
        return nothing(named)
    for line in cautions.warnings(stored.runs, stored.failures):
        message(line)
    table = stored.claims()
    answer(tables.render(table, format, verdicts.all_cells, sheet).rstrip("\n"))
    for line in ("", *verdicts.notes(table)):
        beside(format, line)
    return OK


@app.command(
    "report",
    cls=Command,
    epilog=examples("dwfbench report", "dwfbench report --results theirs.zip --dataset fashion-mnist -o theirs.html"),
)
@guarded
def report(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file [default: RESULTS/report.html]")
    ] = None,
    results: ResultSets = RESULTS,
    at: At = AT,
    tolerance: Tolerance = TOLERANCES,
    versus: Annotated[
        str | None, typer.Option(help="show differences to this curve, too (label, or method of one label)")
    ] = None,
    dataset: Listed = None,
    model: Listed = None,
    method: Listed = None,
    threshold: Cut = None,
    tag: Tagged = None,
    debug: Debug = False,
) -> int:
    """Write verdicts, charts, tables, failures and provenance as one HTML file that opens without a network."""
    from dwfbench.analysis.resultset import ResultSet
    from dwfbench.show import report
    from dwfbench.show.figures import figures

    named = resultsets.sources(results)
    selection = report.Selection(
        tuple(results),
        names(dataset),
        names(model),
        names(method),
        threshold,
        compression_ratios(at) if at != AT else None,
        tolerances_of(tolerance) if tolerance != TOLERANCES else None,
        versus,
    )
    needs = dict.fromkeys((need for figure in figures().values() for need in figure.needs), True)
    records = stored_records(named, dataset, model, method, threshold, tag, **needs)
    stored = ResultSet(records, claimed=resultsets.claims(named))
    if stored.only(method=selection.method).runs.empty:
        return nothing(named)
    stored.studies, damaged = resultsets.studies(named)
    for sentence in damaged:
        message(sentence)
    path = output or named[0].folder / "report.html"
    report.write(report.render(stored, selection), path)
    answer(str(path))
    return OK


def list_runs(named: list[Source], as_json: bool, tag: str | None = None) -> int:
    records = stored_records(named, None, None, tag=tag)
    if not records:
        return nothing(named)
    if not as_json:
        answer(curve_table(records))
        return OK

    contents = [content_of(record) | ({"set": record.set} if record.set else {}) for record in records]
    answer(json.dumps(contents, indent=2, ensure_ascii=False))
    return OK
