"""Settings -> curves: which runs a command means.

Settings come in layers, later ones win: the defaults of RunSpec, the recipe of the model and data set, a config
file, the command line; within recipe and config, the table of a method wins over the general keys.

A method that is turned by its strength takes a list of compression ratios as targets: it starts from a few strengths
over its useful range, and the runner adds others until its runs lie around every target (``search``).
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.data import dataset as data
from dwfbench.dwf.factors import decay_budget
from dwfbench.dwf.parametrization import draw, weights_of
from dwfbench.experiments.search import rounded
from dwfbench.methods import registry
from dwfbench.methods.contract import Method
from dwfbench.methods.stage import rate_sum
from dwfbench.runs import spec
from dwfbench.runs.record import Tuned
from dwfbench.runs.spec import RunSpec
from dwfbench.sparsity.count import prunable
from dwfbench.training import loop

DEFAULT_POINTS = 7
COMPRESSION_RANGE = (2.0, 300.0)
TARGETED_POINTS = 4
"""Strengths with which the search for targets begins."""
MAX_RUNS = 16
MOST = 10_000
"""Runs of a curve, and whatever else is counted."""

MOST_STEPS = 10_000_000
"""Steps of a run: its learning rates are a list."""

STRENGTH_RANGE = (1e-5, 1e-3)
"""Strengths of methods that do not work by decay, where a recipe names none."""


@dataclass(frozen=True)
class Curve:
    """The runs of one method with one set of options.

    ``reach`` is sum of learning rates / (1 - momentum), so that strength * reach is the decay budget of a run;
    ``needed`` is the budget that brings half of the initial weights to zero, None for methods without decay.
    Around each of the ``targets``, compression ratios, there are to be runs, with ``most`` strengths at most.
    ``tuned`` says by which study its settings were chosen, if they were (``tuning.winner``).
    """

    method: Method
    specs: tuple[RunSpec, ...]
    reach: float
    needed: float | None
    targets: tuple[float, ...] = ()
    most: int = MAX_RUNS
    tuned: Tuned | None = None

    def budget(self, one: RunSpec) -> float | None:
        """Decay budget of a run of a method that works by decay, else None."""
        return None if self.needed is None or one.strength is None else one.strength * self.reach

    def at(self, strengths: Iterable[float]) -> "Curve":
        """The same curve at other strengths, with the same seeds."""
        first = {one.seed: one for one in self.specs}
        return replace(self, specs=tuple(replace(one, strength=value) for one in first.values() for value in strengths))


def general(layers: Iterable[Mapping[str, Any]], name: str, default: Any) -> Any:
    """A setting that is not a method's own (model, dataset, methods, ...), from the last layer that has it."""
    found = [layer[name] for layer in layers if layer.get(name) is not None]
    return found[-1] if found else default


@dataclass(frozen=True)
class Request:
    """A method with one set of options, and all settings that were given for it, merged."""

    method: Method
    settings: Mapping[str, Any]


def plan(layers: Sequence[Mapping[str, Any]], flags: Mapping[str, Any], dataset: data.Dataset) -> list[Curve]:
    """The curves that settings ask for; arguments and errors as in ``requests``."""
    return [curve(one, dataset) for one in requests(layers, flags)]


