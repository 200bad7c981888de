"""What a network learns from a data set: the loss of its training, and the score by which it is judged.

Classes are learned by cross-entropy and judged by accuracy. A reader of others that has the attributes ``loss`` and
``score`` says both itself, e.g. for a regression: functions of outputs (N, outputs) and targets (N, ...) to a scalar,
the loss a mean over the samples, the score a fraction of 1, the higher the better; below 0 counts as 0.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import cross_entropy

from dwfbench.data import readers


class Task(NamedTuple):
    """A loss and a score, see above; ``score`` is None for accuracy. ``name`` is the score's in tables."""

    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor] | None
    name: str


CLASSIFICATION = Task(cross_entropy, None, "accuracy")


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
    return Task(loss, score, getattr(score, "__name__", "score"))
