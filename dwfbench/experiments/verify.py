"""Do stored runs come out again? Some are trained once more, from their records alone, and compared."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.data import dataset as data
from dwfbench.execution.collect import machine
from dwfbench.execution.listener import Progress
from dwfbench.execution.worker import Engine
from dwfbench.experiments import run
from dwfbench.experiments.plan import Curve
from dwfbench.methods import registry
from dwfbench.runs import repeat
from dwfbench.runs.record import Record
from dwfbench.runs.spec import DATA_KEYS, RunSpec
from dwfbench.runs.store import Store

POINTS = 1.0
"""Difference in test accuracy, in points, that rounding on another machine may make."""

RATIO = 1.1
"""Factor in compression that it may make."""

SPREADS = 3
"""Where other seeds of the setting differ more than that, so may a repetition: by this many times their range."""

MOST_POINTS, MOST_RATIO = 10.0, 2.0
"""What is further off agrees with nothing."""


class Comparison(NamedTuple):
    """A stored run, the record of its repetition, and how far the two may be apart: see ``allowed``."""

    record: Record
    again: Record
    points: float
    ratio: float

    @property
    def agrees(self) -> bool:
        if self.again.status != "ok":
            return False
        difference = abs(accuracy(self.again) - accuracy(self.record)) * 100
        factor = compression(self.again) / compression(self.record)
        return difference <= self.points + 1e-9 and 1 / self.ratio <= factor <= self.ratio


def accuracy(record: Record) -> float:
    """On the test set, of a run that has seen it."""
    assert record.test_accuracy is not None
    return record.test_accuracy


def compression(record: Record) -> float:
    """Of a run that ended well."""
    assert record.compression is not None
    return record.compression


def spec_of(record: Record) -> RunSpec:
    """The spec that a record stores, whole, as RunSpec.

    Raises UsageError when it does not give the record's id: the record was edited, or a default has changed.
    """
    repeat.refuse_unknown(record)
    method = registry.create(record.spec.method, record.spec.options)
    spec = RunSpec(**{**record.spec.to_dict(), "options": method.changed()})
    if spec.id != run_id(record):
        raise UsageError(
            f"The settings of the run {record.id} give the id {spec.id} now: they were edited, or a default changed."
        )
    return spec


def run_id(record: Record) -> str:
    """The run's own id, without the set of results by which a run of several sets is told apart."""
    return record.id.partition("@")[0]


def tested(records: Iterable[Record]) -> list[Record]:
    """Those of the records whose runs ended well and have seen the test set."""
    return [record for record in records if record.status == "ok" and record.test_accuracy is not None]


def sample(records: Iterable[Record], count: int, seed: int) -> list[Record]:
    """``count`` of the runs that ended well, drawn without replacement; all if there are no more.

    The trials of tuning, which have not seen the test set, are none of them.
    """
    good = sorted(tested(records), key=lambda record: record.id)
    return random.Random(seed).sample(good, min(count, len(good)))


def allowed(record: Record, records: Sequence[Record]) -> tuple[float, float]:
    """How far a repetition may be away: points of accuracy and factor of compression, see POINTS, RATIO, SPREADS.

    The seed of the record itself says nothing of the spread, or the record would decide how it is judged.
    """

    def setting(run: Record) -> dict[str, Any]:
        return {name: value for name, value in run.settings().items() if name != "seed"}

    others = [run for run in tested(records) if run.spec.seed != record.spec.seed and setting(run) == setting(record)]
    if not others:
        return POINTS, RATIO
    accuracies = [100 * accuracy(run) for run in others]
    ratios = [compression(run) for run in others]
    points = max(POINTS, SPREADS * (max(accuracies) - min(accuracies)))
    ratio = max(RATIO, (max(ratios) / min(ratios)) ** SPREADS)
    return min(points, MOST_POINTS), min(ratio, MOST_RATIO)


def verify(
    records: Sequence[Record],
    chosen: Sequence[Record],
    data_dir: Path | None,
    store: Store,
    engine: Engine,
    progress: Progress,
    model: str | None = None,
) -> list[Comparison]:
    """Train the ``chosen`` of the ``records`` again into ``store``, another folder, and compare.

    ``model`` names a network of one's own, see ``models.check_named``. Raises UsageError as that and ``spec_of`` do,
    and when the data are not those of the records.
    """
    groups: dict[tuple, list[tuple[Record, RunSpec]]] = {}
    for record in chosen:
        spec, origin = spec_of(record), record.provenance
        models.check_named(spec.model, model)
        # Compiled steps and groups round differently from eager ones and runs alone, so each run is trained as it was.
        # Of a GPU's group nobody knows whether it has room here, or is of any use.
        lanes = origin.lanes if origin.device == engine.device.type == "cpu" else None
        key = (origin.compiled, lanes, spec.dataset, *(getattr(spec, key) for key in DATA_KEYS))
        groups.setdefault(key, []).append((record, spec))
    store.prepare()
    for (compiled, lanes, name, *values), runs in groups.items():
        dataset = data.load(name, data_dir=data_dir, **dict(zip(DATA_KEYS, values, strict=True))).to(engine.here)
        if differing := [record.id for record, _ in runs if record.provenance.data_checksum != dataset.checksum]:
            raise UsageError(f"The data named {name} are not those of the run {differing[0]}: their checksum differs.")
        specs = {spec.id: spec for _, spec in runs}.values()  # two sets may have a run
        curves = [Curve(registry.create(spec.method, dict(spec.options)), (spec,), 0.0, None) for spec in specs]
        compile = compiled and machine(engine).compiler if engine.compile is None else engine.compile
        as_then = replace(engine, compile=compile, lanes=engine.lanes or lanes)
        run.execute(curves, dataset, store, as_then, progress)
    comparisons = []
    for record in chosen:
        repetition = store.read(run_id(record))
        assert repetition is not None  # it has just been stored
        comparisons.append(Comparison(record, repetition, *allowed(record, records)))
    return comparisons
