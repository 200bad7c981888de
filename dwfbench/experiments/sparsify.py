"""The short way from trained weights to a sparse network: DWF at some rates, each searched for a compression ratio.

Networks are chosen by the validation part alone; the test set is looked at for the one that was chosen, and for the
given weights.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import nn

from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.base.text import first_few
from dwfbench.data.dataset import Dataset, Split
from dwfbench.execution.listener import Progress
from dwfbench.execution.worker import Engine
from dwfbench.experiments import plan, targets
from dwfbench.experiments.plan import Curve, Request
from dwfbench.models import weights as trained
from dwfbench.runs.record import Record
from dwfbench.runs.store import Store
from dwfbench.training import loop
from dwfbench.training.evaluate import evaluate

GAP = 1.25
"""Factor between the compressions of the runs around the one asked for: the network has at most so much more."""

LEAST_EPOCHS, LEAST_STEPS, RUNS = 20, 2000, 6
"""Of a run, and runs of a rate, where the user does not say: fewer steps would take strengths that cost much."""


@dataclass(frozen=True)
class Budget:
    """The epochs of a run and of all runs together, and the learning ``rates`` that share them."""

    epochs: int
    total: int
    rates: tuple[float, ...]

    @classmethod
    def of(cls, request: Request, dataset: Dataset, epochs: int | None, total: int | None, rates: Sequence[float]):
        """What was given, and the usual for the rest."""
        batch_size = plan.bare_spec(request.method, request.settings).batch_size
        steps = loop.steps_in_epoch(len(dataset.train), batch_size)
        epochs = epochs or max(LEAST_EPOCHS, math.ceil(LEAST_STEPS / steps))
        return cls(epochs, total or RUNS * epochs * len(rates), tuple(rates))

    @property
    def runs(self) -> int:
        """Strengths that each rate may try. UsageError where they are fewer than two."""
        count = self.total // (self.epochs * len(self.rates))
        if count < 2:
            raise UsageError(
                f"--budget {self.total} has no two runs of {self.epochs} epochs for each of the learning rates; give "
                "more, or fewer --epochs or --rates."
            )
        return count


class Judged(NamedTuple):
    """What a network is worth: accuracies (or scores) on the validation part and the test set, fractions."""

    validation: float | None
    test: float | None


def curves(request: Request, compression: float, budget: Budget, dataset: Dataset) -> list[Curve]:
    """A curve of DWF for every rate, to be searched for the compression. UsageError where nothing can be chosen by."""
    if not len(dataset.val):
        raise UsageError("The best is chosen by the validation part, which is empty; give a --val-fraction above 0.")
    shared = {name: value for name, value in request.settings.items() if name not in ("strength", "points", "seeds")}
    settings = {**shared, "compression": [compression], "max_runs": budget.runs, "max_gap": GAP, "seed": [0]}
    settings["epochs"] = budget.epochs
    return [plan.curve(replace(request, settings={**settings, "lr": rate}), dataset) for rate in budget.rates]


def train(tried: Sequence[Curve], dataset: Dataset, store: Store, engine: Engine, progress: Progress) -> list[Record]:
    """The records of all runs that ended well, their networks kept, the test set not looked at."""
    saving_engine = replace(engine, test=False, save_model=True)
    grown, _ = targets.execute_to_targets(list(tried), dataset, store, saving_engine, progress)
    records = [store.read(spec.id) for curve in grown for spec in curve.specs]
    return [record for record in records if record is not None and record.status == "ok"]


def best(records: Sequence[Record], compression: float) -> Record | None:
    """The run that is best on the validation part, of those at the compression asked for, else of all sparser ones.

    A run is at the compression up to GAP times it; of equals the sparsest is taken. Runs without a
    path from input to output do not count. None where no run is as sparse.
    """
    alive = [record for record in records if record.connected is not False]
    sparse = [record for record in alive if (record.compression or 0) >= compression * (1 - 1e-9)]
    near = [record for record in sparse if (record.compression or 0) <= compression * GAP]
    return max(near or sparse, key=worth, default=None)


def sparsest(records: Sequence[Record]) -> str:
    """The three highest compressions, as text, and which of them are of a network without a path."""
    rising = sorted((record.compression or 1, record.connected is False) for record in records)
    return ", ".join(f"{ratio:.4g}{' without a path from input to output' * dead}" for ratio, dead in rising[-3:])


def sparser(records: Sequence[Record], chosen: Record) -> Record | None:
    """The best run beyond the chosen one that is at least as good on the validation part, if there is any."""
    further = [record for record in records if (record.compression or 0) > (chosen.compression or 0)]
    return max((record for record in further if worth(record) >= worth(chosen)), key=worth, default=None)


def worth(record: Record) -> tuple[float, float]:
    """What runs are compared by: validation accuracy, then compression."""
    return record.val_accuracy or 0, record.compression or 0


def given_network(curve: Curve, dataset: Dataset) -> nn.Module:
    """The network with the weights that runs start from. UsageError where the file lacks some of them."""
    spec = curve.specs[0]
    assert spec.init is not None
    network = models.build_for(spec, dataset)
    if absent := trained.put_into(network, spec.init):
        raise UsageError(
            f"The weights {spec.init} lack {first_few(absent)}, so that they have no {dataset.task.name} to lose."
        )
    return network


def judged(network: nn.Module, dataset: Dataset) -> Judged:
    """The network on the validation part and on the test set."""
    network = network.to(dataset.train.images.device)
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    state = {name: value.detach()[None] for name, value in tensors.items()}

    def on(split: Split) -> float | None:
        return evaluate(network, state, split, dataset).accuracy[0]

    return Judged(on(dataset.val), on(dataset.test))
