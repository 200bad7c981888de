"""The values that a method's knob takes: those listed, a grid over its useful range, or a search's first strengths."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from dwfbench.base.errors import UsageError
from dwfbench.experiments import search
from dwfbench.methods.contract import Method
from dwfbench.runs.spec import RunSpec, coerce

POINTS = 7
MAX_RUNS = 16
"""Strengths of a seed with which to search for targets."""
MOST = 10_000
"""Runs of a curve, and whatever else is counted."""

FIELDS = {item.name: item for item in fields(RunSpec)}

COMPRESSION_RANGE = (2.0, 300.0)
DECAY = {1.3: -0.17, 1.6: -0.07, 2: 0, 5: 0.13, 10: 0.24, 20: 0.38, 30: 0.5, 50: 0.67, 100: 1, 300: 1.96, 1000: 4.8}
PENALTY = {1.3: -0.18, 1.6: -0.075, 2: 0, 5: 0.24, 10: 0.37, 30: 0.61, 100: 1, 300: 1.45, 1000: 1.9}
"""At which part of the way from CR 2 to CR 100, in the logarithm of strength, curves have a CR: medians of the stored
curves of LeNet-300-100 of methods that work by decay and of L1."""

STRENGTH_RANGE = (1e-5, 1e-3)
"""Strengths of methods that do not work by decay, where a recipe names none."""


def values(method: Method, settings: Mapping[str, Any], lowest: float | None, scale: float) -> Sequence[float | None]:
    """The listed values of the method's knob, or ``points`` of them spread evenly in the logarithm over its range."""
    if method.knob is None:
        return [None]
    if settings.get(method.knob) is not None:
        return listed(settings, method.knob)
    low, high = ends(method, settings, lowest, scale)
    return log_spaced(low, high, whole_number(settings, "points", POINTS))


def ends(method: Method, settings: Mapping[str, Any], lowest: float | None, scale: float) -> tuple[float, float]:
    """The useful range of the method's knob, over which compression goes from about 2 to about 300.

    ``lowest`` is the strength whose decay budget brings half of the weights to zero; the default strengths go from
    there to ``strength_max``, or to four times it. ``scale`` brings a range of strengths that is meant for another
    decay budget to this one.
    """
    if method.knob == "compression":
        return pair(settings.get("compression_range") or COMPRESSION_RANGE, "compression_range")
    if settings.get("strength_range"):
        low, high = pair(settings["strength_range"], "strength_range")
        return low * scale, high * scale
    floor = lowest or STRENGTH_RANGE[0]
    top = settings.get("strength_max")
    if top is None:
        return floor, 4 * floor if lowest else STRENGTH_RANGE[1]
    if not isinstance(top, (int, float)) or not 0 < top < math.inf:
        raise UsageError(f"strength_max must be a positive number, not {top!r}.")
    if top * scale > floor:
        return floor, top * scale
    if targets_of(method, settings):
        return floor, 2 * floor  # the search will see
    raise UsageError(
        f"Strengths of {method.label()} would go up to {top * scale:g} (strength_max), but so few or small steps decay "
        f"half of the weights to zero only from {floor:.3g} on: train longer, or give --strength or --strength-range."
    )


def targets_of(method: Method, settings: Mapping[str, Any]) -> tuple[float, ...]:
    """The compression ratios around which a method with a strength is to have runs; none if strengths are listed."""
    if method.knob != "strength" or settings.get("strength") is not None or settings.get("compression") is None:
        return ()
    targets = tuple(as_list(settings["compression"]))
    if not all(isinstance(target, (int, float)) and 1 < target < math.inf for target in targets):
        raise UsageError(f"Target compression ratios must be above 1 for {method.label()}, not {list(targets)}.")
    return targets


def guess(method: Method, settings: Mapping[str, Any], lowest: float | None, scale: float) -> search.Guess:
    """What is known of a curve before a run of it: its ends, and the shape that such curves have."""
    low, high = map(math.log, ends(method, settings, lowest, scale))
    shape = PENALTY if lowest is None else DECAY
    width = (high - low) / shape[COMPRESSION_RANGE[1]]
    return tuple((math.exp(low + part * width), float(ratio)) for ratio, part in shape.items())


def gap_of(settings: Mapping[str, Any]) -> float:
    """The largest factor between the runs around a target."""
    gap = settings.get("max_gap")
    gap = search.MAX_GAP if gap is None else gap
    if not isinstance(gap, (int, float)) or not 1 < gap < math.inf:
        raise UsageError(f"max_gap must be a factor above 1, not {gap!r}.")
    return gap


def log_spaced(low: float, high: float, count: int) -> list[float]:
    """``count`` values spread evenly in the logarithm, both ends among them; a single one is in the middle."""
    fractions = [index / (count - 1) for index in range(count)] if count > 1 else [0.5]
    return [float(f"{math.exp(math.log(low) + f * (math.log(high) - math.log(low))):.3g}") for f in fractions]


def seeds_of(settings: Mapping[str, Any]) -> list[int]:
    """The listed seeds, or so many counted from 0, each once. UsageError for one that no run could have."""
    if settings.get("seed") is not None:
        return list(dict.fromkeys(listed(settings, "seed")))
    return list(range(whole_number(settings, "seeds", 1)))


def pair(span: Any, name: str) -> tuple[float, float]:
    span = as_list(span)
    numbers = [edge for edge in span if isinstance(edge, (int, float)) and not isinstance(edge, bool)]
    if len(span) != 2 or len(numbers) != 2 or not 0 < span[0] < span[1] < math.inf:
        raise UsageError(f"{name} must be two positive numbers, the smaller first, not {span}.")
    return float(span[0]), float(span[1])


def whole_number(settings: Mapping[str, Any], name: str, default: int) -> int:
    value = settings.get(name)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
        raise UsageError(f"{name} must be a whole number from 1 to {MOST:,}, not {value!r}.")
    return value


def listed(settings: Mapping[str, Any], name: str) -> list:
    """The values that are given for a field of runs, each as a run has it. UsageError for one that none could have."""
    return [coerce(FIELDS[name], value) for value in as_list(settings[name])]


def as_list(value: Any) -> list:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if not values:
        raise UsageError("A list of values is empty; leave its key out, or name at least one.")
    return values
