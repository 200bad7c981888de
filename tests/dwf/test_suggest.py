"""Advice by arithmetic, against closed forms and a simulated decay."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import dwfbench
from dwfbench.base.errors import UsageError
from dwfbench.dwf.factors import FLOAT32_EPSILON
from dwfbench.dwf.suggest import HIGHEST


def network(value=0.05, sigma=None):
    layer = nn.Linear(40, 25, bias=False)
    with torch.no_grad():
        if sigma is None:
            layer.weight.fill_(value)
            layer.weight[::2] *= -1
        else:
            layer.weight.normal_(0, sigma, generator=torch.Generator().manual_seed(0))
    return nn.Sequential(layer)


def test_the_lowest_strength_brings_a_weight_without_gradient_just_to_zero():
    """Each of D factors of a weight is multiplied by 1 - 2 strength rate / D a step."""
    steps, lr, depth = 1000, 0.2, 3
    found = dwfbench.suggest(network(), steps, lr, momentum=0.0, depth=depth, keep_weights=True)
    weight = 0.05
    for step in range(steps):
        rate = lr * (1 + math.cos(math.pi * step / steps)) / 2
        weight *= (1 - 2 * found.strengths[0] * rate / depth) ** depth
    assert weight == pytest.approx(FLOAT32_EPSILON, rel=0.05)
    assert found.budget == pytest.approx(math.log(0.05 / FLOAT32_EPSILON) / 2)


def test_half_of_the_drawn_weights_are_gone_at_the_lowest_strength():
    model = network(sigma=0.1)
    found = dwfbench.suggest(model, 5000, 0.1, depth=2)
    dwfbench.factorize(model, 2, generator=torch.Generator().manual_seed(0))
    left = model[0].weight.abs() * math.exp(-2 * found.budget) > FLOAT32_EPSILON
    assert left.sum() == pytest.approx(500, abs=1)


@pytest.mark.parametrize(("momentum", "factor"), [(0.0, 1.0), (0.9, 10.0)])
def test_momentum_and_rates_and_steps_lower_the_strengths_in_proportion(momentum, factor):
    one = dwfbench.suggest(network(), 1000, 0.1, momentum=0.0, keep_weights=True).strengths[0]
    other = dwfbench.suggest(network(), 2001, 0.2, momentum=momentum, keep_weights=True).strengths[0]
    assert one / other == pytest.approx(4 * factor, rel=1e-3)


def test_the_least_steps_are_those_in_which_a_strength_spends_the_budget():
    found = dwfbench.suggest(network(), 1000, 0.1, keep_weights=True)
    for strength, steps in found.least_steps.items():
        again = dwfbench.suggest(network(), steps, 0.1, keep_weights=True)
        assert again.strengths[0] == pytest.approx(strength, rel=0.05)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_speed_is_that_of_a_balanced_product(depth):
    """A step of SGD on balanced factors of a weight sigma moves it by rate * D sigma^(2 - 2/D) * gradient."""
    model, rate = network(0.2), 1e-6
    found = dwfbench.suggest(model, 10, 0.1, depth=depth, keep_weights=True)
    sigma = float(model[0].weight.detach().double().std(correction=0))
    factors = [sigma ** (1 / depth)] * depth
    moved = math.prod(factor - rate * sigma / factor for factor in factors)
    assert found.speed == {"0.weight": pytest.approx((sigma - moved) / rate, rel=1e-3)}


def test_imbalance_at_the_end():
    found = dwfbench.suggest(network(), 1000, 0.1, depth=4, keep_weights=True)
    assert found.alignment == pytest.approx(math.exp(-found.budget))


def test_a_factorized_model_says_its_own_depth_and_is_left_as_it_was():
    model = dwfbench.factorize(network(sigma=0.1), 4, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = dwfbench.suggest(model, 1000, 0.1)
    assert found.depth == 4
    assert found == dwfbench.suggest(network(sigma=0.1), 1000, 0.1, depth=4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_is_printed_has_the_numbers():
    found = dwfbench.suggest(network(), 1000, 0.1, keep_weights=True)
    text = str(found)
    assert f"{found.strengths[0]:.3g} (CR 2) to {found.strengths[1]:.3g}" in text
    assert all(sign in text for sign in found.signs)


@pytest.mark.parametrize("numbers", [(0, 0.1, 0.9), (10, 0.0, 0.9), (10, 0.1, 1.0), (10, float("nan"), 0.9)])
def test_numbers_out_of_range_are_refused(numbers):
    with pytest.raises(UsageError, match="steps must be at least 1"):
        dwfbench.suggest(network(), *numbers)


def test_groups_are_refused():
    model = dwfbench.factorize(network(sigma=0.1), 3, group="channel")
    with pytest.raises(UsageError, match="no advice for groups"):
        dwfbench.suggest(model, 10, 0.1)


def test_the_command_says_what_the_library_says(call, digits):
    from dwfbench import models

    words = ("suggest", "--dataset", "digits", "--epochs", "20", "--lr", "0.2", "--batch-size", "100")
    result = call(*words, "--depth", "2,3")
    assert result.exit_code == 0, result.stderr
    network = models.build("lenet-300-100", digits.input_shape, digits.classes, 0)
    for depth in (2, 3):
        assert str(dwfbench.suggest(network, 12 * 20, 0.2, depth=depth)) in result.stdout
    refused = call(*words, "--optimizer", "adam")
    assert (refused.exit_code, "divides the decay" in refused.stderr) == (2, True)


def test_a_weight_that_starts_constant_is_advised_alike_before_and_after():
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    nn.init.zeros_(model[2].weight)
    plain = dwfbench.suggest(model, 1000, 0.1)
    dwfbench.factorize(model, 3)
    after = dwfbench.suggest(model, 1000, 0.1)
    assert plain.speed["2.weight"] == pytest.approx(after.speed["2.weight"])
    assert "nan" not in str(dwfbench.suggest(nn.Linear(1, 1), 1000, 0.1))


RESULTS = Path(__file__).parents[2] / "results"
LONG = ("reference/lenet-300-100.csv", "reference/lenet-300-100-mnist.csv", "tuned/lenet-300-100.csv")


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_highest_strength_to_try_reaches_cr_300_in_the_committed_long_runs(depth):
    reached = []
    for name in LONG:
        table = pd.read_csv(RESULTS / name)
        runs = table[(table["part"] == "runs") & (table["label"] == f"dwf D={depth}")]
        for _, curve in runs.groupby("seed"):
            ratios, strengths = np.log(curve.sort_values("value")[["compression", "value"]]).to_numpy().T
            low, high = np.exp(np.interp(np.log([2, 300]), ratios, strengths))
            reached += [high / low] if ratios.max() > np.log(300) else []
    assert len(reached) >= 8
    assert max(reached) <= HIGHEST.get(depth, HIGHEST[3])
