"""Settings -> curves: which runs a command means.

Settings come in layers, later ones win: the defaults of RunSpec, the recipe of the model and data set, a config
file, the command line; within recipe and config, the table of a method wins over the general keys.

A method that is turned by its strength takes a list of compression ratios as targets: its curve begins with the first
strengths of its first seed, and the runner adds others until every seed has runs around every target (``targets``).
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from dwfbench import models
from dwfbench.base import plugins
from dwfbench.base.errors import UsageError
from dwfbench.base.text import first_few, nearest
from dwfbench.data import dataset as data
from dwfbench.dwf.factors import decay_budget
from dwfbench.dwf.parametrization import draw, keep, weights_of
from dwfbench.experiments import knobs, search
from dwfbench.experiments.knobs import as_list
from dwfbench.methods import registry
from dwfbench.methods.contract import Method
from dwfbench.methods.stage import rate_sum
from dwfbench.models import weights as trained
from dwfbench.models.prunable import NOTHING, left_out, prunable
from dwfbench.runs import spec
from dwfbench.runs.record import Tuned
from dwfbench.runs.spec import RunSpec
from dwfbench.training import loop, optimizers

MOST_STEPS = 10_000_000
"""Steps of a run: its learning rates are a list."""


@dataclass(frozen=True)
class Curve:
    """The runs of one method with one set of options.

    ``reach`` is sum of learning rates / (1 - momentum), so that strength * reach is the decay budget of a run;
    ``needed`` is the budget that brings half of the initial weights to zero, None for methods without decay and for
    Adam, which divides the decay by the size of the gradients.
    Around each of the ``targets``, compression ratios, each of the ``seeds`` is to have runs by ``rule``, at most
    ``max_runs`` of them; ``guess`` is where the search begins. ``tuned`` says by which study its settings were chosen,
    if they were, ``note`` what the user is to know of its strengths.
    """

    method: Method
    specs: tuple[RunSpec, ...]
    reach: float
    needed: float | None
    targets: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    max_runs: int = knobs.MAX_RUNS
    rule: search.Rule = search.RULE
    guess: search.Guess = ()
    tuned: Tuned | None = None
    note: str | None = None

    def budget(self, run: RunSpec) -> float | None:
        """Decay budget of a run of a method that works by decay, else None."""
        return None if self.needed is None or run.strength is None else run.strength * self.reach

    def at(self, values: Iterable[float], seed: int) -> tuple[RunSpec, ...]:
        """The runs of a seed at other values of the knob."""
        return tuple(replace(self.specs[0], seed=seed, **knob) for knob in turned(self.method, values))


def turned(method: Method, values: Iterable[float | None]) -> list[dict[str, Any]]:
    """The knob at each of these values, as a field of a RunSpec; a method without one has no such field."""
    return [{method.knob: value} if method.knob else {} for value in values]


def general(layers: Iterable[Mapping[str, Any]], name: str, default: Any) -> Any:
    """A setting that is not a method's own (model, dataset, methods, ...), from the last layer that has it."""
    values = [layer[name] for layer in layers if layer.get(name) is not None]
    return values[-1] if values else default


@dataclass(frozen=True)
class Request:
    """A method with one set of options, and all settings that were given for it, merged.

    ``meant`` are those for which its range of strengths is meant, if they are others: a recipe's, whatever a flag says
    of epochs and learning rates.
    """

    method: Method
    settings: Mapping[str, Any]
    meant: Mapping[str, Any] | None = None


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
    check_options({method.name: method for method, _ in entries}, layers, flags)
    by_setting: dict[str, Request] = {}  # what is listed twice is one curve
    for method, bound in entries:
        check_bound(method, bound)
        uppermost = {key: value for key, value in flags.items() if value is not None} | dict(bound)
        options = [item.name for item in fields(method)]
        swept: dict[str, list] = {}
        for layer in [*(layer.get("method", {}).get(method.name, {}) for layer in layers), uppermost]:
            swept |= {key: as_list(layer[key]) for key in options if layer.get(key) is not None}
        for values in itertools.product(*swept.values()):
            chosen = registry.create(method.name, dict(zip(swept, values, strict=True)))
            settings, meant = settings_of(chosen, layers, flags, bound)
            made = Request(chosen, settings, meant)
            request = by_setting.setdefault(bare_spec(chosen, settings).id, made)
            if request is not made and any(request.settings.get(key) != settings.get(key) for key in spec.CURVE_KEYS):
                raise UsageError(f"{chosen.label()} is asked for twice, with other runs; ask once, with all of them.")
    return list(by_setting.values())


