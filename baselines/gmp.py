"""Gradual magnitude pruning (Zhu and Gupta, ICLR 2018 workshop, arXiv 1710.01878): a cubic schedule during training.

The trap: the schedule has to leave time to recover. Where the learning rate has already been annealed when the last
weights go, the network stays damaged; so pruning ends at three quarters of the budget by default.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from dwfbench.base.errors import UsageError
from dwfbench.methods.contract import Moment, Pruner, Tensors, option
from dwfbench.sparsity.masks import DISTRIBUTIONS


def density(step: int, begin: int, end: int, final: float) -> float:
    """Share of weights left at ``step``: 1 up to ``begin``, ``final`` from ``end`` on (Zhu and Gupta, equation 1).

    In terms of sparsity s = 1 - density: s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3 with s_i = 0.
    """
    progress = min(max((step - begin) / (end - begin), 0.0), 1.0)
    return final + (1 - final) * (1 - progress) ** 3


@dataclass(frozen=True)
class Gmp(Pruner):
    """Prunes by abs(w) every few steps, more and more slowly; pruned weights stay pruned."""

    name: ClassVar[str] = "gmp"
    summary: ClassVar[str] = "gradual magnitude pruning during training, on a cubic schedule"
    source: ClassVar[str] = "Zhu and Gupta, ICLR 2018 workshop, arXiv 1710.01878"
    look: ClassVar[tuple] = ("#44aa99", "h")

    distribution: str = option("uniform", "how layers share the kept weights", choices=DISTRIBUTIONS)
    begin: float = option(0.0, "part of training before the first pruning", low=0, high=1)
    end: float = option(0.75, "part of training until the last pruning", low=0, high=1)
    every: int = option(100, "steps between two prunings", low=1)

    def check(self, spec, data) -> None:
        if not self.begin < self.end:
            raise UsageError(f"Pruning must begin before it ends, not at {self.begin:g} and {self.end:g} of training.")

    def mask_steps(self, steps: int) -> Collection[int]:
        first, last = self.window(steps)
        return {*range(first, last, self.every), last}

    def window(self, steps: int) -> tuple[int, int]:
        """First and last step before which pruning happens; the last one is still trained on."""
        last = min(round(self.end * steps), steps - 1)
        return min(round(self.begin * steps), last - 1), last

    def scores(self, moment: Moment) -> Tensors:
        # A pruned weight is 0, one that is kept may be, too: it must not be the other way round.
        return {name: w.abs().where(moment.masks[name], -math.inf) for name, w in moment.weights.items()}

    def target(self, moment: Moment) -> float:
        return 1 / density(moment.step, *self.window(moment.steps), 1 / moment.compression)
