"""What of a network is prunable: the one list that every room asks, from training and masks to counts and exports.

- the weights of Linear and Conv1d/2d/3d layers, also transposed, and of what is derived from these classes
- of MultiheadAttention the input projections, in one matrix or three (the output projection is a Linear layer)
- the matrices of RNN, LSTM and GRU, projections included, and those of their cells
- the weights of Embedding and EmbeddingBag where they are chosen, see ``choose_embeddings``

Each counts once, however many layers share it. Frozen weights (``requires_grad`` False) are not prunable, and neither
is a weight without elements. Whatever else a network holds, ``left_out`` names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from dwfbench.base.errors import UsageError
from dwfbench.base.text import first_few

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
LAYER_TYPES = (nn.Linear, _ConvNd, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase, *EMBEDDINGS)
LAYER_NAMES = "Linear, Conv, MultiheadAttention, RNN, LSTM or GRU"
NOTHING = f"the network has no prunable weights; it needs a {LAYER_NAMES} layer that is trained"
NORMALISATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Place:
    """An attribute of a module that holds a weight. ``layer`` is the module's name, "" for the model itself."""

    layer: str
    module: nn.Module
    attribute: str

    @property
    def name(self) -> str:
        """The weight's name in ``named_parameters`` of the plain model."""
        return f"{self.layer}.{self.attribute}" if self.layer else self.attribute

    @property
    def parameter(self) -> nn.Parameter | None:
        """The weight where it is a parameter; None where the layer computes it from others."""
        return self.module._parameters.get(self.attribute)

    @property
    def sources(self) -> list[nn.Parameter]:
        """The parameter, or those from which the layer computes its weight."""
        if self.parameter is not None:
            return [self.parameter]
        names = [f"{self.attribute}{suffix}" for suffix in ("_orig", "_g", "_v")]  # of PyTorch's hooks
        prefix = f"parametrizations.{self.attribute}."
        return [p for name, p in self.module.named_parameters() if name in names or name.startswith(prefix)]

    def counts(self, ready: bool) -> bool:
        """Whether the weight has elements and is not frozen; ``ready`` says that the whole model is."""
        sources = self.sources
        if all(not is_lazy(source) and source.numel() == 0 for source in sources):
            return False
        return ready or any(source.requires_grad for source in sources)


def attributes(module: nn.Module) -> tuple[str, ...]:
    """The names of the prunable weights that a layer of these kinds holds itself, embeddings included."""
    if isinstance(module, nn.MultiheadAttention):
        projections = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        return tuple(name for name in projections if getattr(module, name) is not None)
    if isinstance(module, nn.RNNBase):
        return tuple(name for name in module._flat_weights_names if name.startswith("weight"))
    if isinstance(module, nn.RNNCellBase):
        return ("weight_ih", "weight_hh")
    return ("weight",) if isinstance(module, LAYER_TYPES) else ()


def places(model: nn.Module) -> Iterator[Place]:
    """Every weight of every layer of these kinds, in model order, frozen or not; a module used twice comes once."""
    for name, module in model.named_modules():
        yield from (Place(name, module, attribute) for attribute in attributes(module))


def choose_embeddings(model: nn.Module) -> None:
    """Let the weights of all Embedding layers be prunable, too, from now on."""
    for place in places(model):
        if isinstance(place.module, EMBEDDINGS):
            choose(place)


def choose(place: Place) -> None:
    """Let a layer remember that its weight is prunable, whatever the layer's kind."""
    module: Any = place.module
    module.chosen_weights = tuple(dict.fromkeys((*chosen_in(module), place.attribute)))


def chosen_in(module: nn.Module) -> tuple[str, ...]:
    """The names of the weights that ``choose`` was told of."""
    return getattr(module, "chosen_weights", ())


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """Parameter name -> weight of all that is prunable, in model order.

    The values are the model's own parameters, not copies. A weight shared by several layers appears once, under the
    first name that ``model.named_parameters()`` gives it. In a model without any trainable parameter, which was made
    ready for use, nothing counts as frozen. Raises UsageError for a weight that its layer computes from trainable
    parameters (factors, weight_norm, a pruning mask): a mask on those would be none on the weight.
    """
    ready = is_ready(model)
    weights = {
        id(place.parameter)
        for place in places(model)
        if (place.attribute in chosen_in(place.module) or not isinstance(place.module, EMBEDDINGS))
        and place.counts(ready)
        and present(place)
    }
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in weights}


