"""Progress on stderr: live bars on a terminal, plain lines elsewhere (logs of batch jobs)."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_INTERVAL = 30.0
"""Seconds between two progress lines where there is no terminal."""


class Reporter:
    """Shows what ``runner.execute`` tells, curve by curve; a context manager around the work."""

    def __init__(self):
        self.console = Console(stderr=True, highlight=False)
        self.live = self.console.is_terminal
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("runs"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.live,
        )

    def __enter__(self):
        self.bars.start()
        return self

    def __exit__(self, *exception):
        self.bars.stop()

    def curve(self, curve, pending: int) -> None:
        """A curve begins, with so many runs to train; the others are stored."""
        self.label, self.runs, self.done = curve.method.label(), pending, 0
        self.epochs = curve.specs[0].epochs
        stored = len(curve.specs) - pending
        if stored:
            self.note(f"{self.label}: {stored} of {len(curve.specs)} runs are stored already.")
        if pending:
            self.task = self.bars.add_task(self.label, total=pending, detail="")
            self.started = self.told = time.monotonic()

    def epoch(self, epoch: int, lanes: list) -> None:
        """An epoch of a group of lanes is over; shown is the lane in the middle of the group."""
        last = lanes[len(lanes) // 2].history[-1]
        parts = [f"epoch {epoch}/{self.epochs}", f"lanes {len(lanes)}"]
        if last["val_accuracy"] is not None:
            parts.append(f"val {100 * last['val_accuracy']:.1f} %")
        if last["compression"] is not None:
            parts.append(f"CR {last['compression']:.3g}")
        detail = ", ".join(parts)
        progress = self.done + len(lanes) * epoch / self.epochs
        self.bars.update(self.task, completed=progress, detail=detail)
        if not self.live and time.monotonic() - self.told > PLAIN_INTERVAL:
            self.told = time.monotonic()
            left = (self.told - self.started) * (self.runs / progress - 1)
            self.note(f"{self.label}: runs {self.done}/{self.runs}, {detail}, about {left:.0f} s left")

    def run(self, record: Mapping[str, Any]) -> None:
        """A run is stored."""
        self.done += 1
        self.bars.update(self.task, completed=self.done)
        spec = record["spec"]
        knob = f", {record['knob']} {spec[record['knob']]:.3g}" if record["knob"] else ""
        name = f"{record['label']}{knob}, seed {spec['seed']}"
        if record["status"] != "ok":
            self.note(f"{name}: {record['status']}: {record['error']} (run {record['id']})")
        elif not self.live:
            self.note(f"{name}: {100 * record['test_accuracy']:.2f} % at CR {record['compression']:.4g}")

    def note(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False)
