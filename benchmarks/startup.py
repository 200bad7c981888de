"""How long the commands that train nothing take: `--help`, `list methods`, `compare` and `plot` over 10,000 records.

The help of every command is counted in CPU seconds of its process, which other processes hardly change.

    python -m benchmarks.startup

Every measurement is a fresh process, its start included, as a person at a shell waits for it.
"""

import json
import math
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

from benchmarks.timing import Measured, Options, Ratio, Row, interleaved, main
from dwfbench.cli.app import COMMANDS
from dwfbench.runs.record import HISTORY, Cut, Layer, Provenance, Record, content_of

RECORDS = 10_000
RUN = "from dwfbench.cli.app import main; main()"  # the console script, wherever it is installed
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("dense", {}),
    *(("dwf", {"depth": depth}) for depth in (2, 3, 4)),
    ("spred", {}),
    *(("l1", {"proximal": proximal}) for proximal in (False, True)),
    *(("magnitude", {"at": "trained", "finetune_epochs": epochs}) for epochs in (None, 0)),
    *(("random", {"distribution": distribution}) for distribution in ("uniform", "erk")),
    *(("snip", {"bn_training": training}) for training in (False, True)),
    *(("grasp", {"bn_training": training}) for training in (False, True)),
    ("synflow", {}),
]
MODELS = {"lenet-300-100": 3, "lenet-5": 4, "vgg-16": 14, "resnet-18": 21}  # with their numbers of prunable layers
DATASETS = ("mnist", "fashion-mnist", "kmnist", "cifar10")
KNOBS = {"strength": 1e-5, "compression": 2.0}  # the lowest value of each
SEEDS, POINTS, EPOCHS = 5, 10, 30


def rows(options: Options) -> list[Row]:
    count = 100 if options.quick else RECORDS
    with tempfile.TemporaryDirectory() as folder:
        store(Path(folder), count)
        results = ("--results", folder)
        # All sixteen panels at once would be a figure that nobody can look at.
        panel = ("--dataset", DATASETS[0], "--model", next(iter(MODELS)))
        commands = {
            "dwfbench --help": ("--help",),
            "dwfbench list methods": ("list", "methods"),
            f"dwfbench compare, {count:,} records": ("compare", *results),
            f"dwfbench plot, {count:,} records": ("plot", *results),
            f"dwfbench plot layers, one panel of {count:,} records": ("plot", "layers", *results, *panel),
            f"dwfbench plot dynamics, one panel of {count:,} records": ("plot", "dynamics", *results, *panel),
        }
        if options.quick:
            commands = dict(islice(commands.items(), 4))
        times = interleaved(
            {"bare": process("-c", "pass")} | {title: command(*words) for title, words in commands.items()},
            options.rounds,
            warm_up=0 if options.quick else 1,
            least=0,
        )
    targets = {"dwfbench --help": "< 0.5", f"dwfbench compare, {RECORDS:,} records": "< 3"}
    return [
        Row.of(title, Measured.of(times[title]), "s", targets.get(title), beside(times[title], times["bare"]))
        for title in commands
    ] + helps(options)


def helps(options: Options) -> list[Row]:
    """A row for the help of every command, whose options it loads: what a command costs before it does anything."""
    names = [name for commands in COMMANDS.values() for name in commands]
    names = names[:2] if options.quick else names
    times = interleaved(
        {f"dwfbench {name} --help": command(name, "--help") for name in names},
        options.rounds,
        warm_up=0 if options.quick else 1,
        least=0,
        clock=of_children,
    )
    return [Row.of(title, Measured.of(seconds), "CPU s", "< 0.3") for title, seconds in times.items()]


