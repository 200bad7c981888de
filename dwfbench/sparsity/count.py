"""What is counted of a sparse network: weights, compression, multiplications and the paths still alive.

Which weights are "prunable", ``models.prunable`` says. Nothing here changes the network, its gradients, its modes or a
random generator.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from dwfbench.base.errors import UsageError, reason
from dwfbench.dwf.factors import FLOAT32_EPSILON, total
from dwfbench.dwf.plain import is_computed, plain
from dwfbench.models.prunable import NOTHING, left_out, prunable

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


def sparsity_report(
    model: nn.Module, input_shape: Sequence[int] | None = None, weights: Mapping[str, Tensor] | None = None
) -> dict:
    """Everything that is recorded of a sparse network, under the names of the run record.

    `weights` stands in for the model's own prunable weights (names as in `prunable`). `compression` is over
    the prunable weights; `compression_all` over all parameters, where the others (biases, normalisation)
    count as stored in full even where they happen to be zero. With `input_shape`, the shape of one sample
    without the batch axis, the report also has `connected`, `effective_compression`, `macs_dense` and
    `macs_sparse`; not for networks that take tokens. What cannot be told of a network is None, and `notes` say why, in
    a sentence each, and what it holds beside the prunable weights (`left_out`). Factors are reported as if they were
    collapsed now, and other weights that a layer computes (weight_norm, masks) by what they are in eval mode.
    """
    if is_computed(model):
        model = plain(model)
    weights = prunable(model) if weights is None else weights
    layers = count(weights)
    numel, nnz = (sum(layer[key] for layer in layers) for key in ("numel", "nnz"))
    others = sum(p.numel() for p in model.parameters()) - numel
    report = {
        "compression": compression_ratio(numel, nnz),
        "compression_all": compression_ratio(numel + others, nnz + others),
        "nnz": nnz,
        "numel": numel,
        "layers": layers,
        "notes": [note for note in [left_out(model)] if note],
    }
    return report if input_shape is None else report | diagnosed(model, input_shape, weights, report)


def diagnosed(model: nn.Module, input_shape: Sequence[int], weights: Mapping[str, Tensor], report: dict) -> dict:
    """The parts of the report that need a pass of the network: where its code does not let them be known, None."""
    found: dict = dict.fromkeys(("connected", "effective_compression", "macs_dense", "macs_sparse"))
    notes = list(report["notes"])
    try:
        connected, effective = path_report(model, input_shape, weights)
        found |= {"connected": connected, "effective_compression": compression_ratio(report["numel"], effective)}
    except Exception as error:  # of anybody's network; what was trained is not lost to it
        notes.append(f"paths unknown: {reason(error)}")
    try:
        found["macs_dense"], found["macs_sparse"] = macs(model, input_shape, weights)
    except Exception as error:
        notes.append(f"multiplications unknown: {reason(error)}")
    return found | {"notes": notes}


@contextmanager
def evaluating(model: nn.Module, batch_norm_training: bool = False) -> Iterator[None]:
    """Eval mode meanwhile, BatchNorm layers excepted if asked; each module's own mode is put back after."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = batch_norm_training and isinstance(module, _BatchNorm)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class _MacCounter(TorchFunctionMode):
    """Adds up multiplications at every linear or convolution call that uses one of the known weights."""

    def __init__(self, nnz: dict[int, int]):
        super().__init__()
        self.nnz, self.dense, self.sparse = nnz, 0, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in WEIGHTED:
            given = dict(zip(("input", "weight"), args, strict=False)) | kwargs
            weight = given["weight"]
            if id(weight) in self.nnz:
                # A weight acts once at each output position; in a transposed convolution, at each input's.
                positions = (given["input"] if "transpose" in name else out).numel() // weight.shape[0]
                self.dense += weight.numel() * positions
                self.sparse += self.nnz[id(weight)] * positions
        return out


