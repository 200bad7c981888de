"""The commands that read results: compare, claims and report, and the list of runs; plot has a file of its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import to_builtins

from dwfbench.base.errors import UsageError
from dwfbench.base.streams import answer, beside
from dwfbench.cli.app import NOTHING, OK, SETTINGS, guarded, message
from dwfbench.cli.help import TEXT, Command, examples
from dwfbench.cli.options import flags_of, with_flags
from dwfbench.cli.sources import SELECTING, Debug, Format, nothing, records_of, selected
from dwfbench.cli.tables import curve_table, study_table
from dwfbench.cli.values import numbers, one_of, pair
from dwfbench.runs import resultsets
from dwfbench.runs.record import content_of
from dwfbench.runs.selection import Selection
from dwfbench.runs.spec import from_given
from dwfbench.show.typeset import Sheet

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
@with_flags(SELECTING | flags_of(Sheet, TEXT))
def compare(
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
    format: Format = "table",
    best: Annotated[
        str, typer.Option(help="how the best of a column is marked: none or bold", rich_help_panel=TEXT)
    ] = "none",
    debug: Debug = False,
    **flags: Any,
) -> int:
    """Accuracy at matched compression, compression at tolerance, area under the curve; a row a curve."""
    from dwfbench.analysis.axes import AXES
    from dwfbench.analysis.resultset import ResultSet
    from dwfbench.show import comparison, tables, typeset

    one_of(format, "format", tables.FORMATS)
    one_of(best, "best", ("none", "bold"))
    sheet, selection = sheet_of(flags, format), selected(flags)
    question = tables.Question(
        numbers(at, "at"),
        numbers(tolerance, "tolerance"),
        one_of(reading, "reading", tables.READINGS),
        None if area is None else pair(area, "area"),
        max_gap,
        selection.method,
        sort,
        one_of(axis, "axis", AXES),
    )
    if selection.threshold is not None and question.axis != "compression":
        raise UsageError(
            f"--threshold recounts the compression ratio, not --axis {question.axis}; leave one of them out."
        )
    stored = ResultSet(records_of(selection))
    if stored.runs.empty:
        return nothing(selection, stored.records.values())
    compared = comparison.compare(stored, question) if versus is None else comparison.versus(stored, versus, question)
    if compared.table.empty and versus is not None:
        message(f"There is no other sparse curve here to compare with {versus}.")
        return NOTHING
    if compared.table.empty:
        return nothing(selection, stored.records.values())
    for line in compared.cautions:
        message(line)
    marks = tables.marks(compared.table, compared.best) if best == "bold" and format in tables.BOLD else {}
    captions = [compared.caption, *([tables.marks_caption(format, versus is None)] if marks else [])]
    sheet = typeset.captioned(sheet, [compared.heading, *captions])
    answer(tables.render(compared.table, format, sheet=sheet, marks=marks, score=compared.score).rstrip("\n"))
    for line in (*([""] if format == "table" else []), " ".join(captions), *compared.closing):
        beside(format, line)
    return OK


def sheet_of(flags: Mapping[str, Any], format: str) -> Sheet:
    """What is asked of a table as text. UsageError for what the format has none of."""
    for flag in ("caption", "label"):
        if flags[flag] is not None and format != "latex":
            raise UsageError(f"--{flag} is of a LaTeX table: add --format latex, or leave it out.")
    return from_given(Sheet, flags)


@app.command(
    "claims",
    cls=Command,
    epilog=examples("dwfbench claims", "dwfbench claims --results theirs.zip --format markdown"),
)
@guarded
@with_flags({name: flag for name, flag in SELECTING.items() if name != "method"} | flags_of(Sheet, TEXT))
def claims(format: Format = "table", debug: Debug = False, **flags: Any) -> int:
    """Verdicts on claims: supported, contradicted, undecided (and how many seeds would decide) or not run.

    The claims are the paper's, which come with dwfbench, and those of a claims.toml in a results folder or archive.
    Each is one paired test over seeds, for every data set, model and budget of epochs.
    """
    from dwfbench.analysis import cautions
    from dwfbench.analysis.resultset import ResultSet
    from dwfbench.show import tables, typeset, verdicts

    one_of(format, "format", tables.FORMATS)
    sheet = typeset.captioned(sheet_of(flags, format), [verdicts.TEST])
    selection = selected(flags)
    stored = ResultSet(records_of(selection), claimed=resultsets.claims(selection.sources))
    if stored.runs.empty:
        return nothing(selection, stored.records.values())
    for line in cautions.warnings(stored.runs, stored.failures):
        message(line)
    table = stored.claims()
    answer(tables.render(table, format, verdicts.cells, sheet).rstrip("\n"))
    for line in ("", *verdicts.notes(table)):
        beside(format, line)
    return OK


@app.command(
    "report",
    cls=Command,
    epilog=examples("dwfbench report", "dwfbench report --results theirs.zip --dataset fashion-mnist -o theirs.html"),
)
@guarded
@with_flags(SELECTING)
def report(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file [default: RESULTS/report.html]")
    ] = None,
    at: At = AT,
    tolerance: Tolerance = TOLERANCES,
    versus: Annotated[
        str | None, typer.Option(help="show differences to this curve, too (label, or method of one label)")
    ] = None,
    debug: Debug = False,
    **flags: Any,
) -> int:
    """Write verdicts, charts, tables, failures and provenance as one HTML file that opens without a network."""
    from dwfbench.analysis.resultset import ResultSet
    from dwfbench.show import report
    from dwfbench.show.figures import figures
    from dwfbench.show.tables import Question

    if output is not None and output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"A report is an HTML file: {output} must end in .html.")
    selection, question = selected(flags), Question(numbers(at, "at"), numbers(tolerance, "tolerance"))
    records = records_of(selection, {need for figure in figures().values() for need in figure.needs})
    stored = ResultSet(records, claimed=resultsets.claims(selection.sources))
    if stored.only(method=selection.method).runs.empty:
        return nothing(selection, records)
    stored.studies, damaged = resultsets.studies(selection.sources)
    for sentence in damaged:
        message(sentence)
    path = output or selection.sources[0].folder / "report.html"
    report.write(report.render(stored, selection, question, versus), path)
    answer(str(path))
    return OK


def list_runs(selection: Selection, as_json: bool) -> int:
    records = records_of(selection)
    if not records:
        return nothing(selection)
    if not as_json:
        answer(curve_table(records))
        return OK

    contents = [content_of(record) | ({"set": record.set} if record.set else {}) for record in records]
    answer(json.dumps(contents, indent=2, ensure_ascii=False))
    return OK


def list_studies(selection: Selection, as_json: bool) -> int:
    studies, damaged = resultsets.studies(selection.sources)
    for sentence in damaged:
        message(sentence)
    if not studies:
        message(f"There is no tuning in {selection.places}; `dwfbench tune` makes some.")
        return NOTHING
    answer(json.dumps(to_builtins(studies), indent=2, ensure_ascii=False) if as_json else study_table(studies))
    return OK
