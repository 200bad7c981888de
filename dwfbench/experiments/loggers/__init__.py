"""Where histories are watched while runs train: loggers, a short file each, and what tells them.

A package adds one by an entry point of the group ``dwfbench.loggers`` that names a subclass of ``Logger``. Loggers live
in the process of the command, whatever trains where; one that fails is left out, and no run is lost by it.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from dwfbench.base import plugins
from dwfbench.base.errors import UsageError, first_line, reason
from dwfbench.base.text import knob, no_such
from dwfbench.execution.listener import Progress, Rows
from dwfbench.runs.history import plain
from dwfbench.runs.record import Record
from dwfbench.runs.spec import RunSpec

OURS = {
    "csv": "dwfbench.experiments.loggers.csv:Csv",
    "tensorboard": "dwfbench.experiments.loggers.tensorboard:TensorBoard",
    "trackio": "dwfbench.experiments.loggers.trackio:Trackio",
    "wandb": "dwfbench.experiments.loggers.wandb:WandB",
}


class Logger:
    """What a logger is told of runs, of which many may train at once. Each call may do nothing, and may raise anything.

    ``folder`` is the place in the results folder for what it writes, which need not exist. Packages that it needs are
    imported when it is made.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def begin(self, run_id: str, name: str, settings: Mapping[str, Any]) -> None:
        """A run has its first row; ``name`` is for people, ``settings`` are those of its record."""

    def row(self, run_id: str, row: Mapping[str, float]) -> None:
        """A row of the history as in history.csv, without what is blank; epochs rise."""

    def end(self, run_id: str, results: Mapping[str, float]) -> None:
        """A run is stored: what it came to, accuracies as fractions; nothing for one that did not end well."""

    def close(self) -> None:
        """The command ends; runs that did not are interrupted."""


RESULTS = ("test_accuracy", "val_accuracy", "compression", "effective_compression", "seconds")


def loggers(names: Iterable[str], folder: Path) -> dict[str, Logger]:
    """The loggers of these names. UsageError for an unknown one, and for one whose package cannot be imported."""
    points, _ = plugins.find("logger", OURS)
    by_name = {}
    for name in names:
        if name not in OURS and name not in points:
            raise UsageError(no_such("logger", name, [*OURS, *points]))
        try:
            if name in OURS:
                module, _, attribute = OURS[name].partition(":")
                logger_class = getattr(import_module(module), attribute)
            else:
                logger_class = plugins.load("logger", points[name])
            by_name[name] = logger_class(folder / name)
        except ModuleNotFoundError as error:
            raise UsageError(f"--log-to {name} needs a package: pip install {error.name}") from None
        except ImportError as error:  # two packages whose versions do not fit
            raise UsageError(f"The package of --log-to {name} cannot be imported ({first_line(error)}).") from None
    return by_name


class Logged:
    """A progress that tells loggers, too; a context manager around the work."""

    def __init__(self, progress: Progress, loggers: Mapping[str, Logger]):
        self.progress, self.loggers = progress, dict(loggers)
        self.runs: dict[str, tuple[str, RunSpec]] = {}
        self.last_epoch: dict[str, int] = {}
        """The last epoch told of each run: what is trained again after a death is not told twice."""

    def __enter__(self) -> "Logged":
        return self

    def __exit__(self, *exception) -> None:
        self.tell("close")

    def curve(self, label: str, specs: Sequence[RunSpec], pending: int, epochs: int) -> None:
        self.runs |= {spec.id: (label, spec) for spec in specs}
        self.progress.curve(label, specs, pending, epochs)

    def compiling(self, label: str) -> None:
        self.progress.compiling(label)

    def note(self, text: str) -> None:
        self.progress.note(text)

    def epoch(self, label: str, lanes: int, row: Mapping[str, Any], epochs: int, rows: Rows) -> None:
        self.progress.epoch(label, lanes, row, epochs, rows)
        for run_id, new in rows.items():
            self.log(run_id, new)

    def run(self, record: Record, history: list[dict]) -> None:
        self.log(record.id, map(plain, history))
        if record.id in self.last_epoch:
            results = {name: getattr(record, name) for name in RESULTS} if record.status == "ok" else {}
            self.tell("end", record.id, {name: value for name, value in results.items() if value is not None})
        self.progress.run(record, history)

    def log(self, run_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """What is new among the rows of a run."""
        for row in rows:
            if row["epoch"] <= self.last_epoch.get(run_id, 0):
                continue
            if run_id not in self.last_epoch:
                label, spec = self.runs[run_id]
                turned = "strength" if spec.strength is not None else "compression" if spec.compression else None
                name = f"{label}{f', {knob(turned, spec.knob)}' if turned else ''}, seed {spec.seed}"
                self.tell("begin", run_id, name, spec.to_dict())
            self.last_epoch[run_id] = row["epoch"]
            self.tell("row", run_id, {name: value for name, value in row.items() if value is not None})

    def tell(self, event: str, *words: Any) -> None:
        for name, logger in list(self.loggers.items()):
            try:
                getattr(logger, event)(*words)
            except (Exception, SystemExit) as error:  # of whatever others' code does
                del self.loggers[name]
                self.note(f"The logger {name} failed ({reason(error)}); it is left out, and the runs go on.")
