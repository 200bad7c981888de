"""Advice that is arithmetic: strengths, steps and rates for DWF from a network's own weights, before any training.

A weight without gradient decays as |w_0| exp(-2 budget), at every depth, where the decay budget is strength * sum of
learning rates / (1 - momentum). So the strength that brings half of the weights to zero, CR 2, follows from the
weights: for LeNet-300-100 the budget is 6.0 to 6.1, and the committed runs (results/) pass CR 2 at 5.6 to 6.1. How
strongly gradients hold the last weights does not follow: CR 300 took at most HIGHEST times as much there, the more the
longer they were trained.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dwfbench.base.errors import UsageError
from dwfbench.dwf.factors import FLOAT32_EPSILON, budget_to_reach_zero, deviation, median_size
from dwfbench.dwf.module import factorized, tied
from dwfbench.dwf.parametrization import Product
from dwfbench.dwf.places import choose

HIGHEST = {2: 69.0, 3: 8.8}
"""By depth, how many times the strength of CR 2 has reached CR 300; of greater depths as of 3."""

STEPS_AT = (1e-3, 1e-4, 1e-5)
"""Strengths for which the least steps are told."""


@dataclass(frozen=True)
class Suggestion:
    """What arithmetic says of training a network by DWF under SGD.

    - ``budget``: the decay budget that brings half of the weights to zero
    - ``strengths``: the one with that budget, for CR 2, and the highest to try, for CR 300
    - ``least_steps``: steps in which a strength spends that budget, at these rates; fewer make no zeros
    - ``speed``: by layer, how fast a weight of the layer's deviation sigma moves at first, with a dense one's as 1:
      D sigma^(2 - 2/D). A rate of lr / speed makes up for it, as far as training stays stable
    - ``alignment``: what is left of w_i^2 - w_j^2 of two factors at the end, at the lowest strength
    """

    depth: int
    lr: float
    budget: float
    strengths: tuple[float, float]
    least_steps: dict[float, int]
    speed: dict[str, float]
    alignment: float

    @property
    def signs(self) -> list[str]:
        """What to watch while it trains, a sentence each."""
        low, high = self.strengths
        return [
            f"CR stays at 1 to the end: the decay budget is below {self.budget:.2g}; more strength, steps or rate.",
            f"All weights vanish early: the strength is far above {low:.2g}; halve it.",
            "The loss is NaN, or stays where it began: halve the rate, or give a warm-up or clipped gradients.",
            f"Misalignment falls: w_i^2 - w_j^2 to {self.alignment:.1g} of its start; if not, a factor has no decay.",
            f"Many weights lie just above {FLOAT32_EPSILON:g} at the end: they were on their way; take more steps.",
            f"CR 300 is not reached at {high:.2g}: strong gradients hold weights; go on upwards by factors of 1.5.",
        ]

    def __str__(self) -> str:
        slow, fast = min(self.speed.values()), max(self.speed.values())
        steps = ", ".join(f"{count:,} at {strength:g}" for strength, count in self.least_steps.items())
        return "\n".join(
            [
                f"depth {self.depth}, learning rate {self.lr:g}:",
                f"  strengths     {self.strengths[0]:.3g} (CR 2) to {self.strengths[1]:.3g} (CR 300, or more)",
                f"  least steps   {steps}",
                f"  speed         {slow:.2g} to {fast:.2g} of a dense weight's at this rate, by layer; the same speed "
                f"takes a rate of {self.lr / fast:.2g} or more, where that is stable",
                "  watch for",
                *(f"    - {sign}" for sign in self.signs),
            ]
        )


def suggest(
    model: nn.Module, steps: int, lr: float, momentum: float = 0.9, *, depth: int = 3, keep_weights: bool = False
) -> Suggestion:
    """Advice for ``steps`` steps of SGD whose rate falls from ``lr`` along a cosine to zero.

    ``model`` may be factorized, which says the depth, or still be plain: then as ``factorize(model, depth,
    keep_weights=...)`` would leave it. It is not changed. Raises UsageError for numbers out of range, as
    ``factorize`` does, and for groups (D-Gating), of which there is no such advice.
    """
    if not (steps >= 1 and lr > 0 and 0 <= momentum < 1):
        raise UsageError(
            f"steps must be at least 1, lr positive and momentum in [0, 1), not {steps}, {lr}, {momentum}."
        )
    weights = list(own_weights(model) or initial_weights(model, depth, keep_weights))
    return advice(weights, lr, lr * (steps + 1) / 2 / (1 - momentum), steps)


def own_weights(model: nn.Module) -> list[tuple[str, Tensor, float, int]]:
    """Name, value, deviation before and depth of every factorized weight; none of a plain model."""
    weights = []
    with torch.no_grad():
        for places, parts in factorized(model):
            if not isinstance(parts.space, Product):
                raise UsageError("There is no advice for groups of weights (D-Gating); suggest is for single weights.")
            value = getattr(places[0].module, places[0].attribute)
            weights.append((places[0].name, value, parts.sigma, parts.space.depth))
    return weights


def initial_weights(model: nn.Module, depth: int, keep_weights: bool) -> Iterator[tuple[str, Tensor, float, int]]:
    """The same of a plain model, as drawn by Algorithm 1 or as they are."""
    generator = torch.Generator().manual_seed(0)
    for places, number in tied(model, choose(model, depth)):
        weight, space = getattr(places[0].module, places[0].attribute).detach(), Product(number)
        parts = space.keep(weight) if keep_weights else space.draw(places[0].name, weight, generator)
        yield places[0].name, space.weight(*parts), deviation(weight), number


def advice(weights: list[tuple[str, Tensor, float, int]], lr: float, reach: float, steps: int) -> Suggestion:
    """Advice from (name, initial value, deviation, depth) of every weight.

    ``reach`` is the sum of the rates of all ``steps`` / (1 - momentum).
    """
    depth = max(number for *_, number in weights)
    typical = median_size(value.float() for _, value, _, _ in weights)
    budget = budget_to_reach_zero(typical)
    low = budget / reach
    return Suggestion(
        depth=depth,
        lr=lr,
        budget=budget,
        strengths=(low, HIGHEST.get(depth, HIGHEST[3]) * low),
        least_steps={strength: math.ceil(low / strength * steps) for strength in STEPS_AT},
        speed={name: number * sigma ** (2 - 2 / number) for name, _, sigma, number in weights},
        alignment=math.exp(-4 * budget / depth),
    )
