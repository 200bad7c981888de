"""A sparse network without its dead neurons and channels: smaller layers, same outputs.

A channel is dead when nothing reads it (all its outgoing weights are zero) or when it says nothing (all its incoming
weights are zero, so that it is a constant: its bias, through normalisation and activation). A constant is folded into
the biases of the layers that read it. What hangs together (channels joined by shortcuts, features of a flattened map)
is torch-pruning's dependency graph's to know (Fang et al., "DepGraph", CVPR 2023, arXiv 2301.12900); where its picture
of a network is wrong, as of the channels that attention compares, the outputs change, and the channels are put back.
"""

import copy
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from dwfbench.base.errors import UsageError
from dwfbench.dwf.plain import plain as with_parameters
from dwfbench.models.own import separate

SAMPLES = 8
"""Random inputs on which a constant must be one, beside its weights being zero, and outputs must stay what they are."""

ROUNDING = 1e-5
"""Difference of outputs, relative to the largest, that the order of sums may make."""

LONGEST = 10_000
"""Steps along which torch-pruning follows the channels of a group: those of usual networks have some hundreds."""

Weighted = nn.Linear | _ConvNd


class Member(NamedTuple):
    """A layer's part in a group of joined channels: for each channel of the group, its indices in the layer."""

    layer: Weighted
    indices: dict[int, list[int]]


class Selected(nn.Linear):
    """A Linear layer that reads those of the features it is given that `index` names, int32 (in_features,)."""

    index: Tensor

    def __init__(self, layer: nn.Linear, index: Tensor):
        super().__init__(len(index), layer.out_features, layer.bias is not None, dtype=layer.weight.dtype)
        self.weight = nn.Parameter(layer.weight.detach()[:, index])
        self.bias = layer.bias
        self.register_buffer("index", index.int())

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features.index_select(-1, self.index), self.weight, self.bias)


