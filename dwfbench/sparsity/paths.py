"""Which weights lie on a path from input to output, by following a flow through the network's own forward pass.

What each function does to a flow, `flows` says. A function that is not known here makes all paths of a network unknown:
an answer that may be wrong is none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dwfbench.base.errors import UsageError
from dwfbench.models.functional import caller
from dwfbench.models.prunable import prunable
from dwfbench.sparsity import flows
from dwfbench.sparsity.count import WEIGHTED, evaluating
from dwfbench.sparsity.flows import is_flow


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


IDENTITY = names(
    """batch_norm layer_norm group_norm instance_norm rms_norm local_response_norm normalize
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout
    relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish hardtanh hardswish hardsigmoid sigmoid
    tanh softplus softsign log_sigmoid logsigmoid tanhshrink softshrink hardshrink threshold
    softmax softmin log_softmax gumbel_softmax masked_fill
    clamp clip clamp_min clamp_max abs neg negative positive exp exp2 expm1 log log2 log10 log1p logit sqrt rsqrt square
    pow reciprocal sin cos tan asin acos atan sinh cosh asinh acosh erf erfc erfinv round floor ceil trunc frac sign sgn
    nan_to_num float double half bfloat16 cpu cuda detach contiguous clone requires_grad zero_nans"""
)
"""Normalisation, elementwise functions and casts neither open nor close a path: they pass the flow on unchanged."""

ARITHMETIC = names(
    """add sub subtract mul multiply div divide truediv floordiv floor_divide true_divide radd rsub rmul rdiv rtruediv
    rpow iadd isub imul itruediv idiv maximum minimum fmax fmin atan2 hypot remainder fmod logaddexp"""
)
MULTILINEAR = names("matmul rmatmul mm bmm mv dot inner outer einsum tensordot")
JOINING = names("cat concat concatenate stack hstack vstack dstack column_stack row_stack")
REDUCING = {
    **dict.fromkeys(names("amax amin max min median nanmedian mode logsumexp prod std var"), 0),
    **dict.fromkeys(names("norm vector_norm linalg_vector_norm"), 1),
}
"""With the place of their axes among the arguments behind the flow."""

EXACT = names(
    """getitem view view_as reshape reshape_as flatten unflatten ravel permute transpose t adjoint swapaxes swapdims
    movedim moveaxis squeeze unsqueeze expand expand_as broadcast_to repeat repeat_interleave tile split
    split_with_sizes chunk tensor_split unbind narrow select index_select gather take take_along_dim roll flip fliplr
    flipud rot90 pad unfold fold pixel_shuffle pixel_unshuffle channel_shuffle sum mean cumsum diagonal tril triu
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d interpolate upsample
    upsample_nearest upsample_bilinear iter"""
)
"""Functions that move, repeat or add up: they do to a flow what they do to numbers."""

CONSTANT = names("zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full")
"""Functions that look at a shape only."""

ASKING = names("bool float int index complex item tolist numpy contains")
"""Methods by which Python looks at values, by their names without underscores; ``float`` is also a cast."""


class _Flow(TorchFunctionMode):
    """Runs a network on flows from its inputs, also where it switches gradients off."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        with torch.enable_grad():
            return self.followed(func, args, kwargs or {})

    def followed(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        full_name = getattr(func, "__name__", "")
        name = full_name.strip("_").removesuffix("_with_indices")
        operands = [*args, *kwargs.values()]
        inner = [item for value in operands if isinstance(value, (list, tuple)) for item in value]
        if not any(map(is_flow, operands + inner)):
            return func(*args, **kwargs)
        flow: Any = args[0] if args else kwargs.get("input")
        if name in WEIGHTED:
            return flows.weighted(func, *args, **kwargs)
        if name in ARITHMETIC or (name in ("max", "min") and len(args) > 1 and isinstance(args[1], Tensor)):
            return flows.combined(full_name, [*args[:2], kwargs.get("input"), kwargs.get("other")])
        if name == "where" and not is_flow(args[0]):
            return torch.where(args[0], *flows.alike(args[1:]))
        if name in ("setitem", "copy"):
            return self.assigned(func, *args)
        if name in JOINING:
            return func(flows.alike(inner), *args[1:], **{key: kwargs[key] for key in kwargs if key != "tensors"})
        if name in MULTILINEAR:
            return self.multiplied(func, args)
        if name == "scaled_dot_product_attention":
            return flows.attended(*args[:3])[0]
        if name == "multi_head_attention_forward":
            return flows.multi_head(args, kwargs)
        if name in flows.GATES and not flows.is_packed(args):
            return flows.recurrent(name, *args)
        if name.endswith("_cell"):
            return flows.cell(name.removesuffix("_cell"), *args)
        if is_flow(flow) and not (full_name.startswith("__") and name in ASKING):
            return self.changed(func, full_name, name, flow, args, kwargs)
        return self.unknown(full_name)

    def changed(self, func: Any, full_name: str, name: str, flow: Tensor, args, kwargs) -> Any:
        """Functions of one flow, and of constants."""
        if name in IDENTITY or (name == "pow" and not is_flow(args[1])):
            return flow.clone()  # the network may change its copy in place
        if name in REDUCING:
            return flows.reduced(func, flow, args[1:], kwargs, REDUCING[name])
        if name in ("sort", "topk"):
            return flows.ordered(func, flow, args[1:], kwargs)
        if name == "glu":
            return flows.gated(flow, *args[1:], **kwargs)
        if name.startswith("max_pool"):
            return flows.pooled(full_name, *args, **kwargs)
        if name.startswith("adaptive_max_pool"):
            return flows.adaptive_pooled(full_name, *args, **kwargs)
        if name in ("to", "type", "type_as", "get"):
            out = func(*args, **kwargs)
            if not isinstance(out, Tensor) or (name == "get" and is_flow(out)):
                return out  # a shape, a transposed matrix
            return flow.clone() if out.is_floating_point() else self.unknown(f"a cast to {out.dtype}")
        if name in ("interpolate", "upsample") and kwargs.get("mode", "") == "bicubic":
            return self.unknown("interpolate by bicubic")  # its negative coefficients would take from a flow
        if name in EXACT or name in CONSTANT:
            out = func(*args, **kwargs)
            return self.marked(out) if self.is_weight(flow) else out
        if name in ASKING or isinstance(out := func(*args, **kwargs), Tensor) or any_tensor(out):
            return self.unknown(full_name)
        return out

    @staticmethod
    def unknown(name: str) -> Any:
        raise UsageError(f"the function {name} of the network is not one through which paths are followed")

    def multiplied(self, func: Any, args: Sequence[Any]) -> Tensor:
        if isinstance(args[0], str) and len(args) == 2 and isinstance(args[1], (list, tuple)):
            args = (args[0], *args[1])  # einsum takes a list, too
        return flows.multilinear(func, args, self.is_weight)

    @staticmethod
    def assigned(func: Any, target: Tensor, *args: Any) -> Any:
        """An assignment to a tensor or a part of it: what is no flow, of both, becomes none."""
        if not is_flow(target):
            target.zero_()
        *index, value = args
        return func(target, *index, flows.as_flow(value, target.dtype) if isinstance(value, Tensor) else 0)

    @staticmethod
    def is_weight(value: Any) -> bool:
        """Whether a tensor is one of the weights, or only its entries in another order."""
        return getattr(value, "is_weight", False)

    def marked(self, value: Any) -> Any:
        """The same, known as a weight."""
        if isinstance(value, Tensor):
            value.is_weight = True  # type: ignore[attr-defined]
        elif isinstance(value, (list, tuple)):
            for item in value:
                self.marked(item)
        return value


def any_tensor(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(isinstance(item, Tensor) for item in value)


def outputs_of(value: Any) -> list[Tensor]:
    """The tensors in what a network returns: itself, or those in lists, tuples, dicts and objects of these."""
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for item in items for tensor in outputs_of(item)]


@torch.inference_mode(False)
@torch.enable_grad()  # whatever the caller has switched off
def live(
    model: nn.Module, input_shape: Sequence[int], weights: Mapping[str, Tensor] | None = None
) -> tuple[bool, dict[str, Tensor]]:
    """Whether a path of non-zero weights leads from input to output, and boolean masks of the weights on one.

    Follows the network's own forward pass for one sample of shape `input_shape` (no batch axis), so shortcuts, pooling,
    grouped convolutions and padding are exact, and so are attention and RNN, LSTM and GRU layers up to what `flows`
    says; `weights` stands in for the model's own (names as in `prunable`). Paths through biases are none: a neuron fed
    only by its bias is dead. Normalisation and activation functions pass paths on. UsageError for a network with a
    function through which paths are not followed.
    """
    weights = prunable(model) if weights is None else weights
    device = next(iter(weights.values()), torch.zeros(())).device
    flow = torch.ones(1, *input_shape, device=device, requires_grad=True)
    follow, call = _Flow(), caller(model)
    present = {name: (w.detach() != 0).to(flow).requires_grad_() for name, w in weights.items()}
    for weight in present.values():
        follow.marked(weight)
    constants = {name: p.detach() for name, p in model.named_parameters()}
    constants |= {name: b.clone() for name, b in model.named_buffers()}
    with evaluating(model), follow:
        # The model gets a view of the input, which it may change in place.
        out = call(constants | present, flow.clone())
    ends = [tensor for tensor in outputs_of(out) if tensor.requires_grad and (tensor > 0).any()]
    if not ends:
        return False, {name: torch.zeros_like(w, dtype=torch.bool) for name, w in present.items()}
    total = torch.stack([tensor.sum() for tensor in ends]).sum()
    grads = torch.autograd.grad(total, list(present.values()), materialize_grads=True)
    return True, {name: (g > 0.5) & (w > 0) for (name, w), g in zip(present.items(), grads, strict=True)}


def path_report(
    model: nn.Module, input_shape: Sequence[int], weights: Mapping[str, Tensor] | None = None
) -> tuple[bool, int]:
    """(connected, effective nnz): does input reach output; how many weights are on a path (see `live`)."""
    connected, masks = live(model, input_shape, weights)
    return connected, sum(int(m.sum()) for m in masks.values())
