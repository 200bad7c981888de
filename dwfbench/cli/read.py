"""The commands that read results: compare, plot and report, and the list of runs."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dwfbench.base.errors import UsageError
from dwfbench.cli.app import NOTHING, OK, SETTINGS, guarded, message
from dwfbench.cli.help import Command, examples
from dwfbench.cli.sources import RESULTS, Cut, Debug, Listed, ResultSets, nothing, places, sets_of, stored_records
from dwfbench.cli.tables import curve_table
from dwfbench.cli.values import names, numbers, one_of, pair
from dwfbench.runs import resultsets, spec
from dwfbench.runs.record import content_of
from dwfbench.runs.resultsets import Source
from dwfbench.runs.store import replace

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
        str | None, typer.Option(help="instead: differences to this curve (label, or method of one label), tested")
    ] = None,
    area: Annotated[str | None, typer.Option(help="lowest,highest CR of the area under the curve")] = None,
    dataset: Listed = None,
    model: Listed = None,
    method: Listed = None,
    threshold: Cut = None,
    format: Annotated[str, typer.Option(help="table, markdown, latex, csv or json")] = "table",
    debug: Debug = False,
) -> int:
    """Accuracy at matched compression, compression at tolerance, area under the curve; a row a curve."""
    from dwfbench.analysis import curves
    from dwfbench.analysis.resultset import ResultSet
    from dwfbench.show import tables

    one_of(format, "format", tables.FORMATS)
    one_of(reading, "reading", tables.READINGS)
    ratios, tolerances = numbers(at, "at"), numbers(tolerance, "tolerance")
    span = None if area is None else pair(area, "area")
    if any(not value >= 1 for value in ratios):
        raise UsageError("--at takes compression ratios of at least 1.")
    if any(not 0 <= value <= 100 for value in tolerances):
        raise UsageError("--tolerance takes values from 0 to 100.")
    if span is not None and not 1 <= span[0] < span[1]:
        raise UsageError("--area takes two compression ratios, the smaller first.")
    named = sets_of(results)
    stored = ResultSet(stored_records(named, dataset, model, threshold))
    frame, (low, high) = stored.runs, span or (None, None)
    if frame.empty:
        return nothing(named)
    cautions = curves.warnings(frame, stored.failures)
    if versus is None:
        table = tables.compare(stored, ratios, tolerances, reading, method=names(method), low=low, high=high)
        caption = tables.compare_caption(reading)
    else:
        label = curves.label_of(frame, versus)
        shown = frame if method is None else frame[curves.of_methods(frame, names(method)) | (frame["label"] == label)]
        found = curves.differences(shown, label, ratios, low, high)
        if found.empty:
            message(f"There is no other sparse curve here to compare with {label}.")
            return NOTHING
        cautions += curves.pair_warnings(shown, found, label)
        table, caption = tables.versus(found), tables.versus_caption(found, label)
    if table.empty:
        return nothing(named)
    for line in cautions:
        message(line)
    typer.echo(tables.render(table, format).rstrip("\n"))
    typer.echo(f"\n{caption}" if format == "table" else caption, err=format != "table")
    return OK


@app.command(
    "plot",
    cls=Command,
    epilog=examples(
        "dwfbench plot -o accuracy.pdf",
        "dwfbench plot dynamics --method dwf,l1",
        "dwfbench plot weights --compression 30",
    ),
)
@guarded
def plot(
    kind: Annotated[str, typer.Argument(help="accuracy, layers, dynamics, weights or latency")] = "accuracy",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="PNG, SVG or PDF [default: RESULTS/KIND.png]")
    ] = None,
    results: ResultSets = RESULTS,
    dataset: Listed = None,
    model: Listed = None,
    method: Listed = None,
    threshold: Cut = None,
    compression: Annotated[
        float | None, typer.Option(help="of weights: show the runs with a CR nearest to this [default: 100]")
    ] = None,
    debug: Debug = False,
) -> int:
    """Draw accuracy against compression, layers' density, training's dynamics, weights' sizes, or measured speed-up."""
    kinds = ("accuracy", "layers", "dynamics", "weights", "latency")
    if kind not in kinds:
        raise UsageError(f"There is no plot {kind!r}{spec.nearest(kind, kinds)} Choose one of {', '.join(kinds)}.")
    from dwfbench.analysis.frames import of_methods
    from dwfbench.analysis.resultset import ResultSet
    from dwfbench.show import figures

    if threshold is not None and kind != "accuracy":
        raise UsageError(f"--threshold recounts the accuracy plot only, not {kind}.")
    if compression is not None and kind != "weights":
        raise UsageError(f"--compression chooses the runs of the weights plot only, not of {kind}.")
    ratio = 100.0 if compression is None else compression
    if not (math.isfinite(ratio) and ratio >= 1):
        raise UsageError(f"--compression takes a finite compression ratio of at least 1, not {ratio:g}.")
    over_epochs = kind in ("dynamics", "weights")
    named = sets_of(results)
    stored = ResultSet(stored_records(named, dataset, model, threshold, over_epochs, over_epochs, kind == "latency"))
    make: dict[str, Callable[[], Any]] = {
        "accuracy": lambda: stored.runs,
        "layers": lambda: stored.layers,
        "dynamics": lambda: stored.history,
        "weights": lambda: stored.weights(ratio),
        "latency": lambda: stored.latency,
    }

    def asked_for(table):
        return table if method is None else table[of_methods(table, names(method))]

    frame = asked_for(make[kind]())
    if kind == "layers":  # a dense network's layers are dense
        frame = frame[frame["method"] != "dense"]
    if frame.empty and kind == "weights":
        message(
            f"No finished run in {places(named)} that fits has a strength and a record of its weights (weights.csv, "
            "which older runs lack); `dwfbench run --force` trains them again."
        )
        return NOTHING
    if frame.empty and kind == "latency":
        message(
            f"No finished run in {places(named)} that fits was measured; `dwfbench measure RUN` measures those that "
            "were trained with --save-model."
        )
        return NOTHING
    if frame.empty:
        return nothing(named)
    path = output or named[0].folder / f"{kind}.png"
    phases = asked_for(stored.phases) if kind == "dynamics" else None
    written = [path]
    try:
        getattr(figures, kind)(frame, path)
        if phases is not None and not phases.empty:
            written.append(path.with_suffix(".csv"))
            replace(written[-1], phases.to_csv(index=False, lineterminator="\n").encode())
    except OSError as error:
        raise UsageError(f"{written[-1]} cannot be written ({error.strerror or error}).") from None
    for path in written:
        typer.echo(str(path))
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
    dataset: Listed = None,
    model: Listed = None,
    method: Listed = None,
    threshold: Cut = None,
    debug: Debug = False,
) -> int:
    """Write charts, tables, cautions, failures and provenance as one HTML file that opens without a network."""
    from dwfbench.analysis.resultset import ResultSet
    from dwfbench.show import report

    named = sets_of(results)
    selection = report.Selection(tuple(results), names(dataset), names(model), names(method), threshold)
    records = stored_records(named, dataset, model, threshold, history=True)
    stored = ResultSet(records)
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
