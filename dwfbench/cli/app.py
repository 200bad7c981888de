"""The command line: parses, calls, renders. Torch and pandas are imported by the commands that need them.

The shared flags of ``run`` are made from the fields of RunSpec. A method's options are flags too: they are read
from what is left of the command line and checked against the chosen methods, so that a plug-in's options work as
our own do.
"""

import functools
import inspect
import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dwfbench.base.errors import UsageError
from dwfbench.base.text import short
from dwfbench.cli import options
from dwfbench.cli.options import names, numbers
from dwfbench.runs import spec

if TYPE_CHECKING:
    from dwfbench.runs.resultsets import Source

app = typer.Typer(
    name="dwfbench",
    help="Deep Weight Factorization and pruning baselines, compared at equal budgets.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

OK, SOME_FAILED, USAGE, NOTHING, INTERRUPTED = 0, 1, 2, 3, 130

Results = Annotated[Path, typer.Option("--results", help="folder of the run records")]
ResultSets = Annotated[
    list[str],
    typer.Option(
        "--results", metavar="[LABEL=]PATH", help="folder or archive of run records; several are compared as one"
    ),
]
RESULTS = ["results"]
Debug = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]
Cut = Annotated[float | None, typer.Option(help="count weights below this as zero, as recorded [default: as trained]")]
Listed = Annotated[str | None, typer.Option(help="only these, separated by commas")]


def message(text: str) -> None:
    typer.echo(text, err=True)


def guarded(command: Callable) -> Callable:
    """Errors as one sentence on stderr and an exit code; the traceback only with --debug."""

    @functools.wraps(command)
    def wrapper(*args, **kwargs):
        try:
            code = command(*args, **kwargs)
        except KeyboardInterrupt:
            message("Interrupted; finished runs are kept, and the same command goes on from there.")
            code = INTERRUPTED
        except BrokenPipeError:  # e.g. `dwfbench compare | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = OK
        except UsageError as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            message(f"Error: {error}")
            code = USAGE
        except Exception as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            message(f"Error: {type(error).__name__}: {error} (an unexpected failure; --debug shows where).")
            code = SOME_FAILED
        raise typer.Exit(code or OK)

    return wrapper


# ---------------------------------------------------------------- run, tune, verify


def with_flags(flags: dict[str, tuple[Any, Any]]) -> Callable:
    """Adds flags, as ``options.flags()`` describes them, to a command that takes them as ``**given``."""

    def changed(command: Callable) -> Callable:
        signature = inspect.signature(command)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        made = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in flags.items()
        ]
        described: Any = command
        described.__signature__ = signature.replace(parameters=[*own, *made])
        command.__annotations__ = {p.name: p.annotation for p in [*own, *made]}
        return command

    return changed


FREE = {"allow_extra_args": True, "ignore_unknown_options": True}
EPILOG = (
    "A method's own options (--depth 2,3,4, --proximal, --distribution erk, ...) are flags too, and may be "
    "lists; `dwfbench list methods` shows them. The recipe of the model and data set gives what you leave out. "
    "Code of others runs only where you name it: a method as file.py:Class, a network as pkg.module:callable or "
    "file.py:callable, or a package that you installed."
)


