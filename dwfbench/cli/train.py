"""The commands that train: run, tune and verify."""

import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dwfbench.base.errors import UsageError, one_line
from dwfbench.base.streams import answer, say
from dwfbench.base.text import first_few
from dwfbench.cli import options
from dwfbench.cli.app import OK, SETTINGS, SOME_FAILED, guarded, message
from dwfbench.cli.help import OPTIMISATION, OUTPUT, STORED, TUNING, Command, examples
from dwfbench.cli.sources import RESULTS, Debug, ResultSets, nothing, records_of, selected
from dwfbench.cli.tables import curve_table, plan_sentence, plan_table, study_table, verification_table
from dwfbench.cli.values import names, pair
from dwfbench.runs.record import Origin, is_text
from dwfbench.runs.store import Store

if TYPE_CHECKING:
    from dwfbench.experiments.plan import Curve

app = typer.Typer(**SETTINGS)

NOTE = (
    "A method's own options (--depth 2,3,4, --proximal, --distribution erk, ...) are flags too, and may be "
    "lists; `dwfbench list methods` shows them. The recipe of the model and data set gives what you leave out. "
    "Code of others runs only where you name it: a method as file.py:Class, a network as pkg.module:callable or "
    "file.py:callable, or a package that you installed."
)


@app.command(
    "run",
    cls=Command,
    context_settings=options.FREE,
    epilog=examples(
        "dwfbench run --method dwf --depth 2,3,4 --seeds 3",
        "dwfbench run --method snip,synflow --compression 5,10,30,100,300",
        'dwfbench run --method "dwf[depth=2,3],l1[proximal=true]" --seeds 3',
        "dwfbench run --recipe vgg-16-cifar10 --method dwf,magnitude --dry-run",
        note=NOTE,
    ),
)
@guarded
@options.with_flags(options.flags())
def run(
    context: typer.Context,
    *,
    tuned: Annotated[
        bool, typer.Option("--tuned", help="with the settings that won `dwfbench tune`", rich_help_panel=OPTIMISATION)
    ] = False,
    save_model: Annotated[
        bool, typer.Option("--save-model", help="store the sparse networks as safetensors", rich_help_panel=OUTPUT)
    ] = False,
    tag: Annotated[
        str | None, typer.Option(help="tags by which to choose these runs, with commas", rich_help_panel=OUTPUT)
    ] = None,
    note: Annotated[
        str | None, typer.Option(help="a sentence that is kept with these runs", rich_help_panel=OUTPUT)
    ] = None,
    log_to: Annotated[
        str | None,
        typer.Option(help="watch histories as they come: csv, tensorboard, trackio, wandb", rich_help_panel=OUTPUT),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what would be trained, and the time", rich_help_panel=OUTPUT)
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="train stored runs again", rich_help_panel=OUTPUT)] = False,
    debug: Debug = False,
    **flags: Any,
) -> int:
    """Train the runs of one or more curves; runs that are stored already are skipped."""
    clock = time.perf_counter()
    if tuned and options.gives(flags, "lr"):
        raise UsageError("Give either --lr or --tuned, which chooses it.")
    if flags["points"] is not None and flags["compression"] is not None:
        raise UsageError("Give either --points (how many) or --compression (which ones), not both.")
    work = options.read(flags, context.args, save_model, dry_run)
    tags = tuple(names(tag)) if tag is not None else ()
    for flag, texts in (("--tag", tags), ("--note", (note,) if note is not None else ())):
        if wrong := [text for text in texts if not is_text(text)]:
            raise UsageError(f"{flag} takes one short line of ordinary characters, not {one_line(ascii(wrong[0]))}.")
    work = replace(work, engine=replace(work.engine, tags=tags, note=note))

    curves, store = planned(work, tuned), Store(work.results)
    if dry_run:
        return show_plan(curves, store, work, force, clock)

    from dwfbench.cli.progress import Reporter
    from dwfbench.experiments import loggers, targets

    store.prepare()
    message(plan_sentence(curves))
    watchers = loggers.loggers([] if log_to is None else names(log_to), work.results / "logs")
    with Reporter(work.dataset.task.name) as reporter, loggers.Logged(reporter, watchers) as logged, work.stopping():
        curves, outcome = targets.execute_to_targets(curves, work.dataset, store, work.engine, logged, force)
    stored = sum(spec.id not in outcome for curve in curves for spec in curve.specs)
    if stored and (save_model or tags or note is not None):
        message(
            f"{stored} of the runs were stored already: --save-model, --tag and --note change them with --force only."
        )
    if tuned:
        from dwfbench.experiments import tuned as winners

        if adopted := winners.adopt(curves, store):
            message(f"{adopted} runs were stored with the settings that won; they are of the tuned curve from now on.")
    return conclude(curves, outcome, store)


