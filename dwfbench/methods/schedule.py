"""Learning rates: linear warm-up, then cosine annealing to zero or drops, once a phase."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with a schedule of its own; ``lr`` is its peak as a multiple of the run's learning rate.

    ``skipped`` epochs of that schedule lie before it: a phase that goes on from an earlier epoch's network.
    """

    epochs: int
    lr: float = 1.0
    skipped: int = 0


def factors(
    phases: tuple[Phase, ...],
    steps_per_epoch: int,
    warmup_epochs: float,
    drops: tuple[int, ...] = (),
    drop_factor: float = 10.0,
) -> list[list[float]]:
    """Multiples of the run's learning rate: one list a phase, one number a step, each in (0, phase.lr].

    Step t of T has (1 + cos(pi t / T)) / 2, so the last step still moves; the first phase starts with a linear
    warm-up over ``warmup_epochs``. With ``drops``, epochs of the whole run, the rate is constant instead and falls
    by ``drop_factor`` after each; a phase of another length has its drops at the same fractions.
    """
    whole = sum(phase.epochs for phase in phases)
    result = []
    for index, phase in enumerate(phases):
        before = phase.skipped * steps_per_epoch
        total = phase.epochs * steps_per_epoch + before
        warmup = round(warmup_epochs * steps_per_epoch) if index == 0 else 0
        cosine = max(total - warmup, 1)
        ramp = [phase.lr * (step + 1) / (warmup + 1) for step in range(min(warmup, total))]
        if drops:
            falls = [drop * total / whole for drop in drops]
            rest = [phase.lr * drop_factor ** -sum(step >= fall for fall in falls) for step in range(len(ramp), total)]
        else:
            rest = [phase.lr * (1 + math.cos(math.pi * step / cosine)) / 2 for step in range(total - len(ramp))]
        result.append((ramp + rest)[before:])
    return result


def rate_sum(
    lr: float,
    phases: tuple[Phase, ...],
    steps_per_epoch: int,
    warmup_epochs: float,
    drops: tuple[int, ...] = (),
    drop_factor: float = 10.0,
) -> float:
    """Sum of the learning rates of all steps: what a decay budget is made of."""
    return lr * sum(map(sum, factors(phases, steps_per_epoch, warmup_epochs, drops, drop_factor)))