@app.command(context_settings=FREE, epilog=EPILOG)
@guarded
@with_flags(options.flags())
def run(
    context: typer.Context,
    *,
    tuned: Annotated[bool, typer.Option("--tuned", help="with the settings that won `dwfbench tune`")] = False,
    save_model: Annotated[bool, typer.Option("--save-model", help="store the sparse networks as safetensors")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be trained, and the time")] = False,
    force: Annotated[bool, typer.Option("--force", help="train stored runs again")] = False,
    debug: Debug = False,
    **given: Any,
) -> int:
    """Train the runs of one or more curves; runs that are stored already are skipped."""
    if tuned and given["lr"] is not None:
        raise UsageError("Give either --lr or --tuned, which chooses it.")
    asked = options.read(given, context.args, save_model)

    from dwfbench.cli.progress import Reporter
    from dwfbench.experiments import estimate, plan
    from dwfbench.experiments import run as runner
    from dwfbench.runs.store import Store

    if tuned:
        from dwfbench.experiments import tune as tuning

        folder = asked.results / "tuning"
        curves = [tuning.tuned(request, asked.dataset, folder) for request in asked.requests]
    else:
        curves = [plan.curve(request, asked.dataset) for request in asked.requests]
    store = Store(asked.results)
    if dry_run:
        todo = [runner.pending(curve, store, asked.dataset, force) for curve in curves]
        typer.echo(plan_table(curves, store, force))
        typer.echo(estimate.sentence(curves, todo, asked.dataset, asked.engine))
        return OK
    for curve in curves:
        if note := plan.budget_note(curve):
            message(note)
    store.prepare()
    with Reporter() as reporter, asked.stopping():
        curves, outcome = runner.execute_to_targets(curves, asked.dataset, store, asked.engine, reporter, force)
    for sentence in store.damaged:
        message(sentence)
    wanted = {one.id for curve in curves for one in curve.specs}
    typer.echo(curve_table([record for record in store.load() if record["id"] in wanted]))
    bad = [status for status in outcome.values() if status != "ok"]
    if bad:
        message(f"{len(bad)} of {len(outcome)} runs did not end well; they are kept in {asked.results / 'failed'}.")
    return SOME_FAILED if bad else OK


@app.command(context_settings=FREE, epilog=EPILOG)
@guarded
@with_flags(options.flags())
def tune(
    context: typer.Context,
    *,
    trials: Annotated[int, typer.Option(help="trials a method, the same number for all")] = 6,
    lr_range: Annotated[str, typer.Option(help="lowest,highest learning rate to try")] = "0.03,0.5",
    area: Annotated[
        str | None, typer.Option(help="lowest,highest CR of the objective [default: of --compression]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a study of another budget")] = False,
    debug: Debug = False,
    **given: Any,
) -> int:
    """Choose the learning rate, and what else a method declares, on the validation part with equal budgets.

    Every trial is a short curve at the compression ratios of --compression [default: 5,40,300], with --max-runs
    strengths at most [default: 5] where a method is turned by a strength. `dwfbench run --tuned` takes the winner.
    """
    if given["lr"] is not None:
        raise UsageError("--lr is what tuning chooses; give --lr-range.")
    asked = options.read(given, context.args)

    from dwfbench.cli.progress import Reporter
    from dwfbench.experiments import tune as tuning
    from dwfbench.training import assess

    requests = [tuning.short(request) for request in asked.requests]
    ratios = [ratio for request in requests for ratio in request.settings["compression"]]
    span = (min(ratios), max(ratios)) if area is None else options.pair(area, "area")
    budget = tuning.Budget(trials, options.pair(lr_range, "lr-range"), span)
    source = {**assess.environment(asked.engine.here, asked.engine.threads), "argv": list(asked.engine.argv)}
    folder = asked.results / "tuning"
    with Reporter() as reporter, asked.stopping():
        studies = tuning.tune(requests, budget, asked.dataset, folder, asked.engine, reporter, source, force)
    typer.echo(study_table(studies))
    typer.echo(f"\nval %: {studies[0]['objective']}, in percent; * won. `dwfbench run --tuned` takes it.")
    if any(len(study["budget"]["seeds"]) == 1 for study in studies):
        message("With one seed a learning rate at the edge of stability may win by luck; --seeds 2 or more tell.")
    for study in studies:
        if edge := tuning.at_edge(study):
            message(f"{study['label']}: the {edge} learning rate won; a wider --lr-range may find a better one.")
    return OK


@app.command()
@guarded
@with_flags({name: flag for name, flag in options.engine_flags().items() if name != "results"})
def verify(
    *,
    results: ResultSets = RESULTS,
    runs: Annotated[int, typer.Option(min=1, help="how many of the stored runs, drawn at random")] = 4,
    draw: Annotated[int, typer.Option(help="seed of the draw")] = 0,
    model: Annotated[str | None, typer.Option(help="only of this network; needed where it is code of your own")] = None,
    debug: Debug = False,
    **given: Any,
) -> int:
    """Train some of the stored runs again, from their records alone, and compare; nothing stored is touched.

    Agreement is a test accuracy within 1 point and a compression within 10 %, or within three times the range of the
    same setting's seeds where that is wider. On the same machine and versions the numbers should be equal.
    """
    named = sets_of(results)
    records = stored_records(named, None, None)
    if model is not None:
        from dwfbench import models

        records = [record for record in records if record["spec"]["model"] == models.identity(model)]
    engine = options.engine_of({**given, "results": Path()})

    import tempfile
    from dataclasses import replace

    from dwfbench.cli.progress import Reporter
    from dwfbench.experiments import verify as verification
    from dwfbench.runs.store import Store

    chosen = verification.sample(records, runs, draw)
    if not chosen:
        return nothing(named)
    with tempfile.TemporaryDirectory() as folder, Reporter() as reporter:
        found = verification.verify(
            records, chosen, given["data_dir"], Store(folder), replace(engine, checkpoints=None), reporter, model
        )
    typer.echo(verification_table(found))
    bad = sum(not one.agrees for one in found)
    if bad:
        message(f"{bad} of {len(found)} runs came out differently.")
    return SOME_FAILED if bad else OK


def verification_table(found: list) -> str:
    rows = [["method", "seed", "CR", "again", "test %", "again", "allowed", "", "id"]]
    for one in found:
        first, again = one.record, one.again
        ok = again["status"] == "ok"
        rows.append(
            [first["label"], str(first["spec"]["seed"]), short(first["compression"], 4),
             short(again["compression"], 4) if ok else "-", f"{100 * first['test_accuracy']:.2f}",
             f"{100 * again['test_accuracy']:.2f}" if ok else again["status"], f"±{one.points:.2f}, x{one.ratio:.2f}",
             "agrees" if one.agrees else "DIFFERS", first["id"]]
        )  # fmt: skip
    return aligned(rows)


def study_table(studies: list[dict]) -> str:
    rows = [["method", "trial", "val %", "runs", "bad", ""]]
    for study in studies:
        for number, trial in enumerate(study["trials"]):
            values = ", ".join(f"{name}={value:g}" for name, value in trial["values"].items())
            best = "*" if number == study["best"] else ""
            percent = f"{100 * trial['value']:.2f}"
            rows.append([study["label"], values, percent, str(len(trial["runs"])), str(trial["bad"]), best])
    return aligned(rows)


def plan_table(curves: list, store, force: bool) -> str:
    rows = [["id", "method", "knob", "seed", "epochs", "lr", "decay budget", "stored"]]
    for curve in curves:
        for one in curve.specs:
            budget = curve.budget(one)
            knob = f"{curve.method.knob} {short(one.knob, 4)}" if curve.method.knob else "-"
            stored = store.status(one.id) or "no"
            rows.append(
                [one.id, curve.method.label(), knob, str(one.seed), str(one.epochs), f"{one.lr:g}",
                 "-" if budget is None else f"{budget:.1f}", f"{stored}, again" if force and stored == "ok" else stored]
            )  # fmt: skip
    count = len(rows) - 1
    return f"{aligned(rows)}\n\n{count} runs. Decay budget: strength x sum of learning rates / (1 - momentum)."


def curve_table(records: list[dict]) -> str:
    """What a run ends with: every run of the curves asked for, failed ones too, in the order of CR."""
    rows = [["method", "knob", "seed", "CR", "test %", "val %", "effective CR", "s", "status", "id"]]

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.2f}"

    def ratio(value: float | None) -> str:
        return "-" if value is None else short(value, 4)

    for record in sorted(records, key=lambda r: (r["label"], r["spec"]["seed"], r["spec"].get(r["knob"]) or 0)):
        knob = f"{record['knob']} {short(record['spec'][record['knob']], 4)}" if record["knob"] else "-"
        rows.append(
            [record["label"], knob, str(record["spec"]["seed"]), ratio(record.get("compression")),
             percent(record.get("test_accuracy")), percent(record.get("val_accuracy")),
             ratio(record.get("effective_compression")), f"{record['seconds']:.1f}", record["status"], record["id"]]
        )  # fmt: skip
    return aligned(rows)


