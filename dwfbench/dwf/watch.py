"""A look at the first step of an optimiser that trains factors: a warning where its weight decay is decoupled.

``factorize`` and ``param_groups`` remember the factors. A hook of PyTorch's, called before the step of every optimiser,
looks at the first one that has any of them, and goes when all have been seen or are gone.
"""

import warnings
import weakref
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

_watched: dict[int, weakref.ref] = {}
"""Factors that no optimiser has trained yet, by id."""

_hook: Any = None


def watch(factors: Iterable[Tensor]) -> None:
    """Have the first step of the optimiser that trains them looked at."""
    global _hook
    _watched.update({id(factor): weakref.ref(factor) for factor in factors})
    if _hook is None:
        _hook = register_optimizer_step_pre_hook(look)


def look(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Warn once of the factors that this optimiser trains, if it decouples their decay."""
    global _hook
    groups = [(group, factors) for group in optimizer.param_groups if (factors := watched(group["params"]))]
    for _, factors in groups:
        for factor in factors:
            del _watched[id(factor)]
    if any(decoupled(optimizer, group) for group, _ in groups):
        warning = DECOUPLED if any(group["weight_decay"] for group, _ in groups) else IDLE
        warnings.warn(f"{type(optimizer).__name__} {warning}; {ADVICE}.", stacklevel=3)
    for number in [number for number, factor in _watched.items() if factor() is None]:
        del _watched[number]
    if not _watched and _hook is not None:
        _hook.remove()
        _hook = None


def watched(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Those of the parameters that are factors on watch."""
    return [tensor for tensor in parameters if (ref := _watched.get(id(tensor))) is not None and ref() is tensor]


def decoupled(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    """Whether an optimiser decouples weight decay, as far as its name and PyTorch's flag say."""
    return bool(group.get("decoupled_weight_decay")) or "adamw" in type(optimizer).__name__.lower()
