"""What a network learns from a data set: the loss of its training, and the score by which it is judged.

Classes are learned by cross-entropy and judged by accuracy. A reader of others that has the attributes ``loss`` and
``score`` says both itself, e.g. for a regression: functions of outputs (N, outputs) and targets (N, ...) to a scalar,
the loss a mean over the samples, the score a fraction of 1, the higher the better; below 0 counts as 0. Tables and
figures call it by the function's name, and show it in percent of that 1, as they do accuracies.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import cross_entropy

from dwfbench.base.errors import UsageError
from dwfbench.base.text import ACCURACY
from dwfbench.data import readers


class Task(NamedTuple):
    """A loss and a score, see above; ``score`` is None for accuracy. ``name`` is the score's in tables."""

    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor] | None
    name: str

    def judge(self, outputs: Tensor, targets: Tensor) -> float:
        """What outputs (N, outputs) are worth, 0 to 1: correct predictions / number of samples, or the score.

        Raises UsageError for a score above 1.
        """
        if self.score is None:
            return int((outputs.argmax(1) == targets).sum()) / len(targets)
        value = float(self.score(outputs, targets))
        if value > 1:
            raise UsageError(
                f"The data set's {self.name} is {value:g}; a score must be at most 1, the higher the better."
            )
        return max(value, 0.0) if math.isfinite(value) else 0.0

    def guess(self, targets: Tensor) -> float | None:
        """What the same answer for every sample is worth, 0 to 1: the share of the largest class; a score has 0.

        None for no samples.
        """
        if self.score is not None:
            return 0.0
        return int(targets.bincount().max()) / len(targets) if len(targets) else None


CLASSIFICATION = Task(cross_entropy, None, ACCURACY)


@functools.cache
def task_of(name: str) -> Task:
    """The task of the data set that runs call so.

    Functions of others do not go along with the data to other processes, which know their files all the same.
    """
    load = None if name in readers.KNOWN else readers.foreign_reader(name)
    reader = None if load is None else load()
    loss, score = (getattr(reader, part, None) for part in ("loss", "score"))
    if loss is None or score is None:
        return CLASSIFICATION
    name = getattr(score, "__name__", "score")
    return Task(loss, score, name if name.isidentifier() else "score")  # a lambda has no name
