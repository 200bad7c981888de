"""Curves with the settings that won their study: at each compression those of the nearest target."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from dwfbench.base.errors import UsageError
from dwfbench.data.dataset import Dataset
from dwfbench.experiments import knobs, plan, search, tune
from dwfbench.experiments.plan import Curve, Request
from dwfbench.runs.record import Study, Trial, Tuned
from dwfbench.runs.store import Store

SAME = 0.02
"""Compression ratios that differ by less, relatively, are not told apart: seeds differ by more."""


def curves(request: Request, dataset: Dataset, folder: Path) -> tuple[list[Curve], str | None]:
    """The curves of a request, one for each of the settings that won, which share their compression ratios; and what
    was not tuned, as a sentence: a method has the settings of its recipe, a target without a winner those of the next.

    Raises UsageError for a seed that took part in the choice, and for a study that cannot be read.
    """
    store = Store(folder)
    study = store.study(tune.study_name(request, dataset))
    if store.damaged:
        raise UsageError(store.damaged[0])
    if study is None or (study.winners and not any(winner is not None for winner in study.winners)):
        why = "has no tuning" if study is None else "has no winner in the tuning"
        curve = plan.curve(request, dataset)
        return [curve], (
            f"{request.method.label()} {why} with these settings in {folder}; it takes the learning rate of its recipe "
            f"or of --config, {curve.specs[0].lr:g}."
        )
    took_part = study.budget.get("seeds")
    if shared := [
        seed for seed in knobs.seeds_of(request.settings) if isinstance(took_part, list) and seed in took_part
    ]:
        raise UsageError(
            f"The settings of {request.method.label()} were chosen by seed {shared[0]}, so that it cannot be reported; "
            "give other seeds by --seed."
        )
    tuned_curves = []
    for place, part in shares(request, study).items():
        trial = study.trials[place]
        known = ratios(trial, request.method.knob, store)
        if request.method.knob != "compression":
            curve = plan.curve(tune.chosen(part, trial.values), dataset, known)
        else:
            wanted = compressions(part)
            values = asked(wanted, known)
            part = replace(part, settings={**part.settings, "compression": values})
            curve = replace(plan.curve(tune.chosen(part, trial.values), dataset), note=said(request, wanted, values))
        tuned_curves.append(replace(curve, tuned=provenance(study, place)))
    lacking = [f"{target:g}" for target, place in zip(study.targets, study.winners, strict=True) if place is None]
    if not lacking:
        return tuned_curves, None
    return tuned_curves, (
        f"{request.method.label()} has no winner at CR {', '.join(lacking)} in the tuning in {folder}; the settings of "
        "the nearest target with a winner are taken."
    )


def adopt(curves: Sequence[Curve], store: Store) -> int:
    """Say of stored runs of these curves which study chose their settings, and of how many that was not said yet: they
    were trained with the same settings given by hand, or chosen by an earlier tuning."""
    count = 0
    for curve in (curve for curve in curves if curve.tuned is not None):
        for record in filter(None, (store.read(spec.id) for spec in curve.specs)):
            if record.status == "ok" and record.provenance.tuned != curve.tuned:
                origin = structs.replace(record.provenance, tuned=curve.tuned)
                store.amend(structs.replace(record, provenance=origin))
                count += 1
    return count


def ratios(trial: Trial, knob: str | None, store: Store) -> dict[float, float]:
    """The compression ratios by knob value of a trial's runs: what its settings are known to do."""
    records = [record for name in trial.runs if (record := store.read(name)) is not None]
    turned = [(getattr(record.spec, knob or "", None), record.compression) for record in records]
    return {value: ratio for value, ratio in turned if value and ratio}


def asked(wanted: Sequence[float], known: Mapping[float, float]) -> list[float]:
    """What a pruner is asked for, so that its networks end at the compression ratios that are wanted.

    Weights that lead to no output vanish under weight decay, at large learning rates most of what a mask keeps. So the
    line, in logarithms, through what the trial's runs came to is followed back; where it leads nowhere, or to within
    ``SAME`` of what is wanted, that is asked for.
    """
    runs = sorted(known.items())
    pairs = list(itertools.pairwise((math.log(ratio), math.log(value)) for value, ratio in runs))
    chosen = []
    for target in wanted:
        ratio = math.log(target)
        around = [pair for pair in pairs if pair[0][0] < ratio <= pair[1][0]]
        if around:
            ratio = search.through(min(around, key=lambda pair: pair[1][0] - pair[0][0]), ratio)
        value = float(f"{math.exp(ratio):.3g}")
        chosen.append(target if abs(value / target - 1) < SAME else value)
    return chosen


def said(request: Request, wanted: Sequence[float], values: Sequence[float]) -> str | None:
    """Which values are asked for that are not the ratios that are wanted, as a line."""
    changed = [(ratio, value) for ratio, value in zip(wanted, values, strict=True) if value != ratio]
    if not changed:
        return None
    pairs = ", ".join(f"{value:g} for CR {ratio:g}" for ratio, value in changed)
    return f"{request.method.label()}: asked for {pairs}, as its trial's networks ended sparser than asked."


def shares(request: Request, study: Study) -> dict[int, Request]:
    """What of the request each winner takes, by its place among the trials.

    Compression ratios go to the target nearest in the logarithm. Where a method has none, or strengths are listed,
    whose compression nobody knows before, all goes to the trial that is best as a whole, as it does in earlier studies.
    """
    wanted_ratios = compressions(request)
    won = [(target, place) for target, place in zip(study.targets, study.winners, strict=True) if place is not None]
    if not wanted_ratios or not won:
        return {study.best: request}
    parts: dict[int, list[float]] = {}
    for ratio in wanted_ratios:
        _, place = min(won, key=lambda pair: abs(math.log(pair[0] / ratio)))
        parts.setdefault(place, []).append(ratio)
    return {
        place: replace(request, settings={**request.settings, "compression": ratios}) for place, ratios in parts.items()
    }


def compressions(request: Request) -> Sequence[float]:
    """The compression ratios that a request asks for, if it is known which."""
    method, settings = request.method, request.settings
    if method.knob == "compression":
        return [value for value in knobs.values(method, settings, None, 1.0) if value is not None]
    return knobs.targets_of(method, settings)


def provenance(study: Study, place: int) -> Tuned:
    """How settings were chosen: by which study, at which of its targets, and with what score there."""
    trial = study.trials[place]
    at = [number for number, winner in enumerate(study.winners) if winner == place]
    scores = [score for number in at if (score := trial.scores[number]) is not None]
    return Tuned(
        study=study.id,
        trials=len(study.trials),
        objective=sum(scores) / len(scores) if scores else trial.value,
        targets=[study.targets[number] for number in at],
        values=trial.values,
    )