def compact(network: nn.Module, input_shape: Sequence[int]) -> nn.Module:
    """A copy of ``network``, on the CPU, in float32 and eval mode, without its dead neurons and channels.

    ``input_shape`` is that of one sample, (C, H, W). A factorized network is collapsed first. The outputs are those of
    the network but for rounding (ROUNDING, on random inputs). A Linear layer that reads the pixels themselves takes
    only those that it has weights for (``Selected``). At least one channel of every layer stays, also where all are
    dead; so do dead channels whose constant cannot be folded, which a padded convolution reads at its border as 0, and
    channels of tied weights, of grouped and transposed convolutions and of normalisations over channels (LayerNorm,
    GroupNorm).
    Raises UsageError for a network that torch-pruning cannot trace.
    """
    smaller = plain(network).requires_grad_(True)  # the graph is traced through gradients
    inputs = torch.randn(SAMPLES, *input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = smaller(inputs.clone())  # a network may write into them
    kept_groups: set[str] = set()
    try:
        if writes_into_parts(smaller(inputs.clone())):  # torch-pruning would follow its channels for ever
            raise ValueError("it writes into parts of a tensor")
        with warnings.catch_warnings(), bounded_groups():
            warnings.simplefilter("ignore", UserWarning)  # of torch-pruning's, on parameters outside layers
            removing = True
            while removing:  # what is removed may leave others dead
                smaller, removing = remove_dead(smaller, inputs, expected, kept_groups)
        with torch.no_grad():
            selected = copy.deepcopy(smaller)
            select_pixels(selected, inputs)
            if agrees(selected, inputs, expected) and parameters_in(selected) == parameters_in(smaller):
                smaller = selected
    except Exception as error:  # of a graph that torch-pruning does not understand
        raise UsageError(f"The dead channels of this network cannot be traced ({error}).") from error
    return smaller.requires_grad_(False)


def agrees(network: nn.Module, inputs: Tensor, expected: Tensor) -> bool:
    """Whether a network still computes what it did; some read the weight of a layer elsewhere, too."""
    try:
        return close(network(inputs.clone()), expected)
    except RuntimeError:
        return False


def parameters_in(network: nn.Module) -> int:
    """How many parameters there are: more than before where one that was tied is now several."""
    return len(list(network.parameters()))


def writes_into_parts(outputs: Tensor) -> bool:
    """Whether, on the way to these outputs, something was written into a part of a tensor, as in y[:, ::2] = x."""
    waiting, visited = [outputs.grad_fn], set()
    while waiting:
        function = waiting.pop()
        if function is None or function in visited:
            continue
        if function.name().endswith("CopySlices"):
            return True
        visited.add(function)
        waiting += [earlier for earlier, _ in function.next_functions]
    return False


@contextmanager
def bounded_groups() -> Iterator[None]:
    """Within, torch-pruning raises ValueError where it would follow channels for ever, as through some slices."""
    graphs: Any = sys.modules[torch_pruning.DependencyGraph.__module__]
    unbounded = graphs.Group

    class Bounded(unbounded):  # type: ignore[misc, valid-type]
        def add_dep(self, *dependency: Any, **named: Any) -> None:
            if len(self) >= LONGEST:
                raise ValueError("their ways through it have no end")
            super().add_dep(*dependency, **named)

    graphs.Group = Bounded
    try:
        yield
    finally:
        graphs.Group = unbounded


def plain(network: nn.Module) -> nn.Module:
    """A copy of a network on the CPU, in float32 and eval mode, its weights parameters (see ``dwf.plain``)."""
    copied = with_parameters(network).cpu().float().eval()
    separate(copied)
    return copied


def remove_dead(network: nn.Module, inputs: Tensor, expected: Tensor, kept_groups: set[str]) -> tuple[nn.Module, bool]:
    """The network without what is dead in it now, and whether another look may find more.

    A group of channels whose removal would change the outputs on ``inputs`` from those ``expected``, or part tied
    weights, goes to ``kept_groups``, by the name of its first layer, and is left alone.
    """
    names = {module: name for name, module in network.named_modules()}
    graph = torch_pruning.DependencyGraph().build_dependency(network, inputs[:2].clone())
    removed = False
    for group in graph.get_all_groups():
        root = group[0]
        name = names[root.dep.target.module]
        if name in kept_groups or not (dead := find_dead(group, network, inputs)):
            continue
        unpruned = copy.deepcopy(network)
        consumers = members(group, "prune_in_channels")
        try:
            with torch.no_grad():
                for channel, constants in dead.items():
                    for member, values in zip(consumers, constants, strict=True):
                        fold(member.layer, member.indices[channel], values)
                folded_parameters = parameters_in(network)
                graph.get_pruning_group(root.dep.target.module, root.dep.handler, sorted(dead)).prune()
                unchanged = parameters_in(network) == folded_parameters and close(network(inputs.clone()), expected)
        except (RuntimeError, ValueError, IndexError):  # layers no longer fit each other
            unchanged = False
        if not unchanged:
            kept_groups.add(name)
            return unpruned, True  # the graph is of the spoilt network
        removed = True
    return network, removed


def close(outputs: Tensor, expected: Tensor) -> bool:
    """Whether two networks' outputs are the same but for rounding."""
    if outputs.shape != expected.shape:
        return False
    return bool((outputs - expected).abs().max() <= ROUNDING * expected.abs().max())


@torch.no_grad()
def find_dead(group, network: nn.Module, inputs: Tensor) -> dict[int, list[Tensor]]:
    """The dead channels of a group that can go, with what each consumer reads of them (see ``dead_constants``)."""
    producers, consumers = members(group, "prune_out_channels"), members(group, "prune_in_channels")
    if not consumers or not all(ordinary(member.layer) for member in consumers):
        return {}  # without consumers these are the network's outputs
    if not all(ordinary(member.layer) or depthwise(member.layer) for member in producers):
        return {}
    layer_inputs = inputs_of([member.layer for member in consumers], network, inputs)
    channels = range(len(group[0].idxs))
    constants_of = {channel: dead_constants(channel, producers, consumers, layer_inputs) for channel in channels}
    dead = {channel: constants for channel, constants in constants_of.items() if constants is not None}
    if len(dead) == len(channels):
        dead.pop(0)
    return dead


def members(group, handler: str) -> list[Member]:
    """The Linear and Conv layers of a group that torch-pruning would prune by ``handler``.

    It prunes a depthwise convolution, which passes each channel on by itself, by its outputs.
    """
    by_layer: dict[int, Member] = {}
    for item in group:
        layer = item.dep.target.module
        if isinstance(layer, nn.Linear | _ConvNd) and item.dep.handler.__name__ == handler:
            member = by_layer.setdefault(id(layer), Member(layer, {}))
            for channel, index in zip(item.root_idxs, item.idxs, strict=True):
                member.indices.setdefault(channel, []).append(index)
    return list(by_layer.values())


def ordinary(layer: nn.Module) -> bool:
    """Whether weight[o, i] joins input i to output o: not in grouped and transposed convolutions."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, _ConvNd) and layer.groups == 1 and not layer.transposed)


def depthwise(layer: nn.Module) -> bool:
    if not isinstance(layer, _ConvNd):
        return False
    return layer.groups == layer.in_channels == layer.out_channels and not layer.transposed


def inputs_of(layers: Iterable[nn.Module], network: nn.Module, inputs: Tensor) -> dict[int, Tensor]:
    """What the layers read when the network reads ``inputs``, by the layer's id; none of a layer that is not called."""
    layer_inputs: dict[int, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda module, arguments: layer_inputs.__setitem__(id(module), arguments[0]))
        for layer in layers
    ]
    try:
        network(inputs.clone())
    finally:
        for hook in hooks:
            hook.remove()
    return layer_inputs