def check_bound(method: type[Method], bound: Mapping[str, Any]) -> None:
    """UsageError for a key in a method's brackets that is not its own, naming the nearest that is."""
    allowed = [*spec.settings(), *spec.CURVE_KEYS, *(item.name for item in fields(method))]
    for key in bound:
        if key not in allowed:
            raise UsageError(f"--method {method.name}[...]: unknown key {key!r}{nearest(key, allowed)}")
        if key in ("model", "dataset", *spec.DATA_KEYS):
            flag = key.replace("_", "-")
            raise UsageError(
                f"{key} is the same for all methods; give --{flag}, not --method {method.name}[{key}=...]."
            )
    check_knobs([method], bound)


def own_tables(layer: Mapping[str, Any]) -> dict[str, Mapping]:
    """The tables ``[method.NAME]`` of a layer by the names of their methods, which those from files get when loaded."""
    return {registry.load(name).name: table for name, table in layer.get("method", {}).items()}


def check_options(methods: Mapping[str, type[Method]], layers: Iterable[Mapping], flags: Mapping[str, Any]) -> None:
    """UsageError for a key that nothing reads, naming the nearest that something does."""
    shared = [*spec.settings(), *spec.CURVE_KEYS, "methods"]
    own_options = {item.name for method in methods.values() for item in fields(method)}
    for key in flags:
        if key not in shared and key not in own_options:
            flags_known = [f"--{name.replace('_', '-')}" for name in (*shared, *own_options, *registry.RESERVED)]
            flag, chosen = f"--{key.replace('_', '-')}", ", ".join(methods)
            owners = registry.having(key)
            meant = nearest(flag, flags_known)
            if owners:
                meant = f"; it is an option of {', '.join(owners)}."
            elif key in registry.RESERVED:  # spelt rightly, for another command or a recipe
                meant = "."
            raise UsageError(f"{flag} is neither a flag here nor an option of {chosen}{meant}")
    check_knobs(methods.values(), flags)
    for layer in layers:
        for name, table in layer.get("method", {}).items():
            allowed = [*shared, *(item.name for item in fields(registry.load(name))), "when"]
            for key in itertools.chain(table, *table.get("when", [])):
                if key not in allowed:
                    raise UsageError(f"[method.{name}]: unknown key {key!r}{nearest(key, allowed)}")


def check_knobs(methods: Iterable[type[Method]], settings: Mapping[str, Any]) -> None:
    """UsageError for values of a knob that none of the methods has."""
    knobs = {method.knob for method in methods}
    given_other = next((key for key in ("compression", "points") if settings.get(key) is not None), None)
    if settings.get("strength") is not None and given_other and "compression" not in knobs and "strength" in knobs:
        raise UsageError(f"--strength lists the runs, which --{given_other} would choose; give one of the two.")
    if "strength" in knobs:
        knobs.add("compression")  # as targets
    for key in ("strength", "strength_range", "strength_max", "compression", "compression_range"):
        knob = key.partition("_")[0]
        if settings.get(key) is not None and knob not in knobs:
            names = ", ".join(method.name for method in methods)
            flags = f"--{' and --'.join(sorted(filter(None, knobs)))}" if any(knobs) else "nothing"
            given = f"--{knob}" if key == knob else f"--{key.replace('_', '-')} is for --{knob}, which"
            raise UsageError(f"{given} is not the knob of {names}, turned by {flags}; see `dwfbench list methods`.")


