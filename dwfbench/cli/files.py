"""The commands that make files of results and of networks: pack, unpack, export and measure."""

from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace

from dwfbench.base import machine
from dwfbench.base.errors import UsageError
from dwfbench.base.streams import answer, beside
from dwfbench.base.text import shared_score
from dwfbench.cli import options
from dwfbench.cli.app import OK, SETTINGS, guarded, message
from dwfbench.cli.help import Command, examples
from dwfbench.cli.sources import Data, Debug, Format, Results
from dwfbench.cli.tables import export_table
from dwfbench.cli.values import names, numbers, one_of
from dwfbench.runs import packing, resultsets

app = typer.Typer(**SETTINGS)

Threads = Annotated[int | None, typer.Option(help="CPU threads [default: all cores]")]
Images = Annotated[str | None, typer.Option("--dataset", help="of runs on own images: their folder or archive")]
Network = Annotated[
    str | None, typer.Option("--model", help="of runs of your own network: file.py:callable or pkg.module:callable")
]


@app.command(
    "pack",
    cls=Command,
    epilog=examples(
        "dwfbench pack results -o results.zip", "dwfbench pack ours=results theirs.zip -o both.zip --keep-both"
    ),
)
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
    parts, damaged = packing.pack(resultsets.sources(sources), output, keep_both)
    for sentence in damaged:
        message(sentence)
    answer(contents(parts, output))
    return OK


@app.command("unpack", cls=Command, epilog=examples("dwfbench unpack results.zip --to results"))
@guarded
def unpack(
    archive: Annotated[str, typer.Argument(metavar="SET.zip", help="an archive that `dwfbench pack` made")],
    to: Annotated[Path, typer.Option("--to", help="results folder; what it has already stays")],
    debug: Debug = False,
) -> int:
    """Make a results folder of an archive, to train on from there. A run that the folder has otherwise is refused."""
    (source,) = resultsets.sources([archive])
    if not source.is_archive:
        raise UsageError(f"{source.path} is a folder, not an archive.")
    parts, damaged = packing.unpack(source, to)
    for sentence in damaged:
        message(sentence)
    answer(contents(parts, to))
    return OK


def contents(parts: dict, path: Path) -> str:
    """What an archive holds, in a sentence."""
    runs = [entry.record.status for part in parts.values() for entry in part.runs.values()]
    trials, studies = (sum(len(getattr(part, name)) for part in parts.values()) for name in ("trials", "studies"))
    bad = f" ({len(runs) - runs.count('ok')} of them diverged or failed)" if runs.count("ok") < len(runs) else ""
    tuning = f", {studies} tuning studies with {trials} runs" if trials or studies else ""
    labelled = "".join(f"; {label} apart: {len(part.runs)} runs" for label, part in parts.items() if label)
    return f"{path}: {len(runs)} run{'s' * (len(runs) != 1)}{bad}{tuning}{labelled}"


@app.command(
    "export",
    cls=Command,
    epilog=examples("dwfbench export 1a2b3c --to network", "dwfbench export 1a2b3c --to network --forms sparse,onnx"),
)
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
    checksums, shapes, MACs, differences and accuracies. DIR/load.py loads it all with PyTorch alone; DIR/README.md is a
    model card with the evaluation that the Hugging Face Hub reads.
    """
    from dwfbench.deploy import export
    from dwfbench.experiments import stored as restore

    stored = restore.find(results, run)
    _, threads = options.hardware("cpu", threads, 1)
    data = restore.dataset_of(stored, dataset, data_dir)
    network = restore.network_of(stored, data, model)
    inputs, facts = restore.inputs_of(data), restore.facts_of(stored.record, data)
    answer(export_table(export.export(network, inputs, to, names(forms), data.test.labels, facts, data.task)))
    return OK


@app.command(
    "measure",
    cls=Command,
    epilog=examples(
        "dwfbench measure 1a2b3c 4d5e6f --batch 1,64", "dwfbench measure 1a2b3c --device cuda --format json"
    ),
)
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
    format: Format = "table",
    debug: Debug = False,
) -> int:
    """Sizes, accuracy and speed of runs on this device: dense, sparse (CSR) and without dead neurons and channels.

    The forms are timed in turns, and their speeds compared within each turn. What was measured is kept as measure.json
    in the run's folder, in place of an earlier measurement, and `dwfbench plot latency` draws it; records are not
    touched.
    """
    from dwfbench.show import speed, tables

    one_of(format, "format", tables.FORMATS)
    sizes = numbers(batch, "batch")
    batches = [size for size in sizes if isinstance(size, int) and size >= 1]
    if len(batches) < len(sizes):
        raise UsageError("--batch takes whole numbers of at least 1.")

    from dwfbench.analysis import latency
    from dwfbench.analysis.resultset import ResultSet
    from dwfbench.deploy import measure
    from dwfbench.experiments import stored as restore
    from dwfbench.training import assess

    stored_runs = list({stored.id: stored for stored in (restore.find(results, run) for run in runs)}.values())
    torch_device, threads = options.hardware(device, threads, 1)
    load = machine.load()  # that of others: of this command's own work there is none yet
    if load is not None and load > machine.BUSY * (usable := machine.cores()):
        message(
            f"Other work keeps the processors busy (load {load:.1f}, usable processors {usable}): passes take longer "
            "than they need, and intervals are wide."
        )
    context = assess.environment(torch_device, threads) | {"load": load}
    measured = []
    for stored in stored_runs:
        data = restore.dataset_of(stored, dataset, data_dir)
        network = restore.network_of(stored, data, model)
        inputs, labels = restore.inputs_of(data).to(torch_device), data.test.labels.to(torch_device)
        message(f"{stored.record.label}, run {stored.id}: measuring")
        timings = measure.measure(network, inputs, labels, batches, rounds, data.task)
        if (why := timings.get("left_out")) is not None:
            message(f"The form compact is left out. {why}")
        if (earlier := latency.read(stored.folder)) is not None:
            message(f"The measurement of before is replaced: {latency.described(earlier)}.")
        content = {"id": stored.id, **context, **timings}
        measured.append(replace(stored.record, measurement=latency.write(stored.folder, content)))
    frame = ResultSet(measured).latency
    answer(tables.render(speed.table(frame), format, speed.cells).rstrip("\n"))
    caption = speed.caption(latency.places(frame), shared_score(frame["score"]))
    beside(format, f"\n{caption}" if format == "table" else caption)
    return OK