def padding_row(holders: list[Place]) -> int | None:
    """The row of a weight that stands for padding, which has no gradient and is zero; ``holders`` are all layers that
    have this weight. None where there is no such row, or another layer than an embedding trains it.
    """
    modules = [place.module for place in holders]
    rows = {module.padding_idx if isinstance(module, EMBEDDINGS) else None for module in modules}
    return rows.pop() if len(rows) == 1 else None


def padding_rows(model: nn.Module) -> dict[str, int]:
    """These rows by the names of the prunable weights that have one."""
    holders: dict[int, list[Place]] = {}
    for place in places(model):
        holders.setdefault(id(place.parameter), []).append(place)
    rows = {name: padding_row(holders[id(weight)]) for name, weight in prunable(model).items()}
    return {name: row for name, row in rows.items() if row is not None}


def running_statistics(model: nn.Module) -> set[str]:
    """The names of the buffers in which normalisations keep means and variances: training moves them."""
    layers = ((name, layer) for name, layer in model.named_modules() if isinstance(layer, _NormBase))
    return {f"{name}.{buffer}" if name else buffer for name, layer in layers for buffer, _ in layer.named_buffers()}


def is_lazy(tensor: Tensor) -> bool:
    """Whether a lazy layer's parameter or buffer waits for the first pass to get a shape."""
    return isinstance(tensor, UninitializedParameter | UninitializedBuffer)


def is_ready(model: nn.Module) -> bool:
    """Whether nothing of a model is trainable."""
    return not any(parameter.requires_grad for parameter in model.parameters())


def present(place: Place) -> bool:
    """True. Raises UsageError if the weight is no parameter, or one without values."""
    parameter = place.parameter
    if parameter is None:
        raise UsageError(
            f"The weight {place.name} is computed already (factors, weight_norm, spectral_norm, a pruning mask), so it "
            "can be neither pruned nor factorized; make it a parameter of its layer again, by the one that fits of "
            "torch.nn.utils' parametrize.remove_parametrizations, remove_weight_norm, remove_spectral_norm and "
            f"prune.remove, called with (layer, {place.attribute!r})."
        )
    if is_lazy(parameter) or parameter.is_meta:
        raise UsageError(
            f"The weight {place.name} has no values yet (a lazy layer, the meta device); initialise it first."
        )
    return True


def left_out(model: nn.Module) -> str | None:
    """ "prunable: 63 % of 16,700 weights; not: pos (a parameter of ViT, 6,400), ...": what is not, beside the usual.

    Biases and parameters of normalisation, which never are, are counted but not named; None where they are all there
    is.
    """
    weights = prunable(model)
    everything = {name: value for name, value in model.named_parameters() if not is_lazy(value)}
    named = []
    for name, parameter in everything.items():
        layer = model.get_submodule(name.rpartition(".")[0])
        if name not in weights and not is_usual(name, layer):
            holder = "frozen" if not parameter.requires_grad else f"of {type(layer).__name__}"
            named.append(f"{name} ({holder}, {parameter.numel():,})")
    if not named:
        return None
    total = sum(parameter.numel() for parameter in everything.values())
    share = 100 * sum(weight.numel() for weight in weights.values()) / total
    return f"prunable: {share:.3g} % of {total:,} weights; not: {first_few(named)}"


def is_usual(name: str, layer: nn.Module) -> bool:
    """Whether nobody would expect this parameter to be pruned: a bias, or one of a normalisation."""
    return is_bias(name) or isinstance(layer, NORMALISATIONS)


def is_bias(name: str) -> bool:
    """Whether a parameter of this name is a bias, also one of a recurrent or an attention layer ("bias_ih_l0")."""
    return "bias" in name.rpartition(".")[2]