def planned(work: options.Work, tuned: bool) -> "list[Curve]":
    """The curves of a command. What tuning chose for them, and what is doubtful in their budgets, is said."""
    from dwfbench.experiments import advise, plan

    if tuned:
        from dwfbench.experiments import tuned as winners

        winning = [winners.curves(request, work.dataset, work.results / "tuning") for request in work.requests]
        curves = [curve for of_method, _ in winning for curve in of_method]
        for sentence in (sentence for _, sentence in winning if sentence):
            message(sentence)
    else:
        curves = [plan.curve(request, work.dataset) for request in work.requests]
    notes = [note for curve in curves for note in (curve.note, advise.budget_note(curve))]
    for note in filter(None, [*notes, advise.jobs_note(curves, work.engine, work.processors)]):
        message(note)
    return curves


def show_plan(curves: "list[Curve]", store: Store, work: options.Work, force: bool, clock: float) -> int:
    """Print the runs that would be trained, and the time that they take; ``clock`` is when the command began."""
    from dwfbench.experiments import estimate, targets
    from dwfbench.experiments import run as runner

    if not force:
        curves = [targets.resumed(curve, store, work.dataset) for curve in curves]
    todo = [runner.pending(curve, store, work.dataset, force) for curve in curves]
    answer(plan_table(curves, store, force))
    for curve, runs in zip(curves, todo, strict=True):
        if curve.targets and runs:
            answer(f"{curve.method.label()} is searched: up to {curve.max_runs} strengths of each seed follow.")
    started = time.perf_counter() - clock
    if any(todo) and work.engine.cluster is None:
        message("Measuring a few steps of every curve ...")
    say(estimate.sentence(curves, todo, work.dataset, work.engine, started))
    return OK


def conclude(curves: "list[Curve]", outcome: Mapping[str, str], store: Store) -> int:
    """Print what became of the runs, and say what failed, is no result, or missed its targets; the exit code."""
    from dwfbench.analysis import soundness
    from dwfbench.experiments import targets

    ids = {spec.id for curve in curves for spec in curve.specs}
    records = [record for record in store.load() if record.id in ids]
    unsound = soundness.unsound(records)
    answer(curve_table(records))
    bad = [status for status in outcome.values() if status != "ok"]
    if bad:
        message(f"{len(bad)} of {len(outcome)} runs did not end well; they are kept in {store.folder / 'failed'}.")
    for reason, count in Counter(unsound.values()).items():
        message(f"{count} of {len(records)} runs ended well and are no results: {reason}.")
    missed: dict[str, list[str]] = {}
    for curve in curves:
        if curve.targets:  # a method may have several: one for each of the settings that won
            missed.setdefault(curve.method.label(), []).extend(targets.missed(curve, store))
    for label, sentences in missed.items():
        for sentence in sentences or [f"{label}: two runs lie around each of its targets."]:
            message(sentence)
    # A strength by itself asks for no compression; targets that it does not reach are missed.
    idle = {record.id for record in records if record.knob == "strength" and unsound.get(record.id) == soundness.STUCK}
    return SOME_FAILED if bad or unsound.keys() - idle or any(missed.values()) else OK


