"""What torch's functions do to a flow: a non-negative tensor that is positive where a path of non-zero weights ends.

A flow is any tensor that requires a gradient, and its gradient is the flow from the outputs. Linear functions turn both
into 0 and 1 in front of and behind their weights, so that no depth over- or underflows and counts of paths cannot
cancel: sums are whole numbers, and 0.5 tells none from some whatever algorithm computes them. Constants, hence biases,
are no flow. Where several operands meet, the result depends on each: flows are added, also where numbers are
multiplied. So a dependence may be counted that numbers rule out, and none is missed.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def is_flow(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


class _Binary(torch.autograd.Function):
    """1 where the input exceeds `forward_above`, else 0; the gradient likewise with `backward_above`."""

    @staticmethod
    def forward(ctx, x, forward_above, backward_above):
        ctx.above = backward_above
        return (x > forward_above).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return (grad > ctx.above).to(grad.dtype), None, None


def opened(flow: Tensor) -> Tensor:
    """0 and 1, in front of weights: forward where there is some flow, backward where whole numbers are at least 1."""
    return _Binary.apply(flow, 0.0, 0.5)


def closed(sums: Tensor) -> Tensor:
    """0 and 1, behind weights."""
    return _Binary.apply(sums, 0.5, 0.0)


def as_flow(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The flow itself; none, of the same shape, for a constant."""
    return value if is_flow(value) else torch.zeros_like(value, dtype=dtype)


def alike(values: Sequence[Any]) -> list[Any]:
    """The operands, of which at least one flows, as flows of one type; numbers become 0."""
    dtype = next(value.dtype for value in values if is_flow(value))
    return [as_flow(value, dtype) if isinstance(value, Tensor) else 0.0 for value in values]


def weighted(func: Callable, input: Tensor, weight: Tensor, bias: Any = None, *args, **kwargs) -> Tensor:
    """A linear function or convolution without its bias. Weights that are no flow become 0 and 1."""
    weight = weight if weight.requires_grad else (weight != 0).float()
    return closed(func(opened(as_flow(input, weight.dtype).to(weight.dtype)), weight, None, *args, **kwargs))


def combined(name: str, operands: Sequence[Any]) -> Tensor:
    """The sum of what flows among the operands; in place for ``add_``, ``__iadd__`` and their like."""
    tensors = [operand for operand in operands if isinstance(operand, Tensor)]
    summed, *further = alike(tensors)
    if (name.endswith("_") and not name.startswith("_")) or name.startswith("__i"):
        summed = summed if is_flow(tensors[0]) else tensors[0].zero_()
        for operand in further:
            summed = summed.add_(operand)
        return summed
    for operand in further:
        summed = summed + operand
    return summed + 0


def multilinear(func: Callable, args: Sequence[Any], is_weight: Callable[[Any], bool]) -> Tensor:
    """Products of matrices, which depend on each flow among their operands; weights and constants let some through."""
    operands = [arg for arg in args if isinstance(arg, Tensor)]
    total: Any = 0
    for flow in [operand for operand in operands if is_flow(operand) and not is_weight(operand)]:

        def factor(arg: Any, flow: Tensor = flow) -> Any:
            if not isinstance(arg, Tensor) or is_weight(arg):
                return arg
            if arg is flow:
                return opened(arg)
            return torch.ones_like(arg) if is_flow(arg) else (arg != 0).to(flow.dtype)

        total = total + func(*map(factor, args))
    return closed(total)


def reduced(func: Callable, flow: Tensor, args: Sequence[Any], kwargs: dict[str, Any], place: int = 0) -> Any:
    """A maximum, deviation, norm, ... over axes, or all: it depends on each of its inputs.

    The axes are the keyword dim, or the argument at ``place`` behind the flow. Of (values, indices), the indices are
    the function's own.
    """
    like = func(flow.detach(), *args, **kwargs)
    values = like if isinstance(like, Tensor) else like[0]
    positional = args[place] if len(args) > place and not isinstance(args[place], bool) else None
    axes = kwargs.get("dim", positional)
    keep = values.dim() == flow.dim()
    mean = flow.mean().expand(values.shape) if axes is None else flow.mean(axes, keepdim=keep)
    return mean if isinstance(like, Tensor) else type(like)((mean, *like[1:]))


