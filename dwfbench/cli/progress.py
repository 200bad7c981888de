"""Progress on stderr: live bars on a terminal, plain lines elsewhere (logs of batch jobs)."""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from dwfbench.base.text import ACCURACY, knob, short
from dwfbench.execution.listener import Rows
from dwfbench.runs.record import Record
from dwfbench.runs.spec import RunSpec

PLAIN_INTERVAL = 30.0
"""Seconds between two progress lines where there is no terminal."""

LABEL = 28
"""Letters of a curve's label beside its bar, so that all of a line has room in 80 columns."""


@dataclass
class Curve:
    """What is known of a curve in training; ``progress`` counts runs, with fractions for epochs.

    ``first`` are the time and the progress when the first of its epochs was over: what is left is judged by what came
    after, as the compiler works before.
    """

    task: TaskID
    runs: int
    epochs: int
    done: int = 0
    progress: float = 0.0
    started: float | None = None
    first: tuple[float, float] | None = None

    def left(self, now: float) -> str:
        """How long the rest may take; empty where nothing is known of that."""
        if self.first is None or self.progress <= self.first[1]:
            return ""
        began, before = self.first
        return f", about {clock((now - began) * (self.runs - self.progress) / (self.progress - before))} left"


class Bars(Progress):
    """A bar a curve, of fixed parts, and below them a line on what trains just now, cut where the terminal ends."""

    line = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.line, no_wrap=True, overflow="crop")


class Reporter:
    """Shows what ``run.execute`` tells, curve by curve; a context manager. ``score`` is what the data are judged by."""

    def __init__(self, score: str = ACCURACY):
        self.validation = "val" if score == ACCURACY else f"val {score}"
        self.console = Console(stderr=True, highlight=False)
        self.live = self.console.is_terminal
        self.curves: dict[str, Curve] = {}
        self.reported = time.monotonic()
        self.bars = Bars(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=LABEL)),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[runs]}", table_column=whole()),
            TimeElapsedColumn(table_column=whole()),
            TimeRemainingColumn(table_column=whole()),
            TextColumn("left", table_column=whole()),
            console=self.console,
            disable=not self.live,
        )

    def __enter__(self):
        self.bars.start()
        return self

    def __exit__(self, *exception):
        self.bars.line = ""
        self.bars.stop()

    def curve(self, label: str, specs: Sequence[RunSpec], pending: int, epochs: int) -> None:
        """A curve of some runs, of which so many are to be trained; the others are stored.

        Curves of one label, such as the trials of a study, and what a curve grows by share a bar.
        """
        if pending < (runs := len(specs)):
            self.note(f"{label}: {runs - pending} of {runs} runs are stored already.")
        if pending and label in self.curves:
            curve = self.curves[label]
            curve.runs += pending
            curve.first = None  # other curves were trained meanwhile
            self.bars.update(curve.task, total=curve.runs)
        elif pending:
            title = label if len(label) <= LABEL else f"{label[: LABEL - 2]}.."
            task = self.bars.add_task(title, total=pending, runs=f"0/{pending} runs", start=False)
            self.curves[label] = Curve(task, pending, epochs)

    def compiling(self, label: str) -> None:
        """The first step of a curve is compiled."""
        self.begun(label)
        self.show(label, "compiling the step (once; 10 s on a quiet machine)")

    def epoch(self, label: str, lanes: int, row: Mapping[str, Any], epochs: int, rows: Rows) -> None:
        """So many epochs of a group of lanes are over, the last one with such a row of the history."""
        curve = self.begun(label)
        parts = [f"epoch {row['epoch']}/{curve.epochs}"] + [f"{lanes} at once"] * (lanes > 1)
        if row["train_loss"] is not None:
            parts.append(f"loss {short(row['train_loss'])}")
        if row["val_accuracy"] is not None:
            parts.append(f"{self.validation} {100 * row['val_accuracy']:.1f} %")
        if row["compression"] is not None:
            parts.append(f"CR {short(row['compression'])}")
        curve.progress = min(curve.progress + lanes * epochs / curve.epochs, curve.runs)
        curve.first = curve.first or (time.monotonic(), curve.progress)
        self.show(label, ", ".join(parts))

    def run(self, record: Record, history: list[dict]) -> None:
        """A run is stored."""
        curve = self.begun(record.label)
        curve.done += 1
        curve.progress = max(curve.progress, curve.done)
        turned = f"{knob(record.knob, record.knob_value)}, " if record.knob else ""
        name = f"{record.label}, {turned}seed {record.spec.seed}"
        if record.compression is None:
            self.note(f"{name}: {record.status}: {record.error} (run {record.id})")
        elif not self.live:
            part, accuracy = "test", record.test_accuracy
            if accuracy is None:
                part, accuracy = "val", record.val_accuracy or 0.0
            part = f"{part} {record.score}" if record.score else part
            self.note(f"{name}: {part} {100 * accuracy:.2f} % at CR {short(record.compression, 4)}")
        self.show(record.label)

    def begun(self, label: str) -> "Curve":
        curve = self.curves[label]
        if curve.started is None:
            curve.started = self.reported = time.monotonic()
            self.bars.start_task(curve.task)
        return curve

    def show(self, label: str, detail: str = "") -> None:
        curve = self.curves[label]
        self.bars.line = f"{label}: {detail}" if detail else self.bars.line
        self.bars.update(curve.task, completed=curve.progress, runs=f"{curve.done}/{curve.runs} runs")
        if not self.live and detail and time.monotonic() - self.reported > PLAIN_INTERVAL:
            self.reported = time.monotonic()
            spent = clock(self.reported - (curve.started or self.reported))
            self.note(f"{label}: {curve.done}/{curve.runs} runs, {detail}, {spent} gone{curve.left(self.reported)}")

    def note(self, text: str) -> None:
        with suppress(OSError):  # a full stderr ends no training
            self.console.print(text, soft_wrap=True, markup=False)


def whole() -> Column:
    """A column that is never cut."""
    return Column(no_wrap=True, overflow="crop")


def clock(seconds: float) -> str:
    """A time as the bars have it: 1:02:03."""
    return str(timedelta(seconds=round(seconds)))
