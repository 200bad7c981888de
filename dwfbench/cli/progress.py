"""Progress on stderr: live bars on a terminal, plain lines elsewhere (logs of batch jobs)."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
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
    """A curve in training: its bar, which counts runs with fractions for epochs, and how many runs are stored."""

    bar: Task
    epochs: int
    done: int = 0


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
            get_time=time.monotonic,
            speed_estimate_period=math.inf,  # an epoch may take minutes
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
            bar = self.curves[label].bar
            self.bars.update(bar.id, total=(bar.total or 0) + pending)
        elif pending:
            title = label if len(label) <= LABEL else f"{label[: LABEL - 2]}.."
            self.bars.add_task(title, total=pending, runs=f"0/{pending} runs", start=False)
            self.curves[label] = Curve(self.bars.tasks[-1], epochs)

    def compiling(self, label: str) -> None:
        """The first step of a curve is compiled."""
        self.show(label, self.begun(label).bar.completed, "compiling the step (once; 10 s on a quiet machine)")

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
        self.show(label, curve.bar.completed + lanes * epochs / curve.epochs, ", ".join(parts))

    def run(self, record: Record, history: list[dict]) -> None:
        """A run is stored."""
        curve = self.begun(record.label)
        curve.done += 1
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
        self.show(record.label, max(curve.bar.completed, curve.done))

    def begun(self, label: str) -> "Curve":
        curve = self.curves[label]
        if not curve.bar.started:
            self.reported = time.monotonic()
            self.bars.start_task(curve.bar.id)
        return curve

    def show(self, label: str, completed: float, detail: str = "") -> None:
        curve = self.curves[label]
        bar, runs = curve.bar, f"{curve.done}/{curve.bar.total:g} runs"
        self.bars.line = f"{label}: {detail}" if detail else self.bars.line
        self.bars.update(bar.id, completed=min(completed, bar.total or 0), runs=runs)
        if not self.live and detail and time.monotonic() - self.reported > PLAIN_INTERVAL:
            self.reported = time.monotonic()
            left = f", about {clock(bar.time_remaining)} left" if bar.time_remaining else ""
            self.note(f"{label}: {runs}, {detail}, {clock(bar.elapsed or 0)} gone{left}")

    def note(self, text: str) -> None:
        with suppress(OSError):  # a full stderr ends no training
            self.console.print(text, soft_wrap=True, markup=False)


def whole() -> Column:
    """A column that is never cut."""
    return Column(no_wrap=True, overflow="crop")


def clock(seconds: float) -> str:
    """A time as the bars have it: 1:02:03."""
    return str(timedelta(seconds=round(seconds)))
