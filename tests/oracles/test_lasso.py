"""What DWF minimises, against independent oracles: scikit-learn's Lasso for D = 2, closed forms for D = 3 and 4."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from torch import nn
from torch.func import grad

import dwfbench
from baselines.l1 import L1
from dwfbench.sparsity.count import cut

ALPHA = 0.2
TRUTH = [1.5, -2.0, 0.0, 0.0, 0.8, 0.0, 0.0, -1.0, 0.0, 0.0, 0.4, 0.0]


@pytest.fixture(scope="module")
def problem():
    """X (40, 12), y = X w + noise with 7 of 12 coefficients zero, and the lasso's solution at ALPHA."""
    random = np.random.default_rng(0)
    x = random.standard_normal((40, len(TRUTH)))
    y = x @ np.array(TRUTH) + 0.1 * random.standard_normal(40)
    return torch.from_numpy(x), torch.from_numpy(y), lasso(x, y, ALPHA)


def lasso(x, y, alpha):
    return torch.from_numpy(Lasso(alpha, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(x, y).coef_)


def least_squares(x, y, w):
    """scikit-learn's scaling: (1 / 2n) ||y - X w||^2."""
    return (y - x @ w).square().sum() / (2 * len(y))


def descend(model, loss, strength, steps, rate, momentum=0.9):
    optimizer = torch.optim.SGD(dwfbench.param_groups(model, strength), lr=rate, momentum=momentum)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model.weight.flatten()).backward()
        optimizer.step()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_depth_2_solves_the_lasso(problem, seed):
    x, y, expected = problem
    torch.manual_seed(seed)
    model = dwfbench.factorize(nn.Linear(len(TRUTH), 1, bias=False, dtype=torch.float64), 2)
    descend(model, lambda w: least_squares(x, y, w), ALPHA, 2000, 0.02)
    dwfbench.collapse(model, threshold=1e-6)
    found = model.weight.detach().flatten()
    assert 3 <= expected.count_nonzero() <= 9
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert torch.equal(found != 0, expected != 0)
    assert (expected - torch.tensor(TRUTH)).abs().max() > 0.1  # the penalty matters: plain least squares fails


# ---------------------------------------------------------------- D = 3 and 4, one coordinate at a time


STRENGTH = 0.1


def objective(w, z, depth):
    return 0.5 * (w - z) ** 2 + STRENGTH * np.abs(w) ** (2 / depth)


@cache
def nonzero_minimiser(z, depth):
    """The local minimiser away from zero, from a fine grid of the objective itself; None if there is none."""
    grid = np.linspace(1e-3, abs(z) + 1e-3, 2_000_001)
    value = objective(grid, abs(z), depth)
    inner = np.flatnonzero((value[1:-1] < value[:-2]) & (value[1:-1] <= value[2:])) + 1
    return math.copysign(grid[inner[-1]], z) if len(inner) else None


def two_thirds_threshold(z):
    """Global minimiser for D = 3 (Cao, Sun and Xu 2013, who minimise (w - z)^2 + mu |w|^(2/3))."""
    mu = 2 * STRENGTH
    if abs(z) <= 2 / 3 * (3 * mu**3) ** 0.25:
        return 0.0
    a = 2 / math.sqrt(3) * mu**0.25 * math.sqrt(math.cosh(math.acosh(27 * z * z / 16 * mu**-1.5) / 3))
    return math.copysign(((a + math.sqrt(2 * abs(z) / a - a * a)) / 2) ** 3, z)


def half_threshold(z):
    """Global minimiser for D = 4 (Xu et al. 2012, who minimise (w - z)^2 + mu |w|^(1/2))."""
    mu = 2 * STRENGTH
    if abs(z) <= 54 ** (1 / 3) / 4 * mu ** (2 / 3):
        return 0.0
    phi = math.acos(mu / 8 * (abs(z) / 3) ** -1.5)
    return 2 / 3 * z * (1 + math.cos(2 * math.pi / 3 - 2 * phi / 3))


THRESHOLDED = {3: two_thirds_threshold, 4: half_threshold}
TARGETS = [-2.0, -1.0, -0.5, -0.2, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.5, 3.0]


