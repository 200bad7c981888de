"""Weights & Biases: a run of the project dwfbench each. WANDB_MODE=offline keeps them on disk for `wandb sync`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dwfbench.experiments.loggers import Logger


class WandB(Logger):
    """WANDB_PROJECT, WANDB_ENTITY and the other variables of the environment count."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        import wandb

        self.wandb = wandb
        self.runs: dict[str, Any] = {}

    def begin(self, run_id: str, name: str, settings: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        project = None if "WANDB_PROJECT" in os.environ else "dwfbench"
        self.runs[run_id] = self.wandb.init(
            project=project,
            id=run_id,
            name=name,
            config=dict(settings),
            dir=str(self.folder),
            resume="allow",
            reinit="create_new",  # many train at once
            settings=self.wandb.Settings(silent=True),
        )

    def row(self, run_id: str, row: Mapping[str, float]) -> None:
        self.runs[run_id].log(dict(row), step=int(row["epoch"]))

    def end(self, run_id: str, results: Mapping[str, float]) -> None:
        run = self.runs.pop(run_id)
        run.summary.update(dict(results))
        run.finish(exit_code=0 if results else 1)

    def close(self) -> None:
        for run in self.runs.values():
            run.finish(exit_code=1)