@app.command(
    "tune",
    cls=Command,
    context_settings=options.FREE,
    epilog=examples(
        "dwfbench tune --method dwf,synflow --trials 6 --compression 5,40,300",
        "dwfbench tune --method dwf --lr-range 0.1,1 --seeds 2",
        note=NOTE,
    ),
)
@guarded
@options.with_flags(options.flags())
def tune(
    context: typer.Context,
    *,
    trials: Annotated[int, typer.Option(help="trials a method, the same number for all", rich_help_panel=TUNING)] = 6,
    lr_range: Annotated[
        str, typer.Option(help="lowest,highest learning rate to try", rich_help_panel=TUNING)
    ] = "0.03,0.5",
    widen: Annotated[
        int,
        typer.Option(help="further rates beyond either end, while a winner is at it", min=0, rich_help_panel=TUNING),
    ] = 3,
    force: Annotated[
        bool, typer.Option("--force", help="replace a study of another budget", rich_help_panel=TUNING)
    ] = False,
    debug: Debug = False,
    **flags: Any,
) -> int:
    """Choose the learning rate, and what else a method declares, on the validation part with equal budgets.

    Every trial has runs around the compression ratios of --compression [default: 5,40,300], each of which has a winner
    of its own; a method that is turned by a strength searches for them with --max-runs strengths of a seed at most
    [default: four a target]. With --points N it has N strengths over its useful range instead, trained at once, as a
    GPU likes it; --max-gap says how near a target they must lie. Seeds count from 100, as those that choose are not
    reported. `dwfbench run --tuned` takes the winners.
    """
    if options.gives(flags, "lr"):
        raise UsageError("--lr is what tuning chooses; give --lr-range.")
    work = options.read(flags, context.args)

    from dwfbench.cli.progress import Reporter
    from dwfbench.experiments import tune as tuning
    from dwfbench.training import assess

    requests = [tuning.short(request, flags["points"]) for request in work.requests]
    budget = tuning.Budget(trials, pair(lr_range, "lr-range"), widen)
    source = Origin(**assess.environment(work.engine.here, work.engine.threads), argv=list(work.engine.argv))
    folder = work.results / "tuning"
    with Reporter(work.dataset.task.name) as reporter, work.stopping():
        studies = tuning.tune(requests, budget, work.dataset, folder, work.engine, reporter, source, force)
    answer(study_table(studies))
    answer(
        f"\nValidation {work.dataset.task.name} in percent at each CR, mean over seeds. *: won there; `dwfbench run "
        "--tuned` takes it.\n-: no value, as some seed has no two runs around that CR within the factor --max-gap."
    )
    for sentence in tuning.remarks(studies, trials):
        message(sentence)
    return SOME_FAILED if any(winner is None for study in studies for winner in study.winners) else OK


@app.command(
    "verify",
    cls=Command,
    epilog=examples("dwfbench verify --runs 8 --draw 1", "dwfbench verify --results theirs.zip --device cuda"),
)
@guarded
@options.with_flags({name: flag for name, flag in options.engine_flags().items() if name != "results"})
def verify(
    *,
    results: ResultSets = RESULTS,
    runs: Annotated[
        int, typer.Option(min=1, help="how many of the stored runs, drawn at random", rich_help_panel=STORED)
    ] = 4,
    draw: Annotated[int, typer.Option(help="seed of the draw", rich_help_panel=STORED)] = 0,
    model: Annotated[
        str | None,
        typer.Option(help="only of this network; needed where it is code of your own", rich_help_panel=STORED),
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="the file of trained weights that they started from", rich_help_panel=STORED)
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="only of this method; needed where it is of a file: file.py:Class", rich_help_panel=STORED),
    ] = None,
    debug: Debug = False,
    **flags: Any,
) -> int:
    """Train some of the stored runs again, from their records alone, and compare; nothing stored is touched.

    Agreement is a test accuracy within 1 point and a compression within 10 %, or within three times the range of the
    same setting's other seeds where that is wider, 10 points and a factor of 2 at most. On the same machine and
    versions the numbers should be equal.
    """
    selection = selected({"results": results})
    records = records_of(selection)
    if model is not None:
        from dwfbench import models

        records = [record for record in records if record.spec.model == models.identity(model)]
    if init is not None:
        from dwfbench.models import weights

        records = [record for record in records if record.spec.init == weights.identity(init)]
    from dwfbench.methods import registry

    if method is not None:
        name = registry.load(method).name
        records = [record for record in records if record.spec.method == name]
    elif absent := sorted({record.spec.method for record in records} - registry.installed().keys()):
        others = [record for record in records if record.spec.method in registry.installed()]
        message(
            f"{len(records) - len(others)} runs of methods that are not installed are left out ({first_few(absent)}); "
            "--method file.py:Class verifies those of a file."
        )
        records = others
    engine = options.engine_of({**flags, "results": Path()})

    from dwfbench.cli.progress import Reporter
    from dwfbench.experiments import verify as verification

    sample = verification.sample(records, runs, draw)
    if not sample:
        return nothing(selection, records)
    with tempfile.TemporaryDirectory() as folder, Reporter() as reporter:
        checks = verification.verify(
            records, sample, flags["data_dir"], Store(folder), replace(engine, checkpoints=None), reporter, model
        )
    answer(verification_table(checks))
    bad = sum(not check.agrees for check in checks)
    if bad:
        message(f"{bad} of {len(checks)} runs came out differently.")
    return SOME_FAILED if bad else OK