def solved(depth, start=None, seed=0):
    """The weights that gradient descent finds for 0.5 ||w - TARGETS||^2, from fresh factors or balanced ones."""
    torch.manual_seed(seed)
    model = nn.Linear(len(TARGETS), 1, bias=False, dtype=torch.float64)
    if start is not None:
        model.weight.data = torch.tensor([start], dtype=torch.float64)
    dwfbench.factorize(model, depth, keep_weights=start is not None)
    first = model.weight.detach().flatten()
    target = torch.tensor(TARGETS, dtype=torch.float64)
    descend(model, lambda w: 0.5 * (w - target).square().sum(), STRENGTH, 1500, 0.01)
    return first, dwfbench.collapse(model, threshold=1e-6).weight.detach().flatten()


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 4])
def test_from_the_target_the_nonzero_minimiser_is_reached_wherever_there_is_one(depth):
    _, found = solved(depth, start=TARGETS)
    expected = [nonzero_minimiser(z, depth) or 0.0 for z in TARGETS]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert 2 <= expected.count(0.0) <= 6
    for z, w in zip(TARGETS, found.tolist(), strict=True):
        best = THRESHOLDED[depth](z)
        assert best == 0 or w == pytest.approx(best, abs=1e-7)  # the closed form where it is not zero
        assert objective(best, z, depth) <= objective(np.linspace(-4, 4, 80_001), z, depth).min() + 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_from_fresh_factors_a_local_minimiser_is_reached(depth, seed):
    first, found = solved(depth, seed=seed)
    for z, w0, w in zip(TARGETS, first.tolist(), found.tolist(), strict=True):
        nonzero = nonzero_minimiser(z, depth)
        assert w == 0 or w == pytest.approx(nonzero, abs=1e-5)
        if abs(z) >= 1 and w0 * z > 0:
            assert w != 0


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 4])
def test_stationary_weights_keep_their_distance_from_zero(depth):
    _, found = solved(depth, start=TARGETS)
    alive = found != 0
    gradient = (found - torch.tensor(TARGETS, dtype=torch.float64))[alive].abs()
    weights = found[alive].abs()

    def bound(g):
        return (2 * STRENGTH / (depth * g)) ** (depth / (depth - 2))

    torch.testing.assert_close(weights, bound(gradient), rtol=1e-4, atol=0)  # equality with a weight's own gradient
    assert (weights >= bound(gradient.max()) * (1 - 1e-4)).all()
    assert bound(gradient.max()) > 0.01


@pytest.mark.slow
def test_zero_is_a_local_minimum_beyond_depth_2_only():
    """A small balanced start with a gradient above the strength grows at D = 2 and dies at D = 3."""
    start = [math.copysign(1e-5, z) for z in TARGETS]
    _, found = solved(3, start=start)
    assert found.count_nonzero() == 0
    _, found = solved(2, start=start)
    soft = [math.copysign(max(abs(z) - STRENGTH, 0), z) for z in TARGETS]
    assert [w for w, z in zip(found.tolist(), TARGETS, strict=True) if abs(z) > 0.2] == pytest.approx(
        [w for w, z in zip(soft, TARGETS, strict=True) if abs(z) > 0.2], abs=1e-5
    )


# ---------------------------------------------------------------- the L1 baseline


def heavy_ball(x, y, method, rate, momentum, project_rate):
    """The trainer's update with one lane: gradient + penalty, momentum, step, projection."""
    w = torch.zeros(x.shape[1], dtype=torch.float64)
    velocity = torch.zeros_like(w)
    strength = torch.tensor(ALPHA, dtype=torch.float64)
    for _ in range(3000):
        gradient = x.T @ (x @ w - y) / len(y)
        if method.penalty({"w": w}) is not None:
            gradient = gradient + strength * grad(method.penalty)({"w": w})["w"]
        velocity = momentum * velocity + gradient
        w = w - rate * velocity
        moved = method.project(w, strength, torch.tensor(project_rate, dtype=torch.float64))
        w = w if moved is None else moved
    return cut({"w": w}, method.final_threshold())["w"]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_proximal_l1_solves_the_lasso_under_momentum(problem, momentum):
    x, y, expected = problem
    found = heavy_ball(x, y, L1(proximal=True, threshold=0), 0.01, momentum, 0.01 / (1 - momentum))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(found != 0, expected != 0)


def test_a_threshold_without_the_momentum_factor_would_solve_a_weaker_lasso(problem):
    x, y, expected = problem
    found = heavy_ball(x, y, L1(proximal=True, threshold=0), 0.01, 0.9, 0.01)
    torch.testing.assert_close(found, lasso(x.numpy(), y.numpy(), ALPHA * (1 - 0.9)), rtol=0, atol=1e-6)
    assert (found - expected).abs().max() > 0.1


def test_subgradient_l1_gets_near_the_lasso_and_its_threshold_finds_the_zeros(problem):
    x, y, expected = problem
    found = heavy_ball(x, y, L1(threshold=1e-2), 5e-3, 0.0, 0.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)
    assert torch.equal(found != 0, expected != 0)
