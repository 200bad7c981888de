"""The stages of a training, and their learning rates: linear warm-up, then cosine annealing to zero or drops."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from dwfbench.dwf.parametrization import PLAIN, Parametrization


@dataclass(frozen=True)
class Stage:
    """A stretch of epochs with a schedule of its own; momentum starts at zero with it.

    - ``lr``: the schedule's peak as a multiple of the run's learning rate
    - ``warmup``: whether the schedule begins with the run's warm-up, as that of the first stage always does
    - ``skipped``: epochs of that schedule that lie before it, for a stage that goes on from an earlier epoch's network
    - ``parametrization``: how weights are computed from what is trained
    - ``penalised``: whether the method's decay, penalty and projection act
    - ``start``: the network to start from. "on": as the stage before left it; a number k: as it was after k epochs (0:
      the initial one); "anew": the initial network of another seed. Masks that were chosen stay in each case
    - ``knob_free``: whether the method's knob plays no part up to this stage's end: the runs of a seed share it
    """

    epochs: int
    lr: float = 1.0
    warmup: bool = False
    skipped: int = 0
    parametrization: Parametrization = PLAIN
    penalised: bool = True
    start: int | Literal["on", "anew"] = "on"
    knob_free: bool = False


def shared_epochs(stages: Iterable[Stage]) -> int:
    """How many of the first epochs the runs of a seed share, because the knob plays no part in them."""
    shared = 0
    for stage in stages:
        if not stage.knob_free:
            break
        shared += stage.epochs
    return shared


def rate_multiples(
    stages: tuple[Stage, ...],
    steps_per_epoch: int,
    warmup_epochs: float,
    drops: tuple[int, ...] = (),
    drop_factor: float = 10.0,
) -> list[list[float]]:
    """Multiples of the run's learning rate: one list a stage, one number a step, each in (0, stage.lr].

    Step t of T has (1 + cos(pi t / T)) / 2, so the last step still moves; the first stage, and those that say so, start
    with a linear warm-up over ``warmup_epochs``. With ``drops``, epochs of the whole run, the rate is constant instead
    and falls by ``drop_factor`` after each; a stage of another length has its drops at the same fractions.
    """
    all_epochs = sum(stage.epochs for stage in stages)
    result = []
    for index, stage in enumerate(stages):
        skipped = stage.skipped * steps_per_epoch
        total = stage.epochs * steps_per_epoch + skipped
        warmup = round(warmup_epochs * steps_per_epoch) if index == 0 or stage.warmup else 0
        cosine = max(total - warmup, 1)
        ramp = [stage.lr * (step + 1) / (warmup + 1) for step in range(min(warmup, total))]
        if drops:
            falls = [drop * total / all_epochs for drop in drops]
            tail = [stage.lr * drop_factor ** -sum(step >= fall for fall in falls) for step in range(len(ramp), total)]
        else:
            tail = [stage.lr * (1 + math.cos(math.pi * step / cosine)) / 2 for step in range(total - len(ramp))]
        result.append((ramp + tail)[skipped:])
    return result


def rate_sum(
    lr: float,
    stages: tuple[Stage, ...],
    steps_per_epoch: int,
    warmup_epochs: float,
    drops: tuple[int, ...] = (),
    drop_factor: float = 10.0,
) -> float:
    """Sum of the learning rates of all steps under the penalty: what a decay budget is made of."""
    multiples = rate_multiples(stages, steps_per_epoch, warmup_epochs, drops, drop_factor)
    return lr * sum(sum(rates) for stage, rates in zip(stages, multiples, strict=True) if stage.penalised)