def aligned(rows: list[list[str]]) -> str:
    from dwfbench.show import tables

    return tables.aligned(rows)


# ---------------------------------------------------------------- compare, plot


def sets_of(texts: list[str]) -> "list[Source]":
    from dwfbench.runs import resultsets

    return resultsets.sources(texts)


def stored_records(
    named: "list[Source]",
    dataset,
    model,
    threshold: float | None = None,
    history: bool = False,
    weights: bool = False,
    measurement: bool = False,
) -> list[dict]:
    """Records of the result sets that pass the filters; damaged ones are named on stderr.

    Commands filter by method later: labels and the dense reference come from all methods' runs.
    """
    from dwfbench.analysis import curves
    from dwfbench.runs import resultsets

    records, damaged = resultsets.load(named, history, weights, measurement)
    for sentence in damaged:
        message(sentence)
    records = curves.filter_records(records, names(dataset), names(model))
    return records if threshold is None else curves.counted_at(records, threshold)


def places(named: "list[Source]") -> str:
    return " and ".join(str(source.path) for source in named)


def nothing(named: "list[Source]") -> int:
    message(f"No finished run in {places(named)} fits; train some with `dwfbench run`.")
    return NOTHING


@app.command()
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
    from dwfbench.show import tables

    if format not in tables.FORMATS:
        raise UsageError(f"--format must be one of {', '.join(tables.FORMATS)}, not {format!r}.")
    if reading not in tables.READINGS:
        raise UsageError(f"--reading must be one of {', '.join(tables.READINGS)}, not {reading!r}.")
    ratios, tolerances = numbers(at, "at"), numbers(tolerance, "tolerance")
    span = None if area is None else options.pair(area, "area")
    if any(not value >= 1 for value in ratios):
        raise UsageError("--at takes compression ratios of at least 1.")
    if any(not 0 <= value <= 100 for value in tolerances):
        raise UsageError("--tolerance takes values from 0 to 100.")
    if span is not None and not 1 <= span[0] < span[1]:
        raise UsageError("--area takes two compression ratios, the smaller first.")
    named = sets_of(results)
    records = stored_records(named, dataset, model, threshold)
    frame, (low, high) = curves.frame(records), span or (None, None)
    if frame.empty:
        return nothing(named)
    cautions = curves.warnings(frame, curves.failures(records))
    if versus is None:
        table = tables.compare(records, ratios, tolerances, reading, method=names(method), low=low, high=high)
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


