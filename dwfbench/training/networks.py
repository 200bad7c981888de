"""Networks as a trainer needs them: built from a seed, as tensors to train, and as modules again."""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.modules.batchnorm import _BatchNorm

from dwfbench import models
from dwfbench.data.dataset import Dataset
from dwfbench.dwf import parametrization as spaces
from dwfbench.dwf.parametrization import Parametrization
from dwfbench.methods.contract import Method, Tensors
from dwfbench.models import weights as trained
from dwfbench.models.prunable import padding_rows, prunable
from dwfbench.runs.spec import RunSpec
from dwfbench.training.group import Network
from dwfbench.training.lanes import generator, stack


class Networks:
    """The networks of a curve's runs, on the device of ``data``."""

    def __init__(self, spec: RunSpec, method: Method, data: Dataset):
        self.spec, self.method, self.data = spec, method, data
        self.device = data.train.images.device

    def build(self, seed: int) -> nn.Module:
        """The initial network of a seed, with the trained weights that the run starts from."""
        return self.begun(seed)[0]

    def begun(self, seed: int, anew: bool = False) -> tuple[nn.Module, list[str]]:
        """The same, and the names of the parameters that no file gave; of all, where the network is drawn ``anew``."""
        network = models.build_for(self.spec, self.data, seed)
        drawn = [name for name, _ in network.named_parameters()]
        if self.spec.init is not None and not anew:
            drawn = trained.put_into(network, self.spec.init)
        return network.to(self.device), drawn

    def initial(self, seeds: Iterable[int], parametrization: Parametrization, anew: bool = False) -> Network:
        """The initial networks of the lanes' seeds, stacked. Trained weights are kept: factors are balanced."""
        weights, others, buffers = [], [], []
        for seed in seeds:
            network, drawn = self.begun(seed, anew)
            dense, rows = {name: weight.detach() for name, weight in prunable(network).items()}, padding_rows(network)
            fresh = {name: weight for name, weight in dense.items() if name in drawn}
            kept = spaces.keep(parametrization, {k: w for k, w in dense.items() if k not in fresh or k in rows})
            parts = kept | spaces.draw(parametrization, fresh, self.randomness(seed))
            for name, row in rows.items():  # no loss trains it, so it stays what it is
                for part in spaces.part_names(parametrization, name):
                    if parts[part].shape == dense[name].shape:
                        parts[part][row] = kept[part][row]
            weights.append({part: parts[part] for name in dense for part in spaces.part_names(parametrization, name)})
            unprunable = {name: value for name, value in network.named_parameters() if name not in dense}
            frozen = {name: value.detach() for name, value in unprunable.items() if not value.requires_grad}
            others.append({name: value.detach() for name, value in unprunable.items() if name not in frozen})
            buffers.append({**dict(network.named_buffers()), **frozen})
        return Network(stack(weights), stack(others), stack(buffers))

    def module(self, seed: int, weights: Tensors, others: Tensors, buffers: Tensors) -> nn.Module:
        """A network of the seed's with these values."""
        network, values = self.build(seed), {**weights, **others, **buffers}
        with torch.no_grad():
            for name, tensor in itertools.chain(network.named_parameters(), network.named_buffers()):
                tensor.copy_(values[name])
        return network

    def randomness(self, seed: int) -> torch.Generator:
        """The method's own random numbers before training."""
        return generator(seed, f"method:{self.method.name}")


@torch.no_grad()
def effective(parametrization: Parametrization, trained: Tensors) -> Tensors:
    """The prunable weights of all lanes as the network sees them, (L, ...)."""
    return vmap(lambda tensors: spaces.weights_of(parametrization, tensors))(trained)


def reparametrized(before: Parametrization, after: Parametrization, trained: Tensors) -> Tensors:
    """What is trained of all lanes in the one parametrization, for the same weights in another."""
    weights = effective(before, trained)
    lanes = len(next(iter(weights.values())))
    return stack([spaces.keep(after, {name: value[lane] for name, value in weights.items()}) for lane in range(lanes)])


def filled(old: Tensors, new: Tensors) -> Tensors:
    """The new values, in the memory of the old tensors where these are as many: a compiled step stays the same."""
    if old is new:
        return old
    if old.keys() != new.keys():
        return copied(new)
    for name, value in new.items():
        old[name].copy_(value)
    return old


def copied(tensors: Tensors) -> Tensors:
    """The tensors, in memory of their own."""
    return {name: value.clone() for name, value in tensors.items()}


def normalise_in_float32(network: nn.Module) -> nn.Module:
    """Let BatchNorm compute in float32 what comes in bfloat16, in place; returns the network.

    It does so in any case, but with bfloat16 beside its float32 statistics it cannot be mapped over lanes.
    """

    def widened(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tensor.float() for tensor in inputs)

    def narrowed(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output.bfloat16() if torch.is_autocast_enabled(output.device.type) else output

    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(widened)
            module.register_forward_hook(narrowed)
    return network