def ordered(func: Callable, flow: Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """``sort`` and ``topk``: each place of the result may hold any of the inputs along the axis."""
    like = func(flow.detach(), *args, **kwargs)
    place = {"sort": 0, "topk": 1}[func.__name__]
    axis = kwargs.get("dim", args[place] if len(args) > place else -1)
    return type(like)((flow.mean(axis, keepdim=True).expand(like[0].shape), *like[1:]))


def gated(flow: Tensor, dim: int = -1) -> Tensor:
    """``glu``: one half times a function of the other."""
    value, gate = flow.chunk(2, dim)
    return value + gate


# ---------------------------------------------------------------- pooling


def per_dimension(value, n: int) -> list[int]:
    return [value] * n if isinstance(value, int) else list(value) * (n if len(value) == 1 else 1)


def pooled(
    name: str, input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
) -> Any:
    """Max pooling as a sum over each window: a maximum's gradient reaches only one of tied inputs."""
    n = int(name[len("max_pool")])
    like, indices = getattr(F, f"max_pool{n}d")(
        input.detach(), kernel_size, stride, padding, dilation, ceil_mode, return_indices=True
    )
    kernel, pad = per_dimension(kernel_size, n), per_dimension(padding, n)
    stride = per_dimension(stride, n) if stride else kernel
    channels = input.shape[-n - 1]
    ones = input.new_ones(channels, 1, *kernel, requires_grad=True)
    # ceil_mode may need up to a stride more on the far side; what is too much is cut off again.
    sides = [side for p, s in zip(reversed(pad), reversed(stride), strict=True) for side in (p, p + s)]
    conv = getattr(F, f"conv{n}d")
    out = weighted(conv, F.pad(input, sides), ones, None, stride, 0, dilation, channels)
    for axis in range(-n, 0):
        out = out.narrow(axis, 0, like.shape[axis])
    return (out, indices) if return_indices or name.endswith("_with_indices") else out


def adaptive_pooled(name: str, input, output_size, return_indices=False) -> Any:
    n = int(name[len("adaptive_max_pool")])
    out = getattr(F, f"adaptive_avg_pool{n}d")(input, output_size)
    if not (return_indices or name.endswith("_with_indices")):
        return out
    return out, getattr(F, f"adaptive_max_pool{n}d")(input.detach(), output_size, return_indices=True)[1]


# ---------------------------------------------------------------- attention


def attended(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention over (..., L, E), (..., S, E), (..., S, V): (..., L, V), and the flow of its scores.

    What is attended to flows through the values, however strong the attention. How strong it is depends on the keys,
    and on the queries where they meet keys that flow: a score that is the same for all keys changes nothing. Masks are
    taken as open.
    """
    query, key, value = (opened(as_flow(part, torch.float32)) for part in (query, key, value))
    if key.dim() > 2 and key.shape[-3] != query.shape[-3]:  # several queries share a head
        key, value = (part.repeat_interleave(query.shape[-3] // part.shape[-3], -3) for part in (key, value))
    scores = closed(query @ key.mT + key.sum(-1)[..., None, :])
    return closed((1 + scores) @ value), scores


SIGNATURE = inspect.signature(F.multi_head_attention_forward)


def projections(args: Sequence[Any], kwargs: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
    """What ``multi_head_attention_forward`` reads, (length, batch, features), each with the weight that projects it."""
    arguments = SIGNATURE.bind(*args, **kwargs).arguments
    inputs = [arguments["query"], arguments["key"], arguments["value"]]
    if arguments.get("use_separate_proj_weight"):
        weights = [arguments[f"{letter}_proj_weight"] for letter in "qkv"]
    else:
        weights = list(arguments["in_proj_weight"].chunk(3))
    return list(zip(inputs, weights, strict=True))


def multi_head(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """``multi_head_attention_forward``: its outputs, and the flow of its scores, averaged over heads."""
    arguments = SIGNATURE.bind(*args, **kwargs).arguments
    heads, single = arguments["num_heads"], arguments["query"].dim() == 2

    def by_head(tokens: Tensor, weight: Tensor) -> Tensor:
        flow = weighted(F.linear, tokens[:, None] if single else tokens, weight)
        return flow.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)  # (batch, head, length, features)

    outputs, scores = attended(*(by_head(*pair) for pair in projections(args, kwargs)))
    outputs = weighted(F.linear, outputs.permute(2, 0, 1, 3).flatten(2), arguments["out_proj_weight"])
    scores = scores.mean(1)
    return (outputs[:, 0], scores[0]) if single else (outputs, scores)


# ---------------------------------------------------------------- recurrent layers

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def is_packed(args: Sequence[Any]) -> bool:
    """Whether the arguments of a recurrent function are those for a packed sequence, with its batch sizes second."""
    return isinstance(args[1], Tensor) and not args[1].is_floating_point()


def stepped(unit: str, input: Tensor, state: Tensor, carry: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """A step: what a unit holds depends on all of its gates, and in LSTM and GRU on what it held before."""
    sums = weighted(F.linear, input, weights[0]) + weighted(F.linear, state, weights[1])
    sums = sums.unflatten(-1, (GATES[unit], -1)).sum(-2)
    return closed(sums + carry if GATES[unit] > 1 else sums)


def cell(unit: str, input: Tensor, state: Any, *weights: Tensor) -> Any:
    """``lstm_cell``, ``gru_cell``, ...: the new state, or both of an LSTM."""
    hidden, carry = state if unit == "lstm" else (state, state)
    hidden, carry = (as_flow(part, torch.float32) for part in (hidden, carry))
    new = stepped(unit, input, hidden, carry, weights)
    return (new, new) if unit == "lstm" else new


def recurrent(unit: str, input: Tensor, states: Any, weights: Sequence[Tensor], *options: Any) -> tuple[Tensor, ...]:
    """``lstm``, ``gru``, ``rnn_tanh``, ``rnn_relu``, step by step: outputs and last states."""
    biases, layers, _, _, bidirectional, batch_first = options
    flow = as_flow(input, torch.float32)
    flow = flow.transpose(0, 1) if batch_first else flow
    starts = [as_flow(part, torch.float32) for part in (states if unit == "lstm" else (states, states))]
    directions = 1 + bidirectional
    per_direction = len(weights) // (layers * directions)
    last_states: list[tuple[Tensor, Tensor]] = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            place = layer * directions + direction
            parameters = weights[place * per_direction : (place + 1) * per_direction]
            projection = parameters[-1] if per_direction == 2 + 2 * biases + 1 else None
            state, carry = (part[place] for part in starts)
            hidden_states = []
            for step in flow.flip(0) if direction else flow:
                carry = stepped(unit, step, state, carry, parameters)
                state = carry if projection is None else weighted(F.linear, carry, projection)
                hidden_states.append(state)
            outputs.append(torch.stack(hidden_states[::-1] if direction else hidden_states))
            last_states.append((state, carry))
        flow = torch.cat(outputs, -1)
    flow = flow.transpose(0, 1) if batch_first else flow
    ends = [torch.stack(part) for part in zip(*last_states, strict=True)]
    return (flow, *ends) if unit == "lstm" else (flow, ends[0])
