"""Sparse evolutionary training (Mocanu et al., Nature Communications 2018, arXiv 1707.04780): sparse from the start.

The network begins under a random ERK mask. Again and again the smallest weights of each layer are dropped and as many
others grown at random, with the value 0 and without momentum.

The trap: what is grown must start from nothing. Were its old momentum or value kept, the step after an update would
move the network by weights that it has never trained; and were dropped weights grown again at once, nothing would
change.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.random import draw
from dwfbench.methods.contract import Moment, Pruner, option
from dwfbench.sparsity.masks import DISTRIBUTIONS, largest


@dataclass(frozen=True)
class Set(Pruner):
    """Drops by abs(w) and grows at random, a share of the kept weights that falls as a cosine (as RigL's does)."""

    name: ClassVar[str] = "set"
    summary: ClassVar[str] = "sparse from the start (ERK); drops small weights and grows random ones"
    source: ClassVar[str] = "Mocanu et al., Nature Communications 2018; cosine and ERK: Evci et al., ICML 2020"
    look: ClassVar[tuple] = ("#b2182b", "D")
    regrows: ClassVar[bool] = False
    """Whether a weight may be grown in the update that drops it: it then stays, value, momentum and all."""

    distribution: str = option("erk", "how layers share the kept weights", choices=DISTRIBUTIONS)
    fraction: float = option(0.3, "share of a layer's kept weights that the first update moves", low=0, high=1)
    every: int = option(100, "steps between two updates", low=1)
    end: float = option(0.75, "part of training until the last update", low=0, high=1)

    def mask_steps(self, steps: int) -> Collection[int]:
        return range(self.every, round(self.end * steps), self.every)

    def moved(self, step: int, steps: int) -> float:
        """Share of the kept weights that an update moves: alpha / 2 (1 + cos(pi t / T_end)) (Evci et al., 3)."""
        return self.fraction / 2 * (1 + math.cos(math.pi * step / (self.end * steps)))

    def masks(self, moment: Moment, scores: dict[str, Tensor] | None) -> dict[str, Tensor]:
        if moment.begins:
            return draw(moment.weights, moment.compression, self.distribution, moment.generator)
        share, grow = self.moved(moment.step, moment.steps), self.growth(moment)
        return {
            name: rewired(w, moment.masks[name], grow[name], share, self.regrows) for name, w in moment.weights.items()
        }

    def growth(self, moment: Moment) -> dict[str, Tensor]:
        """Scores of the weights that are not there, the larger the sooner grown."""
        return {
            name: torch.rand(w.shape, generator=moment.generator).to(w.device) for name, w in moment.weights.items()
        }


def rewired(weight: Tensor, mask: Tensor, growth: Tensor, share: float, regrows: bool) -> Tensor:
    """The mask of a layer after ``share`` of its kept weights, the smallest, made room for those of largest ``growth``.

    As many are grown as dropped, of the weights that were not there, and where it ``regrows``, of those dropped, too.
    """
    kept_count = int(mask.sum())
    count = int(share * kept_count)
    if not regrows:
        count = min(count, mask.numel() - kept_count)
    stays = largest(weight.abs().where(mask, -1.0), kept_count - count)
    return stays | largest(growth.where(~(stays if regrows else mask), -math.inf), count)