@app.command()
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
    from dwfbench.analysis import curves, dynamics, latency
    from dwfbench.runs.store import replace
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
    records = stored_records(named, dataset, model, threshold, over_epochs, over_epochs, kind == "latency")
    make: dict[str, Callable[[list[dict]], Any]] = {
        "accuracy": curves.frame,
        "layers": curves.layers,
        "dynamics": dynamics.histories,
        "weights": functools.partial(dynamics.weights, compression=ratio),
        "latency": latency.frame,
    }

    def asked_for(table):
        return table if method is None else table[curves.of_methods(table, names(method))]

    frame = asked_for(make[kind](records))
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
    phases = asked_for(dynamics.phases(records)) if kind == "dynamics" else None
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


@app.command()
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
    from dwfbench.analysis import curves
    from dwfbench.runs import resultsets
    from dwfbench.show import report

    named = sets_of(results)
    selection = report.Selection(tuple(results), names(dataset), names(model), names(method), threshold)
    records = stored_records(named, dataset, model, threshold, history=True)
    if curves.frame(curves.filter_records(records, method=selection.method)).empty:
        return nothing(named)
    studies, damaged = resultsets.studies(named)
    for sentence in damaged:
        message(sentence)
    path = output or named[0].folder / "report.html"
    report.write(report.render(records, selection, studies), path)
    typer.echo(str(path))
    return OK


# ---------------------------------------------------------------- pack, unpack


