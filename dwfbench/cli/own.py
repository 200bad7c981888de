"""The commands for a network of one's own: suggest, sparsify."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dwfbench.base.errors import UsageError
from dwfbench.base.files import unwritable
from dwfbench.base.streams import answer
from dwfbench.cli import options
from dwfbench.cli.app import OK, SETTINGS, SOME_FAILED, guarded, message
from dwfbench.cli.help import KNOB, OPTIMISATION, OUTPUT, WHAT, Command, examples
from dwfbench.cli.sources import Debug
from dwfbench.cli.tables import export_table, percent_of
from dwfbench.cli.values import names, numbers
from dwfbench.runs import spec
from dwfbench.runs.store import Store

if TYPE_CHECKING:
    from torch import nn

    from dwfbench.experiments.sparsify import Judged
    from dwfbench.runs.record import Record

app = typer.Typer(**SETTINGS)

SHARED = {name: flag for name, flag in options.flags().items() if name in ("recipe", "data_dir", *spec.settings())}
"""Flags of ``run`` that say a network, its data and its training, with a flag for every setting."""

DEFAULTS = {name: default for name, (_, default) in options.flags().items()}
"""What the others of its flags are where they are not offered."""


@app.command(
    "suggest",
    cls=Command,
    context_settings=options.FREE,
    epilog=examples(
        "dwfbench suggest --model lenet-5 --dataset fashion-mnist --depth 2,3",
        "dwfbench suggest --model net.py:net --dataset images/ --epochs 20 --lr 0.05",
    ),
)
@guarded
@options.with_flags(SHARED)
def suggest(context: typer.Context, *, debug: Debug = False, **flags: Any) -> int:
    """Strengths, least steps and rates for DWF from the network's own weights, by arithmetic: nothing is trained.

    --depth and DWF's other options are flags, too, and may be lists. The library has the same as dwfbench.suggest.
    """
    work = options.read({**DEFAULTS, **flags, "method": "dwf"}, context.args)

    from dwfbench.experiments import advise

    answer("\n\n".join(str(advise.suggestion(request, work.dataset)) for request in work.requests))
    return OK


OTHERWISE = ("model", "init", "lr", "weight_decay", "epochs")
SEARCHED = {name: flag for name, flag in SHARED.items() if name not in OTHERWISE}
RATES = "0.05,0.2"


@app.command(
    "sparsify",
    cls=Command,
    context_settings=options.FREE,
    epilog=examples(
        "dwfbench sparsify net.py:f --weights w.pt --dataset images/ --compression 20",
        "dwfbench sparsify lenet-5 --weights w.pt --compression 50 --to small",
    ),
)
@guarded
@options.with_flags(SEARCHED | options.engine_flags())
def sparsify(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="network: a name, pkg.module:callable or file.py:callable")],
    *,
    weights: Annotated[str, typer.Option(help="its trained weights: .safetensors or torch.save", rich_help_panel=WHAT)],
    compression: Annotated[float, typer.Option(help="compression ratio to reach", rich_help_panel=KNOB)] = 10.0,
    rates: Annotated[str, typer.Option(help="learning rates to try", rich_help_panel=OPTIMISATION)] = RATES,
    epochs: Annotated[
        str | None,
        typer.Option(
            help="epochs of a run, fine-tuning included [default: 20, or as many as make 2,000 steps]",
            rich_help_panel=OPTIMISATION,
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(help="epochs of all runs [default: 6 runs a rate]", min=1, rich_help_panel=OPTIMISATION),
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="new folder for the files", rich_help_panel=OUTPUT)] = Path("sparse"),
    forms: Annotated[
        str, typer.Option(help="what to write, of dense, sparse, onnx and compact", rich_help_panel=OUTPUT)
    ] = "dense,sparse",
    debug: Debug = False,
    **flags: Any,
) -> int:
    """From trained weights to a sparse network, the short way: DWF from balanced factors, searched and exported.

    Every one of --rates is searched for the strength that gives the compression, in runs of --epochs. Of the networks
    at that compression or up to a quarter beyond it, and where there are none of all sparser ones, that is exported
    which is best on the validation part. It is then tested, and so are the given weights: what the compression cost.
    --depth and DWF's other options are flags, too; --finetune-epochs trains the last of the epochs on under the zeros.
    Runs are kept in RESULTS/sparsify, and the same command goes on from there.
    """
    listed = numbers(rates, "rates")
    if not listed or min(listed) <= 0:
        raise UsageError(f"--rates takes positive learning rates, separated by commas, not {rates!r}.")
    if to.exists():
        raise UsageError(f"{to} exists already; choose another --to.")
    if why := unwritable(to):
        raise UsageError(f"{why}; choose another --to.")
    words = {
        "method": "dwf",
        "model": model,
        "init": weights,
        "compression": f"{compression:g}",
        "lr": f"{listed[0]:g}",
        "epochs": epochs,
    }
    work = options.read({**DEFAULTS, **flags, **words}, context.args)
    if len(work.requests) > 1:
        raise UsageError("sparsify makes one network; give every option of DWF one value.")

    from dwfbench.cli.progress import Reporter
    from dwfbench.deploy.export import check_forms
    from dwfbench.experiments import sparsify, stored

    check_forms(names(forms))  # training takes long
    (request,) = work.requests
    of_a_run = None if epochs is None else spec.coerce(spec.settings()["epochs"], epochs)
    spent = sparsify.Budget.of(request, work.dataset, of_a_run, budget, listed)
    curves = sparsify.curves(request, compression, spent, work.dataset)
    before = sparsify.judged(sparsify.given_network(curves[0], work.dataset), work.dataset)
    store = Store(work.results / "sparsify")
    store.prepare()
    engine = work.engine
    if engine.checkpoints is not None:
        engine = replace(engine, checkpoints=store.folder / "checkpoints")
    with Reporter(work.dataset.task.name) as reporter, work.stopping():
        records = sparsify.train(curves, work.dataset, store, engine, reporter)
    record = sparsify.best(records, compression)
    if record is None:
        reached = sparsify.sparsest(records) or "none ended well"
        message(f"No run reached CR {compression:g} within the budget ({reached}); give a larger one.")
        return SOME_FAILED
    network = stored.network_of(stored.find(work.results / "sparsify", record.id), work.dataset, model)
    after = sparsify.judged(network, work.dataset)
    manifest = write(network, record, to, forms, work)
    answer(verdict(before, after, record, work.dataset.task.name))
    answer(f"\n{len(records)} runs of {spent.epochs} epochs ended well. In {to}:\n{export_table(manifest)}")
    if (further := sparsify.sparser(records, record)) is not None:
        message(
            f"At CR {further.compression:.4g} run {further.id} is no worse on the validation part; `dwfbench export "
            f"{further.id} --results {store.folder}` takes it."
        )
    return OK


def write(network: "nn.Module", record: "Record", to: Path, forms: str, work: options.Work) -> dict[str, Any]:
    """Export a network, checked on the test set; the manifest."""
    from dwfbench.deploy import export
    from dwfbench.experiments import stored

    data = work.dataset.to("cpu")
    inputs, facts = stored.inputs_of(data), stored.facts_of(record, data)
    return export.export(network.cpu(), inputs, to, names(forms), data.test.labels, facts, data.task)


def verdict(before: "Judged", after: "Judged", record: "Record", score: str) -> str:
    """What the compression cost, in lines."""
    cost = 100 * ((after.test or 0) - (before.test or 0))
    run = record.spec
    return "\n".join(
        [
            f"given weights:   {score} {percent_of(before.test)} % on the test set, {percent_of(before.validation)} % "
            "on the validation part",
            f"sparse network:  {score} {percent_of(after.test)} % and {percent_of(after.validation)} %, at CR "
            f"{record.compression:.4g}: {cost:+.2f} points",
            f"                 {record.label}, strength {run.strength:g}, learning rate {run.lr:g}, run {record.id}",
        ]
    )