def macs(model: nn.Module, input_shape: Sequence[int], weights: Mapping[str, Tensor] | None = None) -> tuple[int, int]:
    """Multiply-accumulates (dense, sparse) in the prunable layers for one sample of shape `input_shape`.

    The shape has no batch axis. Sparse counts only the non-zeros of `weights` (weights or masks by name; the
    model's own if not given). By the usual convention products with zero padding count, biases, normalisation
    and pooling do not. A layer called twice counts twice. Weights that act otherwise than through linear or
    convolution calls (torch's fused attention) are not counted.
    """
    own = prunable(model)
    weights = own if weights is None else weights
    counter = _MacCounter({id(own[name]): int(w.count_nonzero()) for name, w in weights.items()})
    like = next(model.parameters())
    with torch.no_grad(), evaluating(model), counter:
        model(torch.zeros(1, *input_shape, dtype=like.dtype, device=like.device))
    return counter.dense, counter.sparse


class _Binary(torch.autograd.Function):
    """1 where the input exceeds `forward_above`, else 0; the gradient likewise with `backward_above`."""

    @staticmethod
    def forward(ctx, x, forward_above, backward_above):
        ctx.above = backward_above
        return (x > forward_above).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return (grad > ctx.above).to(grad.dtype), None, None


# Normalisation and elementwise functions neither open nor close a path, so they pass the flow on unchanged.
_IDENTITY = frozenset(
    """batch_norm layer_norm group_norm instance_norm rms_norm local_response_norm normalize
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout
    relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish hardtanh hardswish hardsigmoid sigmoid
    tanh softplus softsign log_sigmoid logsigmoid tanhshrink softshrink hardshrink threshold
    softmax softmin log_softmax
    clamp clip clamp_min clamp_max abs neg negative exp log log1p sqrt square pow""".split()  # noqa: SIM905
)
_ARITHMETIC = frozenset(prefix + name for name in ("add", "sub", "mul", "div", "truediv") for prefix in ("", "r")) | {
    "subtract",
    "multiply",
    "divide",
    "true_divide",
}


def _per_dimension(value, n: int) -> list[int]:
    return [value] * n if isinstance(value, int) else list(value) * (n if len(value) == 1 else 1)