@app.command()
@guarded
def pack(
    sources: Annotated[list[str], typer.Argument(metavar="[LABEL=]SOURCE...", help="results folders and archives")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="SET.zip", help="the archive")],
    keep_both: Annotated[
        bool,
        typer.Option("--keep-both", help="where sources disagree about a run, keep both, the later with its label"),
    ] = False,
    debug: Debug = False,
) -> int:
    """Make one archive of results folders and archives: to keep, to send, to merge. Beside it a CSV with a row a run.

    Trials and studies of tuning, histories, and measurements go along; stored networks (--save-model) do not. Equal
    records give equal archives. Every command that reads results takes archives as it takes folders.
    """
    from dwfbench.runs import resultsets

    parts, damaged = resultsets.pack(sets_of(sources), output, keep_both)
    for sentence in damaged:
        message(sentence)
    typer.echo(contents(parts, output))
    return OK


@app.command()
@guarded
def unpack(
    archive: Annotated[str, typer.Argument(metavar="SET.zip", help="an archive that `dwfbench pack` made")],
    to: Annotated[Path, typer.Option("--to", help="results folder; what it has already stays")],
    debug: Debug = False,
) -> int:
    """Make a results folder of an archive, to train on from there. A run that the folder has otherwise is refused."""
    from dwfbench.runs import resultsets

    (source,) = sets_of([archive])
    if not source.is_archive:
        raise UsageError(f"{source.path} is a folder, not an archive.")
    parts, damaged = resultsets.unpack(source, to)
    for sentence in damaged:
        message(sentence)
    typer.echo(contents(parts, to))
    return OK


def contents(parts: dict, place: Path) -> str:
    """What an archive holds, in a sentence."""
    runs = [entry.record["status"] for part in parts.values() for entry in part.runs.values()]
    trials, studies = (sum(len(getattr(part, name)) for part in parts.values()) for name in ("trials", "studies"))
    bad = f" ({len(runs) - runs.count('ok')} of them diverged or failed)" if runs.count("ok") < len(runs) else ""
    tuning = f", {studies} tuning studies with {trials} runs" if trials or studies else ""
    apart = "".join(f"; {label} apart: {len(part.runs)} runs" for label, part in parts.items() if label)
    return f"{place}: {len(runs)} run{'s' * (len(runs) != 1)}{bad}{tuning}{apart}"


# ---------------------------------------------------------------- export, measure


Data = Annotated[Path | None, typer.Option("--data-dir", help="where data sets lie, or are downloaded to")]
Threads = Annotated[int | None, typer.Option(help="CPU threads [default: all cores]")]
Images = Annotated[str | None, typer.Option("--dataset", help="of runs on own images: their folder or archive")]
Network = Annotated[
    str | None, typer.Option("--model", help="of runs of your own network: file.py:callable or pkg.module:callable")
]


@app.command()
@guarded
def export(
    run: Annotated[
        str, typer.Argument(help="a run trained with --save-model: its id, or as much as is unique, or folder")
    ],
    to: Annotated[Path, typer.Option("--to", help="new folder for the files")],
    forms: Annotated[str, typer.Option(help="what to write, of dense, sparse, onnx and compact")] = (
        "dense,sparse,onnx,compact"
    ),
    results: Results = Path("results"),
    data_dir: Data = None,
    dataset: Images = None,
    model: Network = None,
    threads: Threads = None,
    debug: Debug = False,
) -> int:
    """Write the sparse network of a run as files: safetensors (dense, sparse), ONNX, and without its dead channels.

    Every file is loaded again and compared with the network on the whole test set; DIR/manifest.json has the sizes,
    checksums, shapes, MACs, differences and accuracies.
    """
    from dwfbench.deploy import export
    from dwfbench.experiments import stored as restore

    stored = restore.find(results, run)
    _, threads = options.hardware("cpu", threads, 1)
    data = restore.dataset_of(stored, dataset, data_dir)
    network = restore.network_of(stored, data, model)
    record = stored.record
    facts = {
        "run": stored.id,
        **{key: record["spec"][key] for key in ("dataset", "model", "method")},
        "label": record["label"],
        "normalization": {"mean": data.mean.tolist(), "std": data.std.tolist()},
    }
    inputs = data.normalize(data.test.images)
    manifest = export.export(network, inputs, to, names(forms), data.test.labels, facts)
    typer.echo(export_table(manifest))
    return OK