def requests(layers: Sequence[Mapping[str, Any]], flags: Mapping[str, Any]) -> list[Request]:
    """What settings ask for.

    ``layers`` are recipe and config (as ``spec.read_toml`` gives them), ``flags`` the command line: fields of
    RunSpec, CURVE_KEYS, ``methods`` and options of methods, which may be lists (every combination is a curve).
    Of the ``methods`` each is a name, or (name, settings) where the settings are that entry's own and win over all
    others. Raises UsageError for unknown names, options that no chosen method has, values out of range, budgets
    without a step, and the same curve with two lists of runs.
    """
    named = as_list(general([*layers, flags], "methods", ["dwf"]))
    # path/to/file.py:Class has a name of its own
    entries = [(registry.load(name), bound) for name, bound in ((n, {}) if isinstance(n, str) else n for n in named)]
    layers = [{**layer, "method": own_tables(layer)} for layer in layers]
    check_options({kind.name: kind for kind, _ in entries}, layers, flags)
    found: dict[tuple[Method, str], Request] = {}  # a value that is listed twice is one curve
    for kind, bound in entries:
        check_bound(kind, bound)
        given = {key: value for key, value in flags.items() if value is not None} | dict(bound)
        options = [item.name for item in fields(kind)]
        swept: dict[str, list] = {}
        for layer in [*(layer.get("method", {}).get(kind.name, {}) for layer in layers), given]:
            swept |= {key: as_list(layer[key]) for key in options if layer.get(key) is not None}
        for values in itertools.product(*swept.values()):
            chosen = registry.create(kind.name, dict(zip(swept, values, strict=True)))
            settings = over(settings_of(chosen, layers, flags), bound)
            setting = repr([settings.get(key) for key in spec.settings()])
            request = found.setdefault((chosen, setting), Request(chosen, settings))
            if any(request.settings.get(key) != settings.get(key) for key in spec.CURVE_KEYS):
                raise UsageError(f"{chosen.label()} is asked for twice, with other runs; ask once, with all of them.")
    return list(found.values())


def check_bound(kind: type[Method], bound: Mapping[str, Any]) -> None:
    """UsageError for a key in a method's brackets that is not its own, naming the nearest that is."""
    allowed = [*spec.settings(), *spec.CURVE_KEYS, *(item.name for item in fields(kind))]
    for key in bound:
        if key not in allowed:
            raise UsageError(f"--method {kind.name}[...]: unknown key {key!r}{spec.nearest(key, allowed)}")
        if key in ("model", "dataset", *spec.DATA_KEYS):
            flag = key.replace("_", "-")
            raise UsageError(f"{key} is the same for all methods; give --{flag}, not --method {kind.name}[{key}=...].")
    check_knobs([kind], bound)


def own_tables(layer: Mapping[str, Any]) -> dict[str, Mapping]:
    """The tables ``[method.NAME]`` of a layer by the names of their methods, which those from files get when loaded."""
    return {registry.load(name).name: table for name, table in layer.get("method", {}).items()}


def check_options(kinds: Mapping[str, type[Method]], layers: Iterable[Mapping], flags: Mapping[str, Any]) -> None:
    """UsageError for a key that nothing reads, naming the nearest that something does."""
    shared = [*spec.settings(), *spec.CURVE_KEYS, "methods"]
    own = {item.name for kind in kinds.values() for item in fields(kind)}
    for key in flags:
        if key not in shared and key not in own:
            chosen = ", ".join(kinds)
            flag = key.replace("_", "-")
            raise UsageError(
                f"--{flag} is neither a flag of run nor an option of {chosen}{spec.nearest(key, [*shared, *own])}"
            )
    check_knobs(kinds.values(), flags)
    for layer in layers:
        for name, table in layer.get("method", {}).items():
            allowed = [*shared, *(item.name for item in fields(registry.load(name))), "when"]
            for key in itertools.chain(table, *table.get("when", [])):
                if key not in allowed:
                    raise UsageError(f"[method.{name}]: unknown key {key!r}{spec.nearest(key, allowed)}")


def check_knobs(kinds: Iterable[type[Method]], given: Mapping[str, Any]) -> None:
    """UsageError for values of a knob that none of the methods has."""
    knobs = {kind.knob for kind in kinds}
    if "strength" in knobs:
        knobs.add("compression")  # as targets
    for key in ("strength", "strength_range", "strength_max", "compression", "compression_range"):
        knob = key.partition("_")[0]
        if given.get(key) is not None and knob not in knobs:
            names = ", ".join(kind.name for kind in kinds)
            raise UsageError(f"--{knob} is not the knob of {names}; see `dwfbench list methods`.")


