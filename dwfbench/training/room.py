"""Whether a group fits into the machine's memory, asked before it is made: Linux kills whoever takes too much.

On CUDA the allocator itself says so in time.
"""

from collections.abc import Iterable

from torch import nn

from dwfbench.base import memory
from dwfbench.methods.stage import Stage
from dwfbench.models.prunable import prunable


def needed(network: nn.Module, stages: Iterable[Stage], moments: int, lanes: int) -> int:
    """Bytes that so many lanes take at the least: what is trained of them, as much as gradients, and the moments of the
    optimiser. Activations, masks and what is computed in between come on top.
    """
    weights = prunable(network)
    parts = max(stage.parametrization.parts for stage in stages)
    sizes = {name: value.numel() * value.element_size() for name, value in network.named_parameters()}
    trained = sum(size * (parts if name in weights else 1) for name, size in sizes.items())
    return lanes * trained * (2 + moments)


def refuse_too_many(network: nn.Module, stages: Iterable[Stage], moments: int, lanes: int) -> None:
    """Raises MemoryError, with what is needed and what is available, for more lanes than there is room for."""
    if why := memory.lacking(needed(network, stages, moments, lanes)):
        raise MemoryError(f"{lanes} run{'s' * (lanes > 1)} at once need{'s' * (lanes == 1)} {why}")
