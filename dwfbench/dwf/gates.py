"""Deep Weight Factorization of whole groups of weights, D-Gating: the mathematics, on tensors.

Kolb, Frost, Bischl, Ruegamer, "Differentiable Sparsity via D-Gating: Simple and Versatile Structured Penalization",
NeurIPS 2025, arXiv 2509.23898. The weights w_g of a group are trained as omega_g * gamma_{g,1} * ... * gamma_{g,D-1}:
one primary tensor of their shape and D - 1 gates, which are scalars. Plain L2 decay of all of them,

    (strength / D) * (||omega||^2 + sum_d ||gamma_d||^2),

has the minima of strength * sum_g ||w_g||_2^(2/D): by the inequality of the means, ||omega_g||^2 + sum_d
gamma_{g,d}^2 >= D ||w_g||^(2/D), with equality for balanced groups, ||omega_g|| = |gamma_{g,d}|. D = 2 is the group
lasso; D > 2 is non-convex. A group's weights vanish together, and a group of one weight is plain DWF.

Throughout, ``factors`` are D tensors: the primary one, of shape (*shape of w), and the gates, each of ``gate_shape``,
which also says what the groups are. The initialisation, gates of 1, is ours: that of the paper could not be confirmed.
"""

import functools
from collections.abc import Iterable, Sequence
from math import prod

import torch
from torch import Tensor

from dwfbench.dwf.factors import budget_to_reach_zero, median_size

GROUPS = ("none", "channel", "row")
"""Single weights; all weights of one output (channel or neuron); all weights that read one input."""


def gate_shape(shape: Sequence[int], side: int, blocks: int = 1) -> tuple[int, ...]:
    """The shape of the gates of a weight of ``shape``: as many axes, the groups along axis ``side`` (0 or 1).

    With ``blocks`` > 1, a grouped convolution's, the places of axis 1 mean something else in each of so many equal
    blocks of axis 0, and are groups of their own: (blocks, shape[1], 1, ...).
    """
    sizes = [1] * len(shape)
    sizes[0] = 1 if side == 0 else blocks
    sizes[side] = shape[side]
    return tuple(sizes)


def spread(gate: Tensor, rows: int) -> Tensor:
    """A gate that broadcasts against a weight whose axis 0 has ``rows`` places."""
    return gate if gate.shape[0] in (1, rows) else gate.repeat_interleave(rows // gate.shape[0], 0)


def gated(factors: Iterable[Tensor]) -> Tensor:
    """The weight of its primary tensor and its gates: (*shape)."""
    primary, *gates = factors
    return primary * spread(functools.reduce(torch.mul, gates), primary.shape[0])


def by_group(weight: Tensor, sizes: Sequence[int]) -> Tensor:
    """The weights of each group in a row: (number of groups, weights of a group), groups in the order of their gates.

    ``sizes`` is the ``gate_shape``.
    """
    blocks = weight.reshape(sizes[0], weight.shape[0] // sizes[0], *weight.shape[1:])
    inner = [axis for axis in range(2, blocks.dim()) if sizes[axis - 1] > 1]
    outer = [axis for axis in range(1, blocks.dim()) if axis not in inner]
    return blocks.permute(0, *inner, *outer).reshape(prod(sizes), -1)


def budget_to_close(weights: Iterable[tuple[Tensor, Sequence[int]]]) -> float:
    """The decay budget after which half of the weights, each with its ``gate_shape``, lie in groups that are zero.

    A group without gradient decays as a whole, |w_0| exp(-2 budget), so it is gone when its largest weight counts as
    zero; hence the median over all weights of the largest in their group. A single weight without gradient in a
    group whose gates stay open decays by its primary element alone, exp(-2 budget / D), and takes D times as long.
    """
    largest = []
    for weight, sizes in weights:
        rows = by_group(weight.detach().abs(), sizes)
        largest.append(rows.amax(1, keepdim=True).expand_as(rows).flatten())
    return budget_to_reach_zero(median_size(largest))
