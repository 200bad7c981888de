"""SynFlow: pruning without data by iteratively conserving synaptic flow (Tanaka et al., NeurIPS 2020)."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dwfbench.base.errors import UsageError
from dwfbench.dwf.factors import total
from dwfbench.methods.contract import Moment, Pruner, option
from dwfbench.models.functional import caller
from dwfbench.models.prunable import is_bias, prunable
from dwfbench.sparsity.count import WEIGHTED, evaluating
from dwfbench.sparsity.masks import informed_masks, silent, top_k_masks

CASTS = frozenset("float half bfloat16 double to type type_as".split())  # noqa: SIM905

HIDING = -1e3
"""A number of a buffer that hides in attention what it is added to."""


class _Wide(TorchFunctionMode):
    """Leaves floating-point numbers in float64, whatever the network casts them to: in less they overflow."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        cast = getattr(func, "__name__", "") in CASTS and isinstance(out, Tensor) and out.is_floating_point()
        return args[0].clone() if cast and args[0].dtype == torch.float64 else out


class _Rescaled(TorchFunctionMode):
    """Divides the output of every linear and convolution call by its own largest value, held constant."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in WEIGHTED:
            largest = out.detach().amax()
            out = out / largest.where(largest > 0, 1.0)
        return out


def scores(
    model: nn.Module, input_shape: Sequence[int], masks: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """abs(w * dR/dw) by parameter name, in float64, for the model with `masks` (by name) applied.

    Tanaka et al. 2020, section 5: R is the sum of the outputs for an input of ones of shape `input_shape`
    (one sample, no batch axis), in eval mode, with every weight, normalisation parameter, statistic and other
    buffer in absolute value and every bias zero; only a mask of attention, whose large negative numbers hide
    what is not to be seen, keeps its sign. Where R leaves the range of float64, each layer's output is rescaled
    by a positive constant: in a network without shortcuts that multiplies all scores by one common factor;
    across shortcuts it changes the balance between paths, which is why it is the last resort.
    """
    leaves = {name: w.detach().abs().double() for name, w in prunable(model).items()}
    if masks is not None:
        leaves = {name: w * masks[name] for name, w in leaves.items()}
    for w in leaves.values():
        w.requires_grad_()
    state = {
        name: torch.zeros_like(p, dtype=torch.float64) if is_bias(name) else p.detach().abs().double()
        for name, p in model.named_parameters()
    }
    for name, buffer in model.named_buffers():
        value = buffer.double() if buffer.is_floating_point() else buffer.clone()
        state[name] = value.abs() if buffer.is_floating_point() and not (value <= HIDING).any() else value
    device, call = next(model.parameters()).device, caller(model)
    for rescaling in (nullcontext(), _Rescaled()):
        with torch.enable_grad(), evaluating(model), _Wide(), rescaling:
            ones = torch.ones(1, *input_shape, dtype=torch.float64, device=device)
            flow = call({**state, **leaves}, ones).sum()
            grads = torch.autograd.grad(flow, list(leaves.values()), materialize_grads=True)
        result = {name: (w.detach() * g).abs() for (name, w), g in zip(leaves.items(), grads, strict=True)}
        flow = total(s.sum() for s in result.values())
        if flow.isfinite() and flow > 0:
            break
    return result


def masks(
    model: nn.Module,
    input_shape: Sequence[int],
    compression: float,
    rounds: int = 100,
    distribution: str = "global",
    generator: torch.Generator | None = None,
    first: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Boolean masks by parameter name after `rounds` of scoring and pruning (Tanaka et al., algorithm 1).

    After round k the compression ratio is compression^(k / rounds); what is pruned stays pruned, and the last
    masks keep exactly `kept(N, compression)` weights, which layers share by the `distribution` as in
    `informed_masks`: those whose scores are all zero in the first round keep their share at random, drawn by
    `generator`. `first` are the scores of the first round, where they are known.
    Raises UsageError as `top_k_masks` does, and for less than one round.
    """
    if rounds < 1:
        raise UsageError(f"SynFlow needs at least 1 round, not {rounds}")
    keep = {name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable(model).items()}
    latest = first or scores(model, input_shape, keep)
    chosen = informed_masks(latest, compression, distribution, generator)
    mute = silent(latest)
    if len(mute) == len(keep):
        return chosen
    keep |= {name: chosen[name] for name in mute}
    heard = [name for name in keep if name not in mute]
    if mute:  # the others keep what is left
        kept_count = sum(int(chosen[name].sum()) for name in heard)
        compression = sum(keep[name].numel() for name in heard) / max(kept_count, 1)
    for k in range(1, rounds + 1):
        # A pruned weight scores below every other, also below those whose flow has become zero.
        ranked = {name: latest[name].where(keep[name], -math.inf) for name in heard}
        keep |= top_k_masks(ranked, compression ** (k / rounds), distribution)
        latest = scores(model, input_shape, keep) if k < rounds else latest
    return keep


@dataclass(frozen=True)
class Synflow(Pruner):
    """Prunes the initial network by ``masks``, without any data, then trains what is left."""

    name: ClassVar[str] = "synflow"
    summary: ClassVar[str] = "at initialisation and without data, iteratively keep the largest synaptic flow"
    source: ClassVar[str] = "Tanaka, Kunin, Yamins and Ganguli, NeurIPS 2020, arXiv 2006.05467"
    look: ClassVar[tuple] = ("#000000", "X")

    rounds: int = option(100, "pruning rounds", low=1, high=100_000)

    def extra_passes(self, steps: int) -> int:
        return self.rounds

    def scores(self, moment: Moment) -> dict[str, Tensor]:
        """Those of the first round."""
        return scores(moment.network(), moment.input_shape)

    def masks(self, moment: Moment, scores: dict[str, Tensor] | None) -> dict[str, Tensor]:
        network, shape, ratio = moment.network(), moment.input_shape, moment.compression
        return masks(network, shape, ratio, self.rounds, self.distribution, moment.generator, scores)
