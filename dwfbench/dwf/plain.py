"""A copy of a network in which every weight is a parameter: factors multiplied, and PyTorch's other computations done.

Those are parametrizations (``torch.nn.utils.parametrize``, so ``parametrizations.weight_norm`` and ``spectral_norm``),
the older ``weight_norm`` and ``spectral_norm``, and the masks of ``torch.nn.utils.prune``.
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from dwfbench.base.errors import UsageError, reason
from dwfbench.dwf.module import collapse, own_class
from dwfbench.models.functional import modes_kept
from dwfbench.models.prunable import Place

HOOKS = (prune.BasePruningMethod, WeightNorm, SpectralNorm)


@torch.inference_mode(False)  # in it copies of parameters would need no gradient, as frozen ones
def plain(model: nn.Module) -> nn.Module:
    """A copy, in which each weight has the value that it has in eval mode; the model stays as it is."""
    copied = duplicate(model)
    with modes_kept(copied):
        copied.eval()
        collapse(copied)
        for module in copied.modules():
            for attribute in computed(module):
                trainable = any(source.requires_grad for source in Place("", module, attribute).sources)
                remove_computation(module, attribute)
                weight = getattr(module, attribute)
                setattr(module, attribute, nn.Parameter(weight.detach(), requires_grad=trainable))
    return copied


def computed(module: nn.Module) -> list[str]:
    """The names of the tensors that a module computes from its parameters, as far as PyTorch tells."""
    names = list(module.parametrizations) if parametrize.is_parametrized(module) else []  # type: ignore[arg-type]
    hooks: Iterable[Any] = module._forward_pre_hooks.values()
    return names + [
        hook._tensor_name if isinstance(hook, prune.BasePruningMethod) else hook.name
        for hook in hooks
        if isinstance(hook, HOOKS)
    ]


def remove_computation(module: nn.Module, attribute: str) -> None:
    """Let a tensor be what is computed for it now."""
    if parametrize.is_parametrized(module, attribute):
        own_class(module)
        parametrize.remove_parametrizations(module, attribute, leave_parametrized=True)
        return
    hook_types = {type(hook) for hook in module._forward_pre_hooks.values() if getattr(hook, "name", None) == attribute}
    if WeightNorm in hook_types:
        remove_weight_norm(module, attribute)
    elif SpectralNorm in hook_types:
        remove_spectral_norm(module, attribute)
        module._load_state_dict_pre_hooks.clear()  # PyTorch 2.14 leaves its own, which misses what is gone
    else:
        prune.remove(module, attribute)


def duplicate(model: nn.Module) -> nn.Module:
    """A deep copy, also where modules keep tensors from their last pass, which Python's own cannot copy."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in kept_by(module):
            if not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # of what somebody's module holds: a lock, an open file
        raise UsageError(f"The network cannot be copied ({reason(error)}); take that out of it first.") from error


def kept_by(module: nn.Module) -> list[Tensor]:
    """The tensors among a module's attributes, and in lists and dicts there."""
    tensors = []
    for value in vars(module).values():
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
        tensors += [item for item in inner if isinstance(item, Tensor)]
    return tensors
