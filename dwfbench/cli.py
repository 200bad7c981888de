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
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from dwfbench import spec
from dwfbench.errors import UsageError

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


# ---------------------------------------------------------------- run


def with_settings(command: Callable) -> Callable:
    """Adds a flag for every shared field of RunSpec to a command that takes them as ``**settings``."""
    signature = inspect.signature(command)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    made = []
    for name, item in spec.settings().items():
        # Everything but switches is read as text: RunSpec itself checks and converts, with one kind of message.
        kind = bool if item.type is bool else str
        default = "none" if item.default is None else item.default
        info = typer.Option(help=f"{item.metadata['help']} [without a recipe: {default}]", show_default=False)
        annotation = Annotated[kind | None, info]
        made.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    command.__signature__ = signature.replace(parameters=[*own, *made])
    command.__annotations__ = {p.name: p.annotation for p in [*own, *made]}
    return command


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="A method's own options (--depth 2,3,4, --proximal, --distribution erk, ...) are flags too, and may be "
    "lists; `dwfbench list methods` shows them. The recipe of the model and data set gives what you leave out.",
)
@guarded
@with_settings
def run(
    context: typer.Context,
    *,
    method: Annotated[str | None, typer.Option(help="one or more methods, separated by commas [default: dwf]")] = None,
    strength: Annotated[str | None, typer.Option(help="strengths lambda, separated by commas")] = None,
    compression: Annotated[str | None, typer.Option(help="target compression ratios, separated by commas")] = None,
    points: Annotated[int | None, typer.Option(help="number of knob values, log-spaced over the useful range")] = None,
    strength_range: Annotated[str | None, typer.Option(help="lowest,highest strength for --points")] = None,
    strength_max: Annotated[
        float | None, typer.Option(help="highest strength for --points, from the decay budget up")
    ] = None,
    compression_range: Annotated[str | None, typer.Option(help="lowest,highest compression for --points")] = None,
    seed: Annotated[str | None, typer.Option(help="seeds, separated by commas")] = None,
    seeds: Annotated[int | None, typer.Option(help="number of seeds, counted from 0 [default: 1]")] = None,
    recipe: Annotated[str | None, typer.Option(help="a recipe of `dwfbench list recipes`")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with the same keys; flags win")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="where data sets lie, or are downloaded to")] = None,
    results: Results = Path("results"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads [default: all cores]")] = None,
    lanes: Annotated[str, typer.Option(help="runs trained at once: auto or a number")] = "auto",
    jobs: Annotated[int, typer.Option(help="worker processes, which share the threads; for many runs on a CPU")] = 1,
    compile: Annotated[str, typer.Option(help="compile the training step: auto, on, off")] = "auto",
    eval_every: Annotated[int, typer.Option(min=1, help="epochs between two rows of a run's history")] = 1,
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0, help="minutes of training that a kill may cost; 0: no checkpoints")
    ] = 10.0,
    save_model: Annotated[bool, typer.Option("--save-model", help="store the sparse networks as safetensors")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be trained, and the time")] = False,
    force: Annotated[bool, typer.Option("--force", help="train stored runs again")] = False,
    debug: Debug = False,
    **settings: Any,
) -> int:
    """Train the runs of one or more curves; runs that are stored already are skipped."""
    flags: dict[str, Any] = {
        "methods": names(method),
        "strength": numbers(strength, "strength"),
        "compression": numbers(compression, "compression"),
        "points": points,
        "strength_range": numbers(strength_range, "strength-range"),
        "strength_max": strength_max,
        "compression_range": numbers(compression_range, "compression-range"),
        "seed": numbers(seed, "seed"),
        "seeds": seeds,
        **{name: spec.coerce(spec.settings()[name], value) for name, value in settings.items() if value is not None},
        **leftover(context.args),
    }
    flags = {key: value for key, value in flags.items() if value is not None}
    if "seed" in flags and "seeds" in flags:
        raise UsageError("Give either --seed (which ones) or --seeds (how many), not both.")
    lane_count = None if lanes == "auto" else positive(lanes, "lanes")
    if compile not in ("auto", "on", "off"):
        raise UsageError(f"--compile must be auto, on or off, not {compile!r}.")
    layers = [spec.read_toml(config)] if config else []

    from dwfbench import data, estimate, models, planning, runner, workers
    from dwfbench.checkpoints import stopping_at_steps
    from dwfbench.progress import Reporter
    from dwfbench.store import Store

    place, thread_count = hardware(device, threads, jobs)
    model = planning.general([*layers, flags], "model", None)
    dataset_name = planning.general([*layers, flags], "dataset", None)
    layers = [spec.base_recipe(recipe, model, dataset_name), *layers]
    layers[0] = {key: value for key, value in layers[0].items() if key != "title"}
    everything = [{"model": spec.RunSpec.model, "dataset": spec.RunSpec.dataset}, *layers, flags]
    models.check(planning.general(everything, "model", None))
    dataset = data.load(
        planning.general(everything, "dataset", None),
        data_dir=data_dir,
        **{key: planning.general(everything, key, getattr(spec.RunSpec, key)) for key in spec.DATA_KEYS},
    ).to(place)
    curves = planning.plan(layers, flags, dataset)
    store = Store(results)
    engine = workers.Engine(
        place,
        thread_count,
        lane_count,
        None if compile == "auto" else compile == "on",
        jobs,
        eval_every,
        results / "checkpoints" if checkpoint_minutes else None,
        checkpoint_minutes,
        save_model,
        ("dwfbench", *sys.argv[1:]),
    )
    if dry_run:
        todo = [runner.pending(curve, store, dataset, force) for curve in curves]
        typer.echo(plan_table(curves, store, force))
        typer.echo(estimate.sentence(curves, todo, dataset, engine))
        return OK
    for curve in curves:
        if note := planning.budget_note(curve):
            message(note)
    store.prepare()
    with Reporter() as reporter, stopping_at_steps() if checkpoint_minutes else nullcontext():
        outcome = runner.execute(curves, dataset, store, engine, reporter, force)
    for sentence in store.damaged:
        message(sentence)
    wanted = {one.id for curve in curves for one in curve.specs}
    typer.echo(curve_table([record for record in store.load() if record["id"] in wanted]))
    bad = [status for status in outcome.values() if status != "ok"]
    if bad:
        message(f"{len(bad)} of {len(outcome)} runs did not end well; they are kept in {results / 'failed'}.")
    return SOME_FAILED if bad else OK


def names(text: str | None) -> list[str] | None:
    """A comma list of names."""
    found = [part.strip() for part in text.split(",") if part.strip()] if text is not None else None
    if found == []:
        raise UsageError("An empty list of names was given.")
    return found


def numbers(text: str | None, flag: str) -> list[float] | None:
    """A comma list of numbers; whole ones are ints."""
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
        if not all(map(math.isfinite, values)):
            raise ValueError
    except ValueError:
        raise UsageError(f"--{flag} takes numbers separated by commas, not {text!r}.") from None
    return [int(value) if value.is_integer() and abs(value) < 1e15 else value for value in values]


def positive(text: str, flag: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--{flag} must be auto or a whole number of at least 1, not {text!r}.")
    return int(text)


def leftover(words: list[str]) -> dict[str, Any]:
    """Options of methods: ``--depth 2,3``, ``--depth=2``, ``--proximal``, ``--no-proximal``. Lists for comma lists."""
    found: dict[str, Any] = {}
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("--") or len(word) < 3:
            raise UsageError(f"Unexpected argument {word!r}; flags start with two dashes.")
        flag, equals, value = word[2:].partition("=")
        if not equals and position < len(words) and not words[position].startswith("--"):
            value, equals = words[position], "="
            position += 1
        key = flag.replace("-", "_")
        if not equals and key.startswith("no_"):
            key, value = key[3:], "false"
        elif not equals:
            value = "true"
        if key in found:
            raise UsageError(f"--{flag} is given twice; separate several values by commas.")
        found[key] = [part.strip() for part in value.split(",")]
    return found


def hardware(device: str, threads: int | None, jobs: int):
    """The torch device and the number of threads of all processes together, checked and set."""
    import torch

    from dwfbench.workers import prepare_process

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = cores if threads is None else threads
    if not 1 <= threads <= cores:
        raise UsageError(f"--threads must be between 1 and the {cores} cores of this machine, not {threads}.")
    if not 1 <= jobs <= threads:
        raise UsageError(f"--jobs must be between 1 and the {threads} threads that they share, not {jobs}.")
    prepare_process(threads // jobs)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
        torch.zeros(1, device=place).item()  # the device that only pretends (meta) fails here
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"The device {device!r} cannot be used ({reason}); try --device cpu.") from None
    return place, threads


def plan_table(curves: list, store, force: bool) -> str:
    rows = [["id", "method", "knob", "seed", "epochs", "lr", "decay budget", "stored"]]
    for curve in curves:
        for one in curve.specs:
            budget = curve.budget(one)
            knob = f"{curve.method.knob} {one.knob:.4g}" if curve.method.knob else "-"
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
        return "-" if value is None else f"{value:.4g}"

    for record in sorted(records, key=lambda r: (r["label"], r["spec"]["seed"], r["spec"].get(r["knob"]) or 0)):
        knob = f"{record['knob']} {record['spec'][record['knob']]:.4g}" if record["knob"] else "-"
        rows.append(
            [record["label"], knob, str(record["spec"]["seed"]), ratio(record.get("compression")),
             percent(record.get("test_accuracy")), percent(record.get("val_accuracy")),
             ratio(record.get("effective_compression")), f"{record['seconds']:.1f}", record["status"], record["id"]]
        )  # fmt: skip
    return aligned(rows)


def aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


# ---------------------------------------------------------------- compare, plot


def stored_records(results: Path, dataset, model, threshold: float | None = None, history: bool = False) -> list[dict]:
    """Records that pass the filters; damaged ones are named on stderr.

    Commands filter by method later: labels and the dense reference come from all methods' runs.
    """
    from dwfbench import curves
    from dwfbench.store import Store

    if not results.is_dir():
        raise UsageError(
            f"There is no results folder {results}; train something with `dwfbench run`, or use --results."
        )
    store = Store(results)
    records = store.load(history)
    for sentence in store.damaged:
        message(sentence)
    records = curves.filter_records(records, names(dataset), names(model))
    return records if threshold is None else curves.counted_at(records, threshold)


def nothing(results: Path) -> int:
    message(f"No finished run in {results} fits; train some with `dwfbench run`.")
    return NOTHING


@app.command()
@guarded
def compare(
    results: Results = Path("results"),
    at: Annotated[str, typer.Option(help="compression ratios to compare at")] = "2,5,10,30,100,300",
    tolerance: Annotated[
        str, typer.Option(help="losses of accuracy against dense, for the largest CR within")
    ] = "1,5,10",
    relative: Annotated[bool, typer.Option("--relative", help="tolerances in percent of dense, not in points")] = False,
    area: Annotated[str | None, typer.Option(help="lowest,highest CR of the area under the curve")] = None,
    dataset: Listed = None,
    model: Listed = None,
    method: Listed = None,
    threshold: Cut = None,
    format: Annotated[str, typer.Option(help="table, markdown, latex, csv or json")] = "table",
    debug: Debug = False,
) -> int:
    """Accuracy at matched compression, compression at tolerance, area under the curve; a row a curve."""
    from dwfbench import curves

    if format not in curves.FORMATS:
        raise UsageError(f"--format must be one of {', '.join(curves.FORMATS)}, not {format!r}.")
    ratios, tolerances, span = numbers(at, "at"), numbers(tolerance, "tolerance"), numbers(area, "area")
    if any(not value >= 1 for value in ratios):
        raise UsageError("--at takes compression ratios of at least 1.")
    if any(not 0 <= value <= 100 for value in tolerances):
        raise UsageError("--tolerance takes values from 0 to 100.")
    if span is not None and not (len(span) == 2 and 1 <= span[0] < span[1]):
        raise UsageError("--area takes two compression ratios, the smaller first.")
    records = stored_records(results, dataset, model, threshold)
    low, high = span or (None, None)
    table = curves.compare(records, ratios, tolerances, relative, method=names(method), low=low, high=high)
    if table.empty:
        return nothing(results)
    for line in curves.warnings(curves.frame(records), curves.failures(records)):
        message(line)
    typer.echo(curves.render(table, format).rstrip("\n"))
    return OK


@app.command()
@guarded
def plot(
    kind: Annotated[str, typer.Argument(help="accuracy, layers or dynamics")] = "accuracy",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="PNG, SVG or PDF [default: RESULTS/KIND.png]")
    ] = None,
    results: Results = Path("results"),
    dataset: Listed = None,
    model: Listed = None,
    method: Listed = None,
    threshold: Cut = None,
    debug: Debug = False,
) -> int:
    """Draw accuracy against compression, the density of layers, or the dynamics of training."""
    kinds = ("accuracy", "layers", "dynamics")
    if kind not in kinds:
        raise UsageError(f"There is no plot {kind!r}{spec.nearest(kind, kinds)} Choose one of {', '.join(kinds)}.")
    from dwfbench import curves, plots

    if threshold is not None and kind != "accuracy":
        raise UsageError(f"--threshold recounts the accuracy plot only, not {kind}.")
    records = stored_records(results, dataset, model, threshold, history=kind == "dynamics")
    make = {"accuracy": curves.frame, "layers": curves.layers, "dynamics": curves.dynamics}[kind]
    frame = make(records)
    if method is not None:
        frame = frame[frame["method"].isin(names(method))]
    if kind == "layers":  # a dense network's layers are dense
        frame = frame[frame["method"] != "dense"]
    if frame.empty:
        return nothing(results)
    path = output or results / f"{kind}.png"
    try:
        getattr(plots, kind)(frame, path)
    except OSError as error:
        raise UsageError(f"The figure cannot be written to {path} ({error.strerror or error}).") from None
    typer.echo(str(path))
    return OK


# ---------------------------------------------------------------- list


@app.command("list")
@guarded
def list_(
    kind: Annotated[str, typer.Argument(help="methods, models, datasets or recipes")],
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
    debug: Debug = False,
) -> int:
    """Describe the methods (with knob, options, source), models, data sets or recipes."""
    kinds = {
        "methods": list_methods,
        "models": list_models,
        "datasets": list_datasets,
        "recipes": list_recipes,
    }
    if kind not in kinds:
        raise UsageError(f"There is no list of {kind!r}{spec.nearest(kind, kinds)} Choose one of {', '.join(kinds)}.")
    rows = kinds[kind]()
    typer.echo(json.dumps(rows, indent=2, ensure_ascii=False) if as_json else described(rows))
    return OK


def list_methods() -> list[dict]:
    from dataclasses import fields

    from dwfbench import method

    rows = []
    for name in sorted(method.known()):
        try:
            kind = method.load(name)
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
    from dwfbench import data

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