def settings_of(chosen: Method, layers: Iterable[Mapping[str, Any]], flags: Mapping[str, Any]) -> dict[str, Any]:
    """All layers merged for one method. ``[[method.NAME.when]]`` tables count when their options match."""
    options = {item.name: getattr(chosen, item.name) for item in fields(chosen)}
    merged: dict[str, Any] = {}
    for layer in layers:
        table = layer.get("method", {}).get(chosen.name, {})
        merged = over(merged, {key: value for key, value in layer.items() if key != "method"})
        merged = over(merged, table)
        for when in table.get("when", []):
            if all(options[key] == value for key, value in when.items() if key in options):
                merged = over(merged, when)
    return over(merged, {key: value for key, value in flags.items() if value is not None})


DISPLACES = {
    "seeds": ("seed",),
    "points": ("strength", "compression"),
    "compression": ("strength",),
    "strength_range": ("strength",),
    "strength_max": ("strength", "strength_range"),
    "compression_range": ("compression",),
}
"""What a lower layer says in another way: asking for points asks for a grid, whatever a recipe lists."""


def over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Two layers merged; the upper wins, also over what it displaces."""
    displaced = {other for key in upper for other in DISPLACES.get(key, ())}
    return {key: value for key, value in lower.items() if key not in displaced} | dict(upper)


def curve(request: Request, dataset: data.Dataset) -> Curve:
    """The seeds times the knob values."""
    chosen, settings = request.method, request.settings
    base = base_spec(request, dataset)
    chosen.check(base, dataset)
    steps = loop.steps_in_epoch(len(dataset.train.labels), base.batch_size)
    if steps * base.epochs > MOST_STEPS:
        raise UsageError(
            f"{base.epochs} epochs of {steps} steps are more than {MOST_STEPS:,} steps; take fewer or a larger batch."
        )
    stages = chosen.stages(base.epochs)
    if sum(stage.epochs for stage in stages) != base.epochs:
        raise UsageError(f"The stages of {chosen.name} do not add up to {base.epochs} epochs.")
    rates = rate_sum(base.lr, stages, steps, base.warmup_epochs, base.drops, base.lr_drop_factor)
    reach = decay_budget(1.0, rates, base.momentum)
    seeds = seeds_of(settings)
    needed = chosen.needed_budget(initial_weights(chosen, base, dataset))
    knobs = knob_values(chosen, settings, None if needed is None else needed / reach)
    if len(seeds) * len(knobs) > MOST:
        raise UsageError(f"A curve of {len(seeds)} seeds and {len(knobs)} knob values has more than {MOST:,} runs.")
    knob: list[dict[str, Any]] = [{chosen.knob: value} if chosen.knob else {} for value in knobs]
    specs = [replace(base, seed=seed, **turned) for seed in seeds for turned in knob]
    unique = tuple({one.id: one for one in specs}.values())
    return Curve(chosen, unique, reach, needed, targets_of(chosen, settings), whole(settings, "max_runs", MAX_RUNS))


def seeds_of(settings: Mapping[str, Any]) -> list[int]:
    """The listed seeds, or so many counted from 0."""
    if settings.get("seed") is not None:
        return as_list(settings["seed"])
    return list(range(whole(settings, "seeds", 1)))


def base_spec(request: Request, dataset: data.Dataset) -> RunSpec:
    """What the runs of a curve have in common, with the default seed."""
    chosen, settings = request.method, request.settings
    shared = {key: settings[key] for key in spec.settings() if settings.get(key) is not None}
    model = models.identity(shared.get("model", RunSpec.model))
    shared |= {"method": chosen.name, "options": chosen.changed(), "dataset": dataset.name, "model": model}
    if not chosen.decays:
        shared["weight_decay"] = 0.0  # so that a setting without effect does not split a curve
    return RunSpec(**shared)


def targets_of(chosen: Method, settings: Mapping[str, Any]) -> tuple[float, ...]:
    """The compression ratios around which a method with a strength is to have runs; none if strengths are listed."""
    if chosen.knob != "strength" or settings.get("strength") is not None or settings.get("compression") is None:
        return ()
    targets = tuple(as_list(settings["compression"]))
    if not all(isinstance(target, (int, float)) and target > 1 for target in targets):
        raise UsageError(f"Target compression ratios must be above 1 for {chosen.label()}, not {list(targets)}.")
    return targets


def initial_weights(chosen: Method, base: RunSpec, dataset: data.Dataset) -> dict[str, torch.Tensor]:
    """The effective weights with which the method would start (of one seed; only their size is of interest)."""
    network = models.build(base.model, dataset.input_shape, dataset.classes, base.seed)
    weights = {name: value.detach() for name, value in prunable(network).items()}
    space = chosen.stages(base.epochs)[0].parametrization
    return weights_of(space, draw(space, weights, torch.Generator().manual_seed(base.seed)))


def knob_values(chosen: Method, settings: Mapping[str, Any], lowest: float | None) -> Sequence[float | None]:
    """The listed values of the method's knob, or ``points`` of them spread evenly in the logarithm.

    ``lowest`` is the strength whose decay budget brings half of the weights to zero; the default strengths go from
    there to the recipe's ``strength_max``, or to four times it. They are fewer where targets will call for others.
    """
    targets = targets_of(chosen, settings)
    if chosen.knob is None:
        return [None]
    if settings.get(chosen.knob) is not None:
        return as_list(settings[chosen.knob])
    if chosen.knob == "strength":
        floor = lowest or STRENGTH_RANGE[0]
        top = settings.get("strength_max")
        if top is None:
            top = 4 * floor if lowest else STRENGTH_RANGE[1]
        if not isinstance(top, (int, float)) or not 0 < top < math.inf:
            raise UsageError(f"strength_max must be a positive number, not {top!r}.")
        if targets:
            top = max(top, 2 * floor)  # a recipe's highest strength may be meant for another learning rate
        if not settings.get("strength_range") and top <= floor:
            raise UsageError(
                f"Strengths of {chosen.label()} would go up to {top:g} (strength_max), but so few or small steps decay "
                f"half of the weights to zero only from {floor:.3g} on: train longer, or give --strength or "
                "--strength-range."
            )
        span = settings.get("strength_range") or (floor, top)
    else:
        span = settings.get("compression_range") or COMPRESSION_RANGE
    low, high = (float(edge) for edge in pair(span, f"{chosen.knob}_range"))
    points = whole(settings, "points", TARGETED_POINTS if targets else DEFAULT_POINTS)
    if targets:
        points = min(points, whole(settings, "max_runs", MAX_RUNS))
    return log_spaced(low, high, points)


def log_spaced(low: float, high: float, count: int) -> list[float]:
    """``count`` values spread evenly in the logarithm, both ends among them; a single one is in the middle."""
    fractions = [index / (count - 1) for index in range(count)] if count > 1 else [0.5]
    return [rounded(math.exp(math.log(low) + f * (math.log(high) - math.log(low)))) for f in fractions]


def pair(span: Any, name: str) -> tuple[Any, Any]:
    span = as_list(span)
    if len(span) != 2 or not all(isinstance(edge, (int, float)) for edge in span) or not 0 < span[0] < span[1]:
        raise UsageError(f"{name} must be two positive numbers, the smaller first, not {span}.")
    return tuple(span)


def whole(settings: Mapping[str, Any], name: str, default: int) -> int:
    value = settings.get(name)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
        raise UsageError(f"{name} must be a whole number from 1 to {MOST:,}, not {value!r}.")
    return value


def as_list(value: Any) -> list:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if not values:
        raise UsageError("A list of values is empty; leave its key out, or name at least one.")
    return values


def budget_note(curve: Curve) -> str | None:
    """A warning when decay alone cannot bring weights to zero within the budget, for methods that work by decay."""
    budgets = [budget for budget in map(curve.budget, curve.specs) if budget is not None]
    small = [budget for budget in budgets if curve.needed is not None and budget < 0.99 * curve.needed]
    if not small:
        return None
    return (
        f"{curve.method.label()}: the decay budget (strength x sum of learning rates / (1 - momentum)) is as low as "
        f"{min(small):.2g} in {len(small)} of {len(curve.specs)} runs; below {curve.needed:.2g} "
        "most weights without gradient do not reach zero. Take a larger strength or learning rate, or more epochs."
    )