def of_children() -> float:
    """CPU seconds that the processes which this one started and waited for have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def beside(seconds: list[float], bare: list[float]) -> str:
    return f"{Ratio.between(seconds, bare).value:.0f}x a bare `python -c pass`"


def process(*words: str):
    """A call that runs this Python in a new process; its output is dropped, a failure raises."""

    def call() -> None:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    return call


def command(*words: str):
    """A call of ``dwfbench WORDS`` in a new process."""
    return process("-c", RUN, *words)


# ---------------------------------------------------------------- synthetic records


def store(folder: Path, count: int) -> None:
    """A results folder with ``count`` finished runs: the files that ``Store.write`` leaves, without its fsyncs."""
    chance = random.Random(0)
    for record in islice(records(chance), count):
        place = folder / "runs" / record.id
        place.mkdir(parents=True)
        lines = [HISTORY, *(history(epoch, record) for epoch in range(1, EPOCHS + 1))]
        (place / "history.csv").write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
        (place / "run.json").write_text(json.dumps(content_of(record), indent=1) + "\n")


def records(chance: random.Random) -> Iterator[Record]:
    """Finished runs of whole curves, every method on every data set and model, shaped as the runner writes them."""
    import torch

    from dwfbench.methods import registry
    from dwfbench.runs.spec import RunSpec
    from dwfbench.training.assess import describe, environment

    provenance = Provenance(
        **environment(torch.device("cpu"), 1),
        argv=["dwfbench", "run", "--method", ",".join(dict(METHODS)), "--seeds", str(SEEDS), "--points", str(POINTS)],
        data_checksum="0123456789abcdef",
        lanes=8,
        precision="float32",
        compiled=True,
        started="2026-01-01T00:00:00+00:00",
        ended="2026-01-01T00:01:00+00:00",
    )
    for (dataset, model), (name, options) in product(product(DATASETS, MODELS), METHODS):
        chosen = registry.create(name, options)
        for point, seed in product(range(POINTS if chosen.knob else 1), range(SEEDS)):
            knob: dict[str, Any] = {chosen.knob: KNOBS[chosen.knob] * 1.7**point} if chosen.knob else {}
            spec = RunSpec(name, chosen.changed(), model, dataset, seed=seed, epochs=EPOCHS, **knob)
            target = 2 * 1.7**point * chance.uniform(1, 1.1) if chosen.knob else 1.0
            yield Record(**describe(spec, chosen), **results(target, MODELS[model], chance), provenance=provenance)


def results(compression: float, layers: int, chance: random.Random) -> dict:
    """What a run of about this compression ratio is recorded to have reached."""
    size = 30_000
    nnz = [max(1, round(size / compression * chance.uniform(0.7, 1))) for _ in range(layers)]
    ratio = layers * size / sum(nnz)
    accuracy = 0.95 - 0.02 * math.log(ratio) - chance.uniform(0, 0.01)
    cut: dict[str, Any] = {"nnz": sum(nnz), "compression": ratio, "test_accuracy": accuracy}
    return {
        "status": "ok",
        **{
            "test_accuracy": accuracy,
            "test_loss": 1 - accuracy,
            "test_top5_accuracy": None,
            "val_accuracy": accuracy + 0.001,
        },
        "dense_equivalent_accuracy": accuracy,
        **{"compression": ratio, "compression_all": ratio, "nnz": sum(nnz), "numel": layers * size},
        "layers": [
            Layer(name=f"layers.{position}.weight", shape=[100, size // 100], numel=size, nnz=nonzeros)
            for position, nonzeros in enumerate(nnz)
        ],
        **{"connected": True, "effective_compression": ratio},
        **{"macs_dense": layers * size, "macs_sparse": sum(nnz)},
        "thresholds": [Cut(threshold=threshold, **cut) for threshold in (1.19e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)],
        **{"extra_passes": 0, "seconds": chance.uniform(10, 60), "overhead_seconds": 0.1, "peak_memory_bytes": 10**9},
    }


def history(epoch: int, record: Record) -> tuple:
    """A line of history.csv, in the order of ``record.HISTORY``."""
    done = epoch / EPOCHS
    factors = record.spec.method in ("dwf", "spred")
    misalignment, norm = (10 ** (-4 * done), 1e4 * (1.1 - done)) if factors else ("", "")
    rate = 0.05 * (1 + math.cos(math.pi * done))
    loss, accuracy, compression = 2.3 - 2 * done, (record.val_accuracy or 0) * done, (record.compression or 1) ** done
    return epoch, loss, accuracy, compression, misalignment, norm, rate, 1.5


if __name__ == "__main__":
    main(rows, __doc__)
