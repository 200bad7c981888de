"""Deep Weight Factorization: the mathematics, on tensors. ``module.py`` puts it on any ``nn.Module``.

Kolb, Weber, Bischl, Ruegamer, "Deep Weight Factorization: Sparse Learning Through the Lens of Artificial
Symmetries", ICLR 2025, arXiv 2502.02496. A weight tensor w is trained as an elementwise product of D factors,

    L(w_1 * ... * w_D) + (strength / D) * sum_d ||w_d||^2,

which has the minima of L(w) + strength * ||w||_{2/D}^{2/D}: by the inequality of the means, sum_d w_d^2 >=
D |w|^(2/D), with equality for balanced factors. D = 2 is the lasso; D > 2 is non-convex.

Throughout, ``factors`` is one tensor of shape (D, *shape of w), row d of which holds w_{d+1}, or the D rows one by one.
"""

import functools
import math
from collections.abc import Iterable

import torch
from torch import Tensor

from dwfbench.base.errors import UsageError

FLOAT32_EPSILON = 1.19e-7
"""Below this absolute value a collapsed weight counts as zero (Algorithm 2): float32's machine epsilon."""

DEFAULT_MIN_ABS = 3e-3
"""Our eps of Algorithm 1; the paper's own could not be confirmed."""


def product(factors: Tensor | Iterable[Tensor]) -> Tensor:
    """The weight of its D factors, stacked to (D, *shape) or one by one: (*shape).

    Multiplied one by one: the backward pass of ``torch.prod`` divides by its inputs or takes a slow path at zeros.
    """
    return functools.reduce(torch.mul, factors)


def total(parts: Iterable[Tensor]) -> Tensor:
    """The sum of at least one tensor; Python's own may be the number 0."""
    return functools.reduce(torch.add, parts)


def truncation(sigma: float, depth: int, min_abs: float) -> tuple[float, float, float]:
    """Scale and bounds of one factor in Algorithm 1: (sigma^(1/D), eps^(1/D), min(1, (2 sigma)^(1/D))).

    Raises UsageError unless 0 < sigma, 2 <= depth and 0 <= min_abs < min(1, 2 sigma): otherwise no value passes.
    """
    if depth < 2:
        raise UsageError(f"A factorization needs a depth of at least 2, not {depth}.")
    if not (sigma > 0 and math.isfinite(sigma)):
        raise UsageError(f"The standard deviation of the weights must be positive and finite, not {sigma}.")
    if not 0 <= min_abs < min(1.0, 2 * sigma):
        raise UsageError(
            f"min_abs = {min_abs:g} leaves no value to draw: it must be at least 0 and below 2 sigma = "
            f"{2 * sigma:g} (and below 1); a quarter of sigma, {sigma / 4:g}, is a safe choice."
        )
    return sigma ** (1 / depth), min_abs ** (1 / depth), min(1.0, (2 * sigma) ** (1 / depth))


