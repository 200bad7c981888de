"""A look at the first step of an optimiser that trains factors: a warning where its weight decay is decoupled.

``factorize`` and ``param_groups`` mark the factors. A hook of PyTorch's, called before the step of every optimiser,
looks at the first one that has any of them.
"""

import functools
import warnings
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

DECOUPLED = (
    "decouples weight decay from the gradient, which on factors is no L2 penalty and inverts the effect of depth"
)
IDLE = "is given factors without weight decay, so that nothing becomes sparse"
ADVICE = "train factors with torch.optim.SGD or Adam on dwfbench.param_groups(model, strength)"

MARK = "dwfbench_untrained"
"""The attribute of a factor that no optimiser has trained yet."""


def watch(factors: Iterable[Tensor]) -> None:
    """Have the first step of the optimiser that trains them looked at."""
    hook()
    for factor in factors:
        setattr(factor, MARK, True)


@functools.cache
def hook() -> None:
    """Have ``look`` called before the step of every optimiser from now on."""
    register_optimizer_step_pre_hook(look)


def look(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Warn once of the factors that this optimiser trains, if it decouples their decay."""
    groups = []
    for group in optimizer.param_groups:
        if marked := [parameter for parameter in group["params"] if hasattr(parameter, MARK)]:
            groups.append(group)
        for factor in marked:
            delattr(factor, MARK)
    if any(decoupled(optimizer, group) for group in groups):
        warning = DECOUPLED if any(group["weight_decay"] for group in groups) else IDLE
        warnings.warn(f"{type(optimizer).__name__} {warning}; {ADVICE}.", stacklevel=3)


def decoupled(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    """Whether an optimiser decouples weight decay, as far as its name and PyTorch's flag say."""
    return bool(group.get("decoupled_weight_decay")) or "adamw" in type(optimizer).__name__.lower()