def export_table(manifest: dict) -> str:
    checks = {check["file"]: check for check in manifest["checks"]}
    rows = [["file", "bytes", "zlib", "largest difference", "test %"]]
    for file in manifest["files"]:
        check = checks.get(file["name"])
        percent = f"{100 * check['test_accuracy']:.2f}" if check else "-"
        difference = f"{check['max_abs_difference']:.2g}" if check else "-"
        rows.append([file["name"], f"{file['bytes']:,}", f"{file['bytes_zlib']:,}", difference, percent])
    macs = ", ".join(f"{form} {count:,}" for form, count in manifest["macs"].items())
    parameters = ", ".join(f"{form} {count:,}" for form, count in manifest["parameters"].items())
    return (
        f"{aligned(rows)}\n\nThe network itself: {100 * manifest['test_accuracy']:.2f} % of {manifest['samples']} test "
        f"images. MACs: {macs}. Parameters: {parameters}."
    )


@app.command()
@guarded
def measure(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="runs trained with --save-model: ids or folders")],
    batch: Annotated[str, typer.Option(help="batch sizes, separated by commas")] = "1,32,256",
    rounds: Annotated[int, typer.Option(min=1, help="how often each form is timed at each batch size")] = 30,
    results: Results = Path("results"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    threads: Threads = None,
    data_dir: Data = None,
    dataset: Images = None,
    model: Network = None,
    format: Annotated[str, typer.Option(help="table, markdown, latex, csv or json")] = "table",
    debug: Debug = False,
) -> int:
    """Sizes, accuracy and speed of runs on this device: dense, sparse (CSR) and without dead neurons and channels.

    The forms are timed in turns. What was measured is kept as measure.json in the run's folder, and
    `dwfbench plot latency` draws it; records are not touched.
    """
    from dwfbench.show import tables

    if format not in tables.FORMATS:
        raise UsageError(f"--format must be one of {', '.join(tables.FORMATS)}, not {format!r}.")
    sizes = numbers(batch, "batch")
    batches = [size for size in sizes if isinstance(size, int) and size >= 1]
    if len(batches) < len(sizes):
        raise UsageError("--batch takes whole numbers of at least 1.")

    from dwfbench.analysis import latency
    from dwfbench.deploy import measure
    from dwfbench.experiments import stored as restore
    from dwfbench.training import assess

    chosen = list({stored.id: stored for stored in (restore.find(results, run) for run in runs)}.values())
    place, threads = options.hardware(device, threads, 1)
    where = assess.environment(place, threads)
    found = {}
    for stored in chosen:
        data = restore.dataset_of(stored, dataset, data_dir)
        network = restore.network_of(stored, data, model)
        inputs, labels = data.normalize(data.test.images).to(place), data.test.labels.to(place)
        message(f"{stored.record['label']}, run {stored.id}: measuring")
        found[stored.id] = {"id": stored.id, **where, **measure.measure(network, inputs, labels, batches, rounds)}
        latency.write(stored.folder, found[stored.id])
    frame = latency.frame([{**stored.record, "measurement": found[stored.id]} for stored in chosen])
    typer.echo(tables.render(tables.latency(frame), format, tables.latency_cells).rstrip("\n"))
    caption = tables.latency_caption(latency.places(frame))
    typer.echo(f"\n{caption}" if format == "table" else caption, err=format != "table")
    return OK


# ---------------------------------------------------------------- list


