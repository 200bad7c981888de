"""The commands that read results: compare, plot and report, and the list of runs."""

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dwfbench.base.errors import UsageError
from dwfbench.base.files import replace
from dwfbench.cli.app import NOTHING, OK, SETTINGS, guarded, message
from dwfbench.cli.help import Command, examples
from dwfbench.cli.options import option, with_flags
from dwfbench.cli.sources import RESULTS, Cut, Debug, Listed, ResultSets, nothing, places, stored_records
from dwfbench.cli.tables import curve_table
from dwfbench.cli.values import names, numbers, one_of, pair
from dwfbench.runs import resultsets, spec
from dwfbench.runs.record import content_of
from dwfbench.runs.resultsets import Source
from dwfbench.runs.store import uncollected
from dwfbench.show.figures import Figure, figures

if TYPE_CHECKING:
    from dwfbench.analysis.resultset import ResultSet

app = typer.Typer(**SETTINGS)


@app.command(
    "compare",
    cls=Command,
    epilog=examples(
        "dwfbench compare --at 10,30,100 --tolerance 1,5",
        "dwfbench compare --versus magnitude",
        "dwfbench compare --results mine --results theirs.zip --format json",
    ),
)
@guarded
@uncollected()
def compare(
    results: ResultSets = RESULTS,
    at: Annotated[str, typer.Option(help="compression ratios to compare at")] = "2,5,10,30,100,300",
    tolerance: Annotated[
        str, typer.Option(help="losses of accuracy against dense, for the largest CR within")
    ] = "1,5,10",
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
    sort: Annotated[
        str | None,
        typer.Option(help='order of rows: "CR 100", Area, ... (falling) or Method [default: Area if all have one]'),
    ] = None,
    dataset: Listed = None,
    model: Listed = None,
    method: Listed = None,
    threshold: Cut = None,
    format: Annotated[str, typer.Option(help="table, markdown, latex, csv or json")] = "table",
    debug: Debug = False,
) -> int:
    """Accuracy at matched compression, compression at tolerance, area under the curve; a row a curve."""
    from dwfbench.analysis.resultset import ResultSet
    from dwfbench.show import comparison, tables

    one_of(format, "format", tables.FORMATS)
    asked = comparison.Asked(
        compression_ratios(at),
        tolerances_of(tolerance),
        one_of(reading, "reading", tables.READINGS),
        None if area is None else area_range(area),
        gap(max_gap),
        names(method),
        sort,
    )
    named = resultsets.sources(results)
    stored = ResultSet(stored_records(named, dataset, model, threshold))
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
    typer.echo(tables.render(made.table, format).rstrip("\n"))
    for line in (f"\n{made.caption}" if format == "table" else made.caption, *made.closing):
        typer.echo(line, err=format != "table")
    return OK


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


ALL = "all"


def figure_flags() -> dict[str, tuple[Any, Any]]:
    """The options of the figures as flags, each with the figures that have it; their values are checked by these."""
    owners: dict[str, list[str]] = {}
    items: dict[str, Any] = {}
    for name, kind in figures().items():
        for item in fields(kind):
            owners.setdefault(item.name, []).append(name)
            items[item.name] = item
    return {
        name: option(item.type | None, f"of {', '.join(owners[name])}: {described(item)}")
        for name, item in items.items()
    }


def described(item: Any) -> str:
    """What the help says of a figure's option."""
    choices = f": {', '.join(item.metadata['choices'])}" if item.metadata["choices"] else ""
    default = {True: "yes", False: "no"}[item.default] if item.type is bool else item.default
    return f"{item.metadata['help']}{choices} [default: {default}]"


@app.command(
    "claims",
    cls=Command,
    epilog=examples("dwfbench claims", "dwfbench claims --results theirs.zip --format markdown"),
)
@guarded
@uncollected()
def claims(
    results: ResultSets = RESULTS,
    dataset: Listed = None,
    model: Listed = None,
    threshold: Cut = None,
    format: Annotated[str, typer.Option(help="table, markdown, latex, csv or json")] = "table",
    debug: Debug = False,
) -> int:
    """Verdicts on claims: supported, contradicted, undecided (and how many seeds would decide) or not run.

    The claims are the paper's, which come with dwfbench, and those of a claims.toml in a results folder or archive.
    Each is one paired test over seeds, for every data set, model and budget of epochs.
    """
    from dwfbench.analysis import cautions
    from dwfbench.analysis.resultset import ResultSet
    from dwfbench.show import tables, verdicts

    one_of(format, "format", tables.FORMATS)
    named = resultsets.sources(results)
    stored = ResultSet(stored_records(named, dataset, model, threshold), claimed=resultsets.claims(named))
    if stored.runs.empty:
        return nothing(named)
    for line in cautions.warnings(stored.runs, stored.failures):
        message(line)
    table = stored.claims()
    typer.echo(tables.render(table, format, verdicts.cells).rstrip("\n"))
    for line in ("", *verdicts.notes(table)):
        typer.echo(line, err=format != "table")
    return OK