class _Flow(TorchFunctionMode):
    """Runs a network on a non-negative flow from its inputs: positive where a path of non-zero weights ends.

    The flow is any tensor that requires a gradient. Linear and convolution calls turn it into 0/1 on both
    sides and in both directions, so that no depth over- or underflows and counts of paths cannot cancel:
    their sums are whole numbers, and 0.5 tells none from some whatever algorithm computes them.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        full_name = getattr(func, "__name__", "")
        name = full_name.strip("_").removesuffix("_with_indices")
        if name in WEIGHTED:
            return self.weighted(func, *args, **kwargs)
        if name in _ARITHMETIC:
            return self.combined(func, full_name, args, kwargs)
        flow = args[0] if args else kwargs.get("input")
        if isinstance(flow, Tensor) and flow.requires_grad:
            if name in _IDENTITY:
                return flow.clone()  # the network may change its copy in place
            if name == "amax":
                return torch.mean(*args, **kwargs)
            if name.startswith(("max_pool", "adaptive_max_pool")):
                pool = self.adaptive_pooled if name.startswith("adaptive") else self.pooled
                return pool(full_name, *args, **kwargs)
        return func(*args, **kwargs)

    @staticmethod
    def weighted(func, input, weight, bias=None, *args, **kwargs):
        """The layer without its bias: that and constants are no path from the input. Weights become 0/1."""
        if not input.requires_grad:
            input = torch.zeros_like(input)
        if not weight.requires_grad:
            weight = (weight != 0).to(input.dtype)
        return _Binary.apply(func(_Binary.apply(input, 0.0, 0.5), weight, None, *args, **kwargs), 0.5, 0.0)

    @staticmethod
    def combined(func, name, args, kwargs):
        """Sums, differences, products, quotients depend on each operand: add flows, take constants as 0."""
        operands = [o for o in (*args[:2], kwargs.get("input"), kwargs.get("other")) if isinstance(o, Tensor)]
        flow = next((o for o in operands if o.requires_grad), None)
        if flow is None:
            return func(*args, **kwargs)
        first, *rest = (o if o.requires_grad else torch.zeros_like(o, dtype=flow.dtype) for o in operands)
        if name.endswith("_") and not name.startswith("_"):
            return first.add_(*rest) if rest else first
        return first + (rest[0] if rest else 0)

    @classmethod
    def pooled(
        cls,
        name,
        input,
        kernel_size,
        stride=None,
        padding=0,
        dilation=1,
        ceil_mode=False,
        return_indices=False,
    ):
        """Max pooling as a sum over each window: a maximum's gradient reaches only one of tied inputs."""
        n = int(name[len("max_pool")])
        like, indices = getattr(F, f"max_pool{n}d")(
            input.detach(), kernel_size, stride, padding, dilation, ceil_mode, return_indices=True
        )
        kernel, pad = _per_dimension(kernel_size, n), _per_dimension(padding, n)
        stride = _per_dimension(stride, n) if stride else kernel
        channels = input.shape[-n - 1]
        ones = input.new_ones(channels, 1, *kernel, requires_grad=True)
        # ceil_mode may need up to a stride more on the far side; what is too much is cut off again.
        sides = [side for p, s in zip(reversed(pad), reversed(stride), strict=True) for side in (p, p + s)]
        conv = getattr(F, f"conv{n}d")
        out = cls.weighted(conv, F.pad(input, sides), ones, None, stride, 0, dilation, channels)
        out = out[(..., *(slice(size) for size in like.shape[-n:]))]
        return (out, indices) if return_indices or name.endswith("_with_indices") else out

    @staticmethod
    def adaptive_pooled(name, input, output_size, return_indices=False):
        n = int(name[len("adaptive_max_pool")])
        out = getattr(F, f"adaptive_avg_pool{n}d")(input, output_size)
        if not (return_indices or name.endswith("_with_indices")):
            return out
        return out, getattr(F, f"adaptive_max_pool{n}d")(input.detach(), output_size, return_indices=True)[1]


def live(
    model: nn.Module, input_shape: Sequence[int], weights: Mapping[str, Tensor] | None = None
) -> tuple[bool, dict[str, Tensor]]:
    """Whether a path of non-zero weights leads from input to output, and boolean masks of the weights on one.

    Follows the network's own forward pass for one sample of shape `input_shape` (no batch axis), so
    shortcuts, pooling, grouped convolutions and padding are exact; `weights` stands in for the model's own
    (names as in `prunable`). Paths through biases are none: a neuron fed only by its bias is dead.
    Normalisation and activation functions pass paths on. Meant for networks of linear, convolution, pooling,
    normalisation, elementwise, reshaping and concatenating operations; paths into attention weights are not
    followed.
    """
    weights = prunable(model) if weights is None else weights
    flow = torch.ones(1, *input_shape, device=next(model.parameters()).device, requires_grad=True)
    present = {name: (w.detach() != 0).to(flow).requires_grad_() for name, w in weights.items()}
    constants = {name: p.detach() for name, p in model.named_parameters()}
    constants |= {name: b.clone() for name, b in model.named_buffers()}
    with torch.enable_grad(), evaluating(model), _Flow():
        # The model gets a view of the input, which it may change in place.
        out = functional_call(model, constants | present, (flow.clone(),))
    if not (out.requires_grad and (out > 0).any()):
        return False, {name: torch.zeros_like(w, dtype=torch.bool) for name, w in present.items()}
    grads = torch.autograd.grad(out.sum(), list(present.values()), materialize_grads=True)
    return True, {name: (g > 0.5) & (w > 0) for (name, w), g in zip(present.items(), grads, strict=True)}


def path_report(
    model: nn.Module, input_shape: Sequence[int], weights: Mapping[str, Tensor] | None = None
) -> tuple[bool, int]:
    """(connected, effective nnz): does input reach output; how many weights are on a path (see `live`)."""
    connected, masks = live(model, input_shape, weights)
    return connected, sum(int(m.sum()) for m in masks.values())
