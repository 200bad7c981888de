"""Calling a network with other tensors in the place of its own, or in another mode, which stay as they are."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def caller(network: nn.Module) -> Callable[[Mapping[str, Tensor], Tensor], Any]:
    """call(tensors, inputs) -> what the network returns with these parameters and buffers, by their names.

    A tensor under one of several names stands for all of them. ``functional_call`` does so, too, but loses the
    network's own tensors where one module has two names; there the names are taken care of here.
    """
    modules = list(network.modules())
    if len(modules) == len(list(network.named_modules(remove_duplicate=False))):
        return lambda tensors, inputs: functional_call(network, dict(tensors), (inputs,))
    ties = ties_of(network)

    def call(tensors: Mapping[str, Tensor], inputs: Tensor) -> Any:
        tied = {name: tensors[first_name] for name, first_name in ties.items() if first_name in tensors}
        return functional_call(network, {**tensors, **tied}, (inputs,), tie_weights=False)

    return call


@contextmanager
def modes_kept(network: nn.Module) -> Iterator[None]:
    """Within, modules may go to training or eval mode; each one's own is put back after."""
    modes = {module: module.training for module in network.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def ties_of(network: nn.Module) -> dict[str, str]:
    """Further names of parameters and buffers that are attributes of several modules -> their first names."""
    first_names: dict[int, str] = {}
    ties = {}
    for prefix, module in network.named_modules():
        for attribute, value in [*module._parameters.items(), *module._buffers.items()]:
            name = f"{prefix}.{attribute}".lstrip(".")
            if value is not None and first_names.setdefault(id(value), name) != name:
                ties[name] = first_names[id(value)]
    return ties
