"""TensorBoard: a folder of events a run; `tensorboard --logdir RESULTS/logs/tensorboard` shows them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dwfbench.experiments.loggers import Logger


class TensorBoard(Logger):
    """Columns of the history are scalars by epoch, what a run came to are scalars ``result/...`` at its last one."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        import tensorboard  # noqa: F401 (PyTorch's writer needs it, and says less clearly that it is missing)
        from torch.utils.tensorboard import SummaryWriter

        self.make = SummaryWriter
        self.writers: dict[str, Any] = {}
        self.last_epoch: dict[str, int] = {}

    def begin(self, run_id: str, name: str, settings: Mapping[str, Any]) -> None:
        readable = re.sub(r"[^\w.=+-]+", "_", name)
        writer = self.writers[run_id] = self.make(str(self.folder / f"{readable}_{run_id}"))
        writer.add_text("settings", f"```\n{json.dumps(settings, indent=1)}\n```")

    def row(self, run_id: str, row: Mapping[str, float]) -> None:
        self.last_epoch[run_id] = epoch = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch":
                self.writers[run_id].add_scalar(name, value, epoch)
        self.writers[run_id].flush()

    def end(self, run_id: str, results: Mapping[str, float]) -> None:
        writer = self.writers.pop(run_id)
        for name, value in results.items():
            writer.add_scalar(f"result/{name}", value, self.last_epoch[run_id])
        writer.close()

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()