def draw_factors(
    shape: tuple[int, ...],
    sigma: float,
    depth: int,
    *,
    min_abs: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Algorithm 1 of the paper: factors of matched variance, truncated in absolute value. Shape (D, *shape), CPU.

    Every element follows N(0, sigma^(2/D)) conditioned on eps^(1/D) < |value| < min(1, (2 sigma)^(1/D)), so that
    eps < |w| < 2 sigma. The paper redraws until the value fits; here the same distribution is drawn at once
    through the inverse of the normal's distribution function, so the draw ends at any depth.

    Raises UsageError for min_abs >= 2 sigma (see ``truncation``).
    """
    scale, low, high = truncation(sigma, depth, min_abs)
    p_low, p_high = (torch.special.ndtr(torch.tensor(x / scale, dtype=torch.float64)) for x in (low, high))
    # The stream of random numbers holds all magnitudes, then all signs. A second generator, run ahead to the signs,
    # lets one factor at a time be drawn: the float64 temporaries of all of them would be ten times the factors.
    magnitudes = generator or torch.default_generator
    signs = torch.Generator().set_state(magnitudes.get_state())
    for _ in range(depth):
        torch.rand(shape, generator=signs, dtype=torch.float64)
    factors = torch.empty(depth, *shape)
    for factor in factors:
        uniform = torch.rand(shape, generator=magnitudes, dtype=torch.float64)
        magnitude = scale * torch.special.ndtri(p_low + (p_high - p_low) * uniform)
        sign = torch.randint(0, 2, shape, generator=signs, dtype=torch.int8) * 2 - 1
        factor.copy_(magnitude.clamp_(low, high).mul_(sign))
    magnitudes.set_state(signs.get_state())
    return factors


def product_std(sigma: float, depth: int, min_abs: float) -> float:
    """Standard deviation of the product of ``depth`` factors drawn by Algorithm 1, in closed form.

    The second moment of a truncated normal to the power D. For usual layers 0.55 to 0.85 sigma at D = 2, 0.4 to 0.8
    at D = 3, 0.3 to 0.75 at D = 6: the less, the larger sigma is against eps.
    """
    scale, low, high = truncation(sigma, depth, min_abs)
    a, b = low / scale, high / scale
    density_a, density_b = (math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in (a, b))
    mass = (math.erf(b / math.sqrt(2)) - math.erf(a / math.sqrt(2))) / 2
    second_moment = scale**2 * (1 - (b * density_b - a * density_a) / mass)
    return second_moment ** (depth / 2)


def redrawn(sigma: float, depth: int, min_abs: float) -> float:
    """The share of a factor's normal draws that Algorithm 1 rejects and draws again, in closed form: 0 to 1."""
    scale, low, high = truncation(sigma, depth, min_abs)
    return 1 - math.erf(high / scale / math.sqrt(2)) + math.erf(low / scale / math.sqrt(2))


def capped_min_abs(min_abs: float, sigma: float) -> float:
    """The truncation that a layer really uses: eps, but at most sigma / 4, so that wide layers can be drawn.

    Raises UsageError for a min_abs that was raised above the default to 2 sigma or more: that is a mistake, while
    the default must do for layers of any width.
    """
    if min_abs > DEFAULT_MIN_ABS:
        truncation(sigma, 2, min_abs)
    return min(min_abs, sigma / 4)


def deviation(weight: Tensor) -> float:
    """The standard deviation of a weight's initialiser, measured on the weight (output, input, ...) that it gave.

    A weight that starts constant, a classifier of zeros or a single number, has none. Factors of zero would never leave
    it, so there it is that of PyTorch's own initialiser of Linear and Conv layers, 1 / sqrt(3 fan-in).
    """
    measured = float(weight.detach().double().std(correction=0))
    return measured if measured else 1 / math.sqrt(3 * math.prod(weight.shape[1:]))


def finite_deviation(name: str, weight: Tensor) -> float:
    """The ``deviation`` of the weight of this name. UsageError where it has values that are infinite or NaN."""
    sigma = deviation(weight)
    if not math.isfinite(sigma):
        raise UsageError(f"The weight {name} has values that are infinite or NaN; initialise it first.")
    return sigma


def redrawn_if_zero(weight: Tensor, generator: torch.Generator | None) -> Tensor:
    """The weight, or where all of it is zero a normal draw of its ``deviation``.

    For parametrizations whose gradient is zero where the weight is, so that it would stay there.
    """
    if bool(weight.any()):
        return weight
    return (torch.randn(weight.shape, generator=generator) * deviation(weight)).to(weight)


def decay_budget(strength: float, rate_sum: float, momentum: float) -> float:
    """strength * sum of learning rates / (1 - momentum): how far decay alone can shrink a weight.

    A weight without gradient ends at |w_0| exp(-2 budget), at every depth. From 0.05 to below 1.19e-7 takes 6.5.
    Raises UsageError for a momentum outside [0, 1).
    """
    if not 0 <= momentum < 1:
        raise UsageError(f"The momentum must be at least 0 and below 1, but it is {momentum}.")
    return strength * rate_sum / (1 - momentum)


def median_size(weights: Iterable[Tensor]) -> float:
    """The median |w| of all weights together that are not zero: what is zero has no way to go.

    Raises UsageError if all are.
    """
    sizes = torch.cat([weight.detach().abs().flatten() for weight in weights])
    if not (sizes := sizes[sizes != 0]).numel():
        raise UsageError("All weights are zero; initialise the network first.")
    return float(sizes.median())


def budget_to_reach_zero(weight: float = 0.05, threshold: float = FLOAT32_EPSILON) -> float:
    """The decay budget after which a gradient-free weight of this size counts as zero (6.5 for 0.05; 0 if it does)."""
    return math.log(max(weight / threshold, 1.0)) / 2