@app.command("list")
@guarded
def list_(
    kind: Annotated[str, typer.Argument(help="methods, models, datasets, recipes or runs")],
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
    results: Annotated[
        list[str],
        typer.Option("--results", metavar="[LABEL=]PATH", help="of runs: folders or archives [default: results]"),
    ] = [],  # noqa: B006 (typer copies it)
    debug: Debug = False,
) -> int:
    """Describe the methods (with knob, options, source), models, data sets or recipes, or the stored runs."""
    kinds = {
        "methods": list_methods,
        "models": list_models,
        "datasets": list_datasets,
        "recipes": list_recipes,
    }
    if kind != "runs" and kind not in kinds:
        known = [*kinds, "runs"]
        raise UsageError(f"There is no list of {kind!r}{spec.nearest(kind, known)} Choose one of {', '.join(known)}.")
    if results and kind != "runs":
        raise UsageError(f"--results is for `dwfbench list runs`, not for {kind}.")
    if kind == "runs":
        return list_runs(sets_of(results or RESULTS), as_json)
    rows = kinds[kind]()
    typer.echo(json.dumps(rows, indent=2, ensure_ascii=False) if as_json else described(rows))
    return OK


def list_runs(named: "list[Source]", as_json: bool) -> int:
    records = stored_records(named, None, None)
    if not records:
        return nothing(named)
    typer.echo(json.dumps(records, indent=2, ensure_ascii=False) if as_json else curve_table(records))
    return OK


def list_methods() -> list[dict]:
    from dataclasses import fields

    from dwfbench.base import plugins
    from dwfbench.methods import contract

    points, refused = plugins.find("method")
    for sentence in refused.values():
        message(sentence)
    rows = []
    for name in points:
        try:
            kind = contract.load(name)
        except UsageError as error:
            message(str(error))
            continue
        rows.append(
            {
                "name": name,
                "knob": kind.knob or "none",
                "summary": kind.summary,
                "source": kind.source,
                "options": [
                    {
                        "flag": f"--{item.name.replace('_', '-')}",
                        "default": item.default,
                        "help": item.metadata["help"],
                        "choices": list(item.metadata["choices"]),
                    }
                    for item in fields(kind)
                ],
            }
        )
    return rows


def list_models() -> list[dict]:
    from dwfbench import models

    return models.describe()


def list_datasets() -> list[dict]:
    from dwfbench.data import dataset as data

    return data.describe()


def list_recipes() -> list[dict]:
    rows = []
    for name, path in spec.recipes().items():
        source = "Tanaka et al. 2020" if name.startswith("synflow-") else "dwfbench's own choice"
        rows.append({"name": name, "summary": spec.read_toml(path).get("title", ""), "source": source})
    return rows


def described(rows: list[dict]) -> str:
    """A line each, and a line for every option below it."""
    width = max(len(row["name"]) for row in rows)
    lines = []
    for row in rows:
        knob = f" [knob: {row['knob']}]" if "knob" in row else ""
        lines.append(f"{row['name']:<{width}}  {row['summary']}{knob} ({row['source']})")
        for item in row.get("options", ()):
            default = "none" if item["default"] is None else item["default"]
            choices = f" ({', '.join(item['choices'])})" if item["choices"] else ""
            lines.append(f"{'':<{width}}    {item['flag']}: {item['help']}{choices} [default: {default}]")
    return "\n".join(lines)


# ---------------------------------------------------------------- doctor


@app.command()
@guarded
def doctor(
    results: Results = Path("results"),
    data_dir: Data = None,
    ray: Annotated[
        str | None, typer.Option(help="the nodes of this Ray cluster, too: auto or host:port", metavar="auto|ADDRESS")
    ] = None,
    format: Annotated[str, typer.Option(help="table or json")] = "table",
    debug: Debug = False,
) -> int:
    """Examine this machine, this installation and the results folder: each finding with its remedy.

    Nothing is downloaded, trained or changed. Exit code 1 if something is a problem; warnings are none.
    """
    if format not in ("table", "json"):
        raise UsageError(f"--format must be table or json, not {format!r}.")

    from dwfbench.cli import doctor

    findings = doctor.examine(results, data_dir, ray)
    typer.echo(doctor.as_json(findings) if format == "json" else doctor.table(findings))
    return SOME_FAILED if any(finding.state == "problem" for finding in findings) else OK


def version(value: bool) -> None:
    if value:
        from dwfbench import __version__

        typer.echo(f"dwfbench {__version__}")
        raise typer.Exit


@app.callback()
def root(
    show: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="show the version")] = False,
) -> None:
    pass


def main() -> None:
    """The console script ``dwfbench``."""
    app()