RANGES = ("strength_range", "strength_max")


def settings_of(
    method: Method, layers: Iterable[Mapping[str, Any]], *upper_layers: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """All layers merged for one method, then the ``upper_layers``. ``[[method.NAME.when]]`` tables count when their
    options match.

    Beside them the settings as they are at the layer that says a range of strengths: the range is meant for these.
    """
    merged: dict[str, Any] = {}
    meant = None
    for layer in layers:
        table = layer.get("method", {}).get(method.name, {})
        whens = [when for when in table.get("when", []) if matches(when, method)]
        parts = [{key: value for key, value in layer.items() if key != "method"}, table, *whens]
        for part in parts:
            merged = over(merged, part)
        if any(part.get(key) is not None for part in parts for key in RANGES):
            meant = merged
    for part in upper_layers:
        part = {key: value for key, value in part.items() if value is not None}
        merged = over(merged, part)
        meant = None if any(key in part for key in RANGES) else meant
    return merged, meant


def matches(when: Mapping[str, Any], method: Method) -> bool:
    """Whether the method's options have the values; of a list any will do. UsageError for what an option cannot be."""
    shared = when.keys() & {item.name for item in fields(method)}
    listed = {key: when[key] if isinstance(when[key], list) else [when[key]] for key in sorted(shared)}
    like = {key: [registry.create(method.name, {key: value}) for value in values] for key, values in listed.items()}
    return all(getattr(method, key) in [getattr(other, key) for other in others] for key, others in like.items())


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
    """Two layers merged; the upper wins, also over what it displaces. UsageError where that says both of its own."""
    if upper.get("seed") is not None and upper.get("seeds") is not None:
        raise UsageError("Give either seed (which ones) or seeds (how many), not both.")
    displaced = {lower_key for key in upper for lower_key in DISPLACES.get(key, ())}
    return {key: value for key, value in lower.items() if key not in displaced} | dict(upper)


def curve(request: Request, dataset: data.Dataset, stored_ratios: Mapping[float, float] | None = None) -> Curve:
    """The seeds times the knob values; ``stored_ratios`` are those of other seeds by strength, if there are any."""
    method, settings = request.method, request.settings
    base = base_spec(request, dataset)
    method.check(base, dataset)
    optimizers.check(method, base)
    if base.augment != "none" and not dataset.of_images:
        raise UsageError(f"{dataset.name} is not of images; leave --augment out.")
    steps = loop.steps_in_epoch(len(dataset.train.labels), base.batch_size)
    if steps * base.epochs > MOST_STEPS:
        raise UsageError(
            f"{base.epochs} epochs of {steps} steps are more than {MOST_STEPS:,} steps; take fewer or a larger batch."
        )
    reach = reach_of(method, base, steps)
    weights = initial_weights(method, base, dataset)
    needed = method.needed_budget(weights) if base.optimizer == "sgd" else None
    lowest = None if needed is None else needed / reach
    seeds, targets = knobs.seeds_of(settings), knobs.targets_of(method, settings)
    max_runs = knobs.whole_number(settings, "max_runs", knobs.MAX_RUNS)
    numel = sum(weight.numel() for weight in weights.values())
    if targets and max(targets) > numel:
        raise UsageError(f"{base.model} has {numel:,} prunable weights, so no compression ratio above that.")
    rule = search.Rule(knobs.gap_of(settings), numel)
    scale, note = (1.0, None) if needed is None else scaled(request, reach, steps)
    guess: search.Guess = ()
    values: Sequence[float | None]
    if targets:
        general_guess = knobs.guess(method, settings, lowest, scale)
        guess = search.fitted(general_guess, stored_ratios or {})
        if guess is general_guess:
            values, first_seeds = search.further({}, targets, max_runs, guess, rule), seeds[:1]
        else:  # what these settings do is known: every seed begins beside all targets at once
            values, first_seeds = search.beside(targets, guess, rule)[:max_runs], seeds
    else:
        values, first_seeds = knobs.values(method, settings, lowest, scale), seeds
        note = note if settings.get(method.knob or "") is None else None
    most_values = max(len(values), max_runs) if targets else len(values)
    if len(seeds) * most_values > knobs.MOST:
        raise UsageError(
            f"A curve of {len(seeds)} seeds and {most_values} knob values has more than {knobs.MOST:,} runs."
        )
    specs = [replace(base, seed=seed, **knob) for seed in first_seeds for knob in turned(method, values)]
    unique = tuple({run.id: run for run in specs}.values())
    return Curve(method, unique, reach, needed, targets, tuple(seeds), max_runs, rule, guess, note=note)


def reach_of(method: Method, base: RunSpec, steps: int) -> float:
    """Sum of the learning rates of a run / (1 - momentum), at so many steps an epoch."""
    stages = method.stages(base.epochs)
    if sum(stage.epochs for stage in stages) != base.epochs:
        raise UsageError(f"The stages of {method.name} do not add up to {base.epochs} epochs.")
    rates = rate_sum(base.lr, stages, steps, base.warmup_epochs, base.drops, base.lr_drop_factor)
    return decay_budget(1.0, rates, base.momentum)


def scaled(request: Request, reach: float, steps: int) -> tuple[float, str | None]:
    """What a range of strengths is multiplied by, so that its decay budgets stay those it is meant for; and a line
    that says so, where it is more than a rounding.

    For methods that work by decay only: at a strength of 3e-3, L1 had CR 144 after 15 epochs and 185 after 60
    (results/budget/lenet-300-100.zip), so that a fourth of the range would be far from what it needs.
    """
    if request.meant is None:
        return 1.0, None
    meant = bare_spec(request.method, request.meant)
    samples = steps * bare_spec(request.method, request.settings).batch_size
    factor = reach_of(request.method, meant, max(samples // meant.batch_size, 1)) / reach
    if 0.99 < factor < 1.01:
        return 1.0, None
    return factor, (
        f"{request.method.label()}: the range of strengths is meant for {meant.epochs} epochs at a rate of "
        f"{meant.lr:g}; it is multiplied by {factor:.3g} here, which keeps its decay budgets."
    )


def base_spec(request: Request, dataset: data.Dataset) -> RunSpec:
    """What the runs of a curve have in common, with the default seed."""
    base = bare_spec(request.method, request.settings)
    init = None if base.init is None else trained.identity(base.init)
    return replace(base, dataset=dataset.name, model=models.identity(base.model), init=init)


def bare_spec(method: Method, settings: Mapping[str, Any]) -> RunSpec:
    """The same, with model and data set as they were named."""
    shared = {key: settings[key] for key in spec.settings() if settings.get(key) is not None}
    if not method.decays:
        shared["weight_decay"] = 0.0  # so that a setting without effect does not split a curve
    return RunSpec(**shared, method=method.name, options=method.changed())


def initial_weights(method: Method, base: RunSpec, dataset: data.Dataset) -> dict[str, torch.Tensor]:
    """The effective weights with which the method would start (of one seed; only their size is of interest).

    What else the network holds is told, and UsageError raised where there is nothing to prune.
    """
    network = models.build_for(base, dataset)
    if base.init is not None and (absent := trained.put_into(network, base.init)):
        plugins.tell(f"The weights {base.init} lack {first_few(absent)}: these start as they are drawn.")
    weights = {name: value.detach() for name, value in prunable(network).items()}
    if not weights:
        raise UsageError(f"The model {base.model} cannot be trained: {NOTHING}.")
    if left_out_note := left_out(network):
        plugins.tell(f"{base.model}: {left_out_note}")
    space = method.stages(base.epochs)[0].parametrization
    if base.init is not None:
        return weights_of(space, keep(space, weights))
    return weights_of(space, draw(space, weights, torch.Generator().manual_seed(base.seed)))
