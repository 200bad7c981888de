"""One table of all histories as they come, for `tail -f` and spreadsheets."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dwfbench.base.escape import spreadsheet
from dwfbench.experiments.loggers import Logger
from dwfbench.runs.record import HISTORY


class Csv(Logger):
    """``history.csv``, a row an epoch and run, and ``runs.jsonl``, a line a run that begins or ends.

    What earlier commands wrote stays.
    """

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.names: dict[str, str] = {}

    def begin(self, run_id: str, name: str, settings: Mapping[str, Any]) -> None:
        self.names[run_id] = name
        self.line({"run": run_id, "name": name, "settings": settings})

    def row(self, run_id: str, row: Mapping[str, float]) -> None:
        path = self.folder / "history.csv"
        new = not path.exists()
        with open(path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(["run", "name", *HISTORY])
            writer.writerow([run_id, spreadsheet(self.names[run_id]), *(row.get(name, "") for name in HISTORY)])

    def end(self, run_id: str, results: Mapping[str, float]) -> None:
        self.line({"run": run_id, "name": self.names[run_id], "results": results})

    def line(self, content: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "runs.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")
