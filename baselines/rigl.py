"""RigL (Evci, Gale, Menick, Castro and Elsen, ICML 2020, arXiv 1911.11134): SET that grows where the gradient is large.

The trap: growth looks at the gradients of weights that are not there, on a batch, without the decay's part; taken from
a masked gradient or from momentum they would all be 0 and the growth arbitrary. And what an update has just dropped
competes with the rest: a small weight of large gradient is one to keep (algorithm 1: i not in theta without I_drop).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from baselines.set import Set
from dwfbench.methods.contract import Moment


@dataclass(frozen=True)
class RigL(Set):
    """Drops by abs(w), grows by abs(gradient). Unlike in algorithm 1, the step at an update is trained, too."""

    name: ClassVar[str] = "rigl"
    summary: ClassVar[str] = "sparse from the start (ERK); drops small weights, grows those of large gradient"
    source: ClassVar[str] = "Evci, Gale, Menick, Castro and Elsen, ICML 2020, arXiv 1911.11134"
    look: ClassVar[tuple] = ("#117733", "v")
    regrows: ClassVar[bool] = True

    def growth(self, moment: Moment) -> dict[str, Tensor]:
        return {name: gradient.abs() for name, gradient in moment.gradients().items()}

    def extra_passes(self, steps: int) -> int:
        return len(self.mask_steps(steps))
