"""Trackio: the project dwfbench in a database on this disk; `trackio show --project dwfbench` opens it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dwfbench.experiments.loggers import Logger


class Trackio(Logger):
    """Where the database lies is Trackio's matter (TRACKIO_DIR), as are servers."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        import trackio

        self.trackio = trackio
        self.runs: dict[str, Any] = {}

    def begin(self, run_id: str, name: str, settings: Mapping[str, Any]) -> None:
        words: dict[str, Any] = {"config": dict(settings), "resume": "allow", "embed": False}
        words |= {"auto_log_gpu": False, "auto_log_cpu": False}
        self.runs[run_id] = self.trackio.init("dwfbench", name=f"{name} ({run_id})", **words)

    def row(self, run_id: str, row: Mapping[str, float]) -> None:
        values = {name: value for name, value in row.items() if name != "epoch"}
        self.runs[run_id].log(values, step=int(row["epoch"]))

    def end(self, run_id: str, results: Mapping[str, float]) -> None:
        run = self.runs.pop(run_id)
        if results:
            run.log({f"result/{name}": value for name, value in results.items()})
        run.finish()

    def close(self) -> None:
        for run in self.runs.values():
            run.finish()