@app.command(
    "plot",
    cls=Command,
    epilog=examples(
        "dwfbench plot -o accuracy.pdf",
        "dwfbench plot dynamics --method dwf,l1",
        "dwfbench plot weights --compression 30",
        "dwfbench plot all --results theirs.zip",
        note="\b\n" + "\n".join(["Figures:", *(f"  {name:<12}{kind.summary}" for name, kind in figures().items())]),
    ),
)
@guarded
@with_flags(figure_flags())
def plot(
    kind: Annotated[
        str, typer.Argument(metavar="FIGURE", help="what to draw, or all that the runs allow")
    ] = "accuracy",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="PNG, SVG or PDF [default: RESULTS/FIGURE.png]")
    ] = None,
    results: ResultSets = RESULTS,
    dataset: Listed = None,
    model: Listed = None,
    method: Listed = None,
    threshold: Cut = None,
    debug: Debug = False,
    **given: Any,
) -> int:
    """Draw stored runs: accuracy against compression, or another figure."""
    chosen = chosen_figures(kind, {name: value for name, value in given.items() if value is not None})
    if threshold is not None and not all(figure.recounts() for figure in chosen):
        recounted = ", ".join(name for name, known in figures().items() if known().recounts())
        raise UsageError(f"--threshold recounts the plot {recounted}, with its default axis, and no other.")
    if output is not None and kind == ALL:
        raise UsageError("--output names the file of one figure; leave it out with all.")
    from dwfbench.analysis.resultset import ResultSet

    named = resultsets.sources(results)
    needs = dict.fromkeys((need for figure in chosen for need in figure.needs), True)
    stored = ResultSet(stored_records(named, dataset, model, threshold, **needs)).only(method=names(method))
    written = [path for figure in chosen for path in draw(figure, stored, output, named)]
    return OK if written else NOTHING


def chosen_figures(kind: str, given: dict[str, Any]) -> list[Figure]:
    """The figures of a name, with the options that were given for them."""
    known = figures()
    if kind not in (*known, ALL):
        choices = (*known, ALL)
        raise UsageError(f"There is no plot {kind!r}{spec.nearest(kind, choices)} Choose one of {', '.join(choices)}.")
    taken = {name: {item.name for item in fields(figure)} for name, figure in known.items()}
    for flag in given:
        owners = [name for name in known if flag in taken[name]]
        if kind not in (*owners, ALL):
            raise UsageError(f"--{flag.replace('_', '-')} is an option of {', '.join(owners)}, not of {kind}.")
    chosen = known if kind == ALL else {kind: known[kind]}
    return [
        figure(**{flag: value for flag, value in given.items() if flag in taken[name]})
        for name, figure in chosen.items()
    ]


def draw(figure: Figure, stored: "ResultSet", output: Path | None, named: list[Source]) -> list[Path]:
    """The files of a figure, written and named on stdout; none, with a reason on stderr, where nothing can be drawn."""
    from dwfbench.show import mpl, tables

    frame = figure.frame(stored)
    if frame.empty:
        if figure.absent():
            message(f"No finished run in {places(named)} that fits {figure.absent()}")
        else:
            nothing(named)
        return []
    path = output or named[0].folder / f"{figure.name}.png"
    written = [path]
    try:
        mpl.write(figure.draw(frame), path)
        for ending, table in figure.tables(stored).items():
            written.append(path.with_suffix(ending))
            replace(written[-1], tables.csv(table).encode())
    except OSError as error:
        raise UsageError(f"{written[-1]} cannot be written ({error.strerror or error}).") from None
    for path in written:
        typer.echo(str(path))
    return written


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
    dataset: Listed = None,
    model: Listed = None,
    method: Listed = None,
    threshold: Cut = None,
    debug: Debug = False,
) -> int:
    """Write verdicts, charts, tables, failures and provenance as one HTML file that opens without a network."""
    from dwfbench.analysis.resultset import ResultSet
    from dwfbench.show import report

    named = resultsets.sources(results)
    selection = report.Selection(tuple(results), names(dataset), names(model), names(method), threshold)
    needs = dict.fromkeys((need for figure in figures().values() for need in figure.needs), True)
    records = stored_records(named, dataset, model, threshold, **needs)
    stored = ResultSet(records, claimed=resultsets.claims(named))
    if stored.only(method=selection.method).runs.empty:
        return nothing(named)
    stored.studies, damaged = resultsets.studies(named)
    for sentence in damaged:
        message(sentence)
    path = output or named[0].folder / "report.html"
    report.write(report.render(stored, selection), path)
    typer.echo(str(path))
    return OK


def list_runs(named: list[Source], as_json: bool) -> int:
    records = stored_records(named, None, None)
    if not records:
        return nothing(named)
    if not as_json:
        typer.echo(curve_table(records))
        return OK

    contents = [content_of(record) | ({"set": record.set} if record.set else {}) for record in records]
    typer.echo(json.dumps(contents, indent=2, ensure_ascii=False))
    return OK