def dead_constants(
    channel: int, producers: list[Member], consumers: list[Member], layer_inputs: dict[int, Tensor]
) -> list[Tensor] | None:
    """What each consumer reads of a dead channel, a value an index (0 where it does not matter); None if it lives."""
    if any(channel not in member.indices for member in (*producers, *consumers)):
        return None  # joined to the others in a way that the graph does not show
    unread = [not member.layer.weight[:, member.indices[channel]].any() for member in consumers]
    if all(unread):
        return [torch.zeros(len(member.indices[channel])) for member in consumers]
    if any(member.layer.weight[member.indices[channel]].any() for member in producers):
        return None
    constants = []
    for member, ignored in zip(consumers, unread, strict=True):
        if ignored:
            constants.append(torch.zeros(len(member.indices[channel])))
            continue
        if id(member.layer) not in layer_inputs:
            return None
        values = layer_inputs[id(member.layer)]
        channels_first = values.movedim(-1 if isinstance(member.layer, nn.Linear) else 1, 0)
        of_index = channels_first[member.indices[channel]].flatten(1)
        constant = of_index[:, 0]
        if (of_index - constant[:, None]).abs().max() > 1e-6 or (constant.any() and zero_padded(member.layer)):
            return None
        constants.append(constant)
    return constants


def zero_padded(layer: nn.Module) -> bool:
    if not isinstance(layer, _ConvNd) or layer.padding_mode != "zeros":
        return False
    return layer.padding == "same" if isinstance(layer.padding, str) else any(layer.padding)


def fold(layer: Weighted, indices: list[int], values: Tensor) -> None:
    """Add what constant inputs contribute to the biases of a layer that reads them."""
    if not values.any():
        return
    weight = layer.weight[:, indices].flatten(2).sum(2) if layer.weight.dim() > 2 else layer.weight[:, indices]
    if layer.bias is None:
        layer.bias = nn.Parameter(torch.zeros(len(layer.weight)))
    layer.bias += weight @ values


def select_pixels(network: nn.Module, inputs: Tensor) -> None:
    """Make ``Selected`` of the Linear layers that read the network's own inputs, if they ignore some, in place."""
    layers = {name: layer for name, layer in network.named_modules() if type(layer) is nn.Linear and name}
    layer_inputs = inputs_of(layers.values(), network, inputs)
    for name, layer in layers.items():
        values = layer_inputs.get(id(layer))
        used = layer.weight.any(0).nonzero().flatten()
        if values is not None and torch.equal(values, inputs.flatten(1)) and 0 < len(used) < layer.in_features:
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, Selected(layer, used))
