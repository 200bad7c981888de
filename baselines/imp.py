"""Iterative magnitude pruning with rewinding: the lottery ticket hypothesis (Frankle and Carbin, ICLR 2019).

Train, prune a part of the weights by abs(w), go back to the network as it was after a few epochs and train again, round
by round. ``--rewind lr`` keeps the trained weights and repeats the learning rates only (Renda, Frankle and Carbin, ICLR
2020).

Pruning is global, and by the same factor in every round; the papers remove 20 % a round, for small networks within
layers.

The trap is the budget: in the papers every round trains as long as a dense network, so ten rounds cost eleven
trainings. Here ``--epochs`` is the budget of all rounds together, and the tables show it: give (rounds + 1) times the
epochs for the papers' protocol. What does not divide among the trainings goes to the first, dense one.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from baselines.magnitude import magnitudes
from dwfbench.base.errors import UsageError
from dwfbench.methods.contract import Moment, Pruner, option
from dwfbench.methods.stage import Stage


@dataclass(frozen=True)
class Imp(Pruner):
    """After round k of ``rounds`` the compression ratio is compression^(k / rounds)."""

    name: ClassVar[str] = "imp"
    summary: ClassVar[str] = "train, prune by |w|, rewind weights or learning rate, and again; --epochs for all rounds"
    source: ClassVar[str] = "Frankle and Carbin, ICLR 2019, arXiv 1803.03635; Renda et al., ICLR 2020, arXiv 2003.02389"
    look: ClassVar[tuple] = ("#aa4499", "<")

    rounds: int = option(4, "prunings", low=1)
    rewind: str = option("weights", "what goes back at a round's start", choices=("weights", "lr"))
    rewind_to: int = option(0, "epoch to go back to, 0: the initial network", low=0)

    def check(self, spec, data) -> None:
        epochs = self.round_epochs(spec.epochs)
        if epochs <= self.rewind_to:
            raise UsageError(
                f"{spec.epochs} epochs are too few for {self.rounds + 1} trainings that go back to epoch "
                f"{self.rewind_to}; they need {self.rounds + 1 + self.rewind_to} at least."
            )

    def round_epochs(self, epochs: int) -> int:
        """Epochs of a training from its beginning, of which later rounds leave out the first ``rewind_to``."""
        return (epochs + self.rounds * self.rewind_to) // (self.rounds + 1)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        """A first training, dense, and one after each pruning."""
        later = max(self.round_epochs(epochs) - self.rewind_to, 0)
        start: int | Literal["on"] = self.rewind_to if self.rewind == "weights" else "on"
        retraining = Stage(later, warmup=True, skipped=self.rewind_to, start=start)
        return (Stage(epochs - self.rounds * later, knob_free=True), *[retraining] * self.rounds)

    def scores(self, moment: Moment) -> dict[str, Tensor] | None:
        if not moment.stage:
            return None
        return {name: size.where(moment.masks[name], -math.inf) for name, size in magnitudes(moment.weights).items()}

    def target(self, moment: Moment) -> float:
        return moment.compression ** (moment.stage / self.rounds)
