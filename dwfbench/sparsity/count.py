"""What is counted of a sparse network: weights, compression, multiplications.

Which weights are "prunable", ``models.prunable`` says. Nothing here changes the network, its gradients, its modes or a
random generator.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from dwfbench.base.errors import UsageError
from dwfbench.dwf.factors import FLOAT32_EPSILON, total
from dwfbench.models.functional import modes_kept
from dwfbench.models.prunable import NOTHING, prunable
from dwfbench.sparsity.flows import GATES, SIGNATURE, is_packed

CONVOLUTIONS = frozenset(f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3))
WEIGHTED = CONVOLUTIONS | {"linear"}  # names of the torch functions through which prunable weights act

SIZE_EDGES = tuple(step / 4 for step in range(-28, 1))
SIZES = ("zero", *(f"{edge:g}" for edge in SIZE_EDGES))
"""Bins of |w|: "zero" below float32's epsilon, 1.19e-7, then each named by the log10 of its lower edge: "-7" (which
begins at the epsilon), "-6.75", ..., "0", which has no upper end."""


def count_sizes(weights: Iterable[Tensor]) -> Tensor:
    """How the sizes |w| of the weights, each (L, ...), are distributed: (L, 30) counts, named by ``SIZES``."""
    counts, places = [], len(SIZES)
    for weight in weights:
        size = weight.abs().flatten(1)
        # By the logarithm: looking up edges takes ten times as long. The first name is that of the zeros.
        bins = (4 * size.log10() - 4 * SIZE_EDGES[0]).floor().clamp(0, places - 2).nan_to_num(places - 2).long() + 1
        bins = bins.where(size >= FLOAT32_EPSILON, 0) + places * torch.arange(len(bins), device=bins.device)[:, None]
        counts.append(torch.bincount(bins.flatten(), minlength=places * len(bins)).view(len(bins), places))
    return total(counts)


def cut(weights: Mapping[str, Tensor], threshold: float) -> dict[str, Tensor]:
    """The weights, those whose absolute value is below the threshold set to zero."""
    return {name: torch.where(weight.abs() < threshold, 0, weight) for name, weight in weights.items()}


def compression_ratio(numel: int, nnz: int) -> float:
    """numel / nnz; infinite if nothing is left. Raises UsageError if there was nothing to begin with."""
    if numel < 1:
        raise UsageError(NOTHING)
    return numel / nnz if nnz else math.inf


def count(weights: Mapping[str, Tensor]) -> list[dict]:
    """One `{name, shape, numel, nnz}` for each weight tensor (or mask), in order; nnz: exact non-zeros."""
    return [
        {"name": name, "shape": list(w.shape), "numel": w.numel(), "nnz": int(w.count_nonzero())}
        for name, w in weights.items()
    ]


@contextmanager
def evaluating(model: nn.Module, batch_norm_training: bool = False) -> Iterator[None]:
    """Eval mode meanwhile, BatchNorm layers excepted if asked; each module's own mode is put back after.

    Without cuDNN where there are RNN layers, as it has no gradients of theirs in this mode.
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with modes_kept(model), torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext():
        for module in model.modules():
            module.training = batch_norm_training and isinstance(module, _BatchNorm)
        yield


class _MacCounter(TorchFunctionMode):
    """Adds up multiplications wherever a known weight acts; ``kept`` are its entries that count, by its id."""

    def __init__(self, weights_by_id: dict[int, Tensor]):
        super().__init__()
        self.weights_by_id, self.dense, self.sparse = weights_by_id, 0, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in WEIGHTED:
            arguments = dict(zip(("input", "weight"), args, strict=False)) | kwargs
            # A weight acts once at each output position; in a transposed convolution, at each input's.
            acted = arguments["input"] if "transpose" in name else out
            self.add(arguments["weight"], acted.numel() // max(arguments["weight"].shape[0], 1))
        elif name == "multi_head_attention_forward":
            self.add_attention(SIGNATURE.bind(*args, **kwargs).arguments)
        elif name in GATES or name.removesuffix("_cell") in GATES:
            for weight in args[2:4] if name.endswith("_cell") else args[3] if is_packed(args) else args[2]:
                self.add(weight, args[0].numel() // args[0].shape[-1])  # once a step
        return out

    def add(self, weight: Tensor, positions: int, part: slice = slice(None)) -> None:
        """So many uses of a weight, or of some of its rows."""
        if id(weight) in self.weights_by_id:
            self.dense += weight[part].numel() * positions
            self.sparse += int(self.weights_by_id[id(weight)][part].count_nonzero()) * positions

    def add_attention(self, arguments: dict) -> None:
        """The projections of what attention reads, each at its length, and that of its outputs."""
        inputs = [arguments["query"], arguments["key"], arguments["value"]]
        for number, (letter, tokens) in enumerate(zip("qkv", inputs, strict=True)):
            positions = tokens.numel() // tokens.shape[-1]
            if arguments.get("use_separate_proj_weight"):
                self.add(arguments[f"{letter}_proj_weight"], positions)
            else:
                rows = len(arguments["in_proj_weight"]) // 3
                self.add(arguments["in_proj_weight"], positions, slice(number * rows, (number + 1) * rows))
        self.add(arguments["out_proj_weight"], inputs[0].numel() // inputs[0].shape[-1])


def macs(model: nn.Module, input_shape: Sequence[int], weights: Mapping[str, Tensor] | None = None) -> tuple[int, int]:
    """Multiply-accumulates (dense, sparse) in the prunable layers for one sample of shape `input_shape`.

    The shape has no batch axis. Sparse counts only the non-zeros of `weights` (weights or masks by name; the
    model's own if not given). By the usual convention products with zero padding count, biases, normalisation
    and pooling do not. A layer called twice counts twice, a recurrent one once a step. Of attention, the projections
    count and the products of queries, keys and values do not, nor do weights that act through other functions.
    """
    own_weights = prunable(model)
    weights = own_weights if weights is None else weights
    counter = _MacCounter({id(own_weights[name]): weight for name, weight in weights.items()})
    like = next(model.parameters(), torch.zeros(())) if not own_weights else next(iter(own_weights.values()))
    with torch.no_grad(), evaluating(model), counter:
        model(torch.zeros(1, *input_shape, dtype=like.dtype, device=like.device))
    return counter.dense, counter.sparse
