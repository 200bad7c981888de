"""How a gradient becomes a move of the tensor: SGD with momentum, Adam and AdamW, a function each.

All are elementwise and keep their moments in the state of the step, in place. A rule's numbers, where RunSpec does not
say them, are PyTorch's defaults.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dwfbench.base.errors import UsageError
from dwfbench.methods.contract import Method
from dwfbench.runs.spec import RunSpec

if TYPE_CHECKING:
    from dwfbench.training.step import State

SQUARES_KEPT, EPSILON = 0.999, 1e-8
"""Adam's second beta, and what is added to the root of the mean square."""


class Rule(NamedTuple):
    """A rule of steps.

    direction(state, name, gradient) updates the moments of the tensor called ``name`` and returns what is subtracted
    from it, times the learning rate. ``moments`` are the parts of the state that it needs. A steady gradient moves a
    tensor by rate / ``damping`` times itself a step (Adam's unit is its own). ``decoupled``: weight decay shrinks plain
    weights beside the move, by rate * decay, and is no part of the gradient.
    """

    direction: Callable[["State", str, Tensor], Tensor]
    moments: tuple[str, ...]
    damping: float = 1.0
    decoupled: bool = False


def rule_of(spec: RunSpec) -> Rule:
    """The rule that a run's settings name."""
    if spec.optimizer == "sgd":
        return sgd(spec.momentum, spec.nesterov)
    return adam(spec.momentum, decoupled=spec.optimizer == "adamw")


def sgd(momentum: float, nesterov: bool) -> Rule:
    """v = momentum v + gradient; v is the direction, or gradient + momentum v with Nesterov's."""

    def direction(state: "State", name: str, gradient: Tensor) -> Tensor:
        velocity = state.velocity[name].mul_(momentum).add_(gradient)
        return gradient + momentum * velocity if nesterov else velocity

    if momentum == 0:
        return Rule(lambda state, name, gradient: gradient, ())
    return Rule(direction, ("velocity",), 1 - momentum)


def adam(momentum: float, decoupled: bool) -> Rule:
    """Kingma and Ba, ICLR 2015: the mean gradient over the root of the mean square, both free of their start at zero.

    The first beta is ``momentum``. Decoupled decay: Loshchilov and Hutter, ICLR 2019.
    """

    def direction(state: "State", name: str, gradient: Tensor) -> Tensor:
        mean = state.velocity[name].mul_(momentum).add_(gradient * (1 - momentum))
        square = state.squares[name].mul_(SQUARES_KEPT).add_(gradient.square() * (1 - SQUARES_KEPT))
        root = (square / bias_correction(SQUARES_KEPT, state.time)).sqrt()
        return mean / bias_correction(momentum, state.time) / (root + EPSILON)

    return Rule(direction, ("velocity", "squares"), decoupled=decoupled)


def bias_correction(beta: float, time: Tensor) -> Tensor | float:
    """1 - beta^time, by which a mean that began at zero is too small after so many steps; as exact as float32 can."""
    return -torch.expm1(time * math.log(beta)) if beta else 1.0


def check(method: Method, spec: RunSpec) -> None:
    """UsageError for decoupled decay of what a method trains under an L2 penalty of its own, such as DWF's factors."""
    if rule_of(spec).decoupled and method.decay(torch.tensor(1.0)) is not None:
        raise UsageError(
            f"AdamW would decay what {method.name} trains apart from the gradient, which is no L2 penalty and inverts "
            f'the effect of depth. Give it Adam, whose decay is coupled: --method "{method.name}[optimizer=adam]".'
        )
