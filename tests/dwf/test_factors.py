"""The mathematics of DWF against closed forms, numerical integration, and the module-level API."""

import copy
import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune

import dwfbench
from baselines.spred import Spred
from dwfbench.base.errors import UsageError
from dwfbench.dwf import parametrization
from dwfbench.dwf.factors import (
    FLOAT32_EPSILON,
    budget_to_reach_zero,
    capped_min_abs,
    draw_factors,
    median_size,
    product,
    product_std,
)
from dwfbench.dwf.parametrization import Product
from dwfbench.methods.dwf import Dwf


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def factors_of(layer):
    return torch.stack([value for name, value in layer.named_parameters() if "original" in name])


def set_factors(layer, *values):
    """Give every factor of a factorized layer one value."""
    for factor, value in zip(layer.parametrizations.weight.parameters(), values, strict=True):
        factor.data.fill_(value)


# ---------------------------------------------------------------- Algorithm 1


@pytest.mark.parametrize("depth", [2, 3, 6, 50])
def test_drawn_factors_and_weights_stay_within_the_bounds(depth):
    sigma, eps = 0.05, 3e-3
    drawn = draw_factors((20_000,), sigma, depth, min_abs=eps, generator=seeded()).double()
    rounding = 1 + 1e-6
    assert drawn.abs().min() >= eps ** (1 / depth) / rounding
    assert drawn.abs().max() <= (2 * sigma) ** (1 / depth) * rounding
    weights = product(drawn).abs()
    assert weights.min() > eps / rounding**depth
    assert weights.max() < 2 * sigma * rounding**depth


def test_a_factor_never_exceeds_one_even_for_a_large_sigma():
    drawn = draw_factors((20_000,), 0.9, 2, min_abs=0.0, generator=seeded())
    assert 0.999 < drawn.abs().max() <= 1  # (2 * 0.9)^(1/2) = 1.34 would be allowed otherwise


@pytest.mark.parametrize("depth", [2, 3])
def test_signs_are_fair(depth):
    n = 100_000
    drawn = draw_factors((n,), 0.05, depth, min_abs=3e-3, generator=seeded())
    five_deviations = 5 * math.sqrt(n) / 2
    for signs in [*drawn, product(drawn)]:
        assert abs((signs > 0).sum().item() - n / 2) < five_deviations


@pytest.mark.parametrize("depth", [2, 3, 4, 5, 6])
@pytest.mark.parametrize(("sigma", "eps"), [(0.02, 3e-3), (0.05, 3e-3), (0.3, 0.0), (0.8, 3e-3)])
def test_std_of_the_product_matches_numerical_integration_and_samples(depth, sigma, eps):
    scale = sigma ** (1 / depth)
    low, high = eps ** (1 / depth), min(1.0, (2 * sigma) ** (1 / depth))
    density = stats.norm(scale=scale).pdf
    mass = integrate.quad(density, low, high)[0]
    second_moment = integrate.quad(lambda x: x * x * density(x), low, high)[0] / mass
    expected = second_moment ** (depth / 2)
    assert product_std(sigma, depth, eps) == pytest.approx(expected, rel=1e-6)
    weights = product(draw_factors((200_000,), sigma, depth, min_abs=eps, generator=seeded()))
    assert weights.std().item() == pytest.approx(expected, rel=0.02)


def test_share_of_sigma_that_truncation_leaves():
    """It falls with the depth, and as the smallest weight gets small against sigma."""
    share = {(s, d): product_std(s, d, capped_min_abs(3e-3, s)) / s for s in (0.0206, 0.0577, 0.2) for d in (2, 3, 6)}
    # The first and last layers of LeNet-300-100, and a 3 x 3 convolution of few channels.
    expected = [0.758, 0.679, 0.602, 0.641, 0.521, 0.406, 0.573, 0.418, 0.269]
    assert list(share.values()) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_draw_has_the_distribution_of_rejection_sampling(depth):
    sigma, eps = 0.05, 3e-3
    scale = sigma ** (1 / depth)
    low, high = eps ** (1 / depth), (2 * sigma) ** (1 / depth)
    drawn = draw_factors((20_000,), sigma, depth, min_abs=eps, generator=seeded())[-1].abs().double().numpy()
    redrawn = (scale * torch.randn(200_000, generator=seeded(1), dtype=torch.float64)).abs()
    redrawn = redrawn[(redrawn > low) & (redrawn < high)].numpy()
    truncated = stats.truncnorm(low / scale, high / scale, scale=scale)
    assert stats.kstest(drawn, truncated.cdf).pvalue > 1e-3
    assert stats.ks_2samp(drawn, redrawn).pvalue > 1e-3


@pytest.mark.parametrize("min_abs", [0.0, 1e-30, 0.0999999])
@pytest.mark.parametrize("depth", [2, 50])
def test_draw_ends_for_extreme_bounds(depth, min_abs):
    weights = product(draw_factors((1000,), 0.05, depth, min_abs=min_abs, generator=seeded()).double()).abs()
    assert (weights > 0).all()
    assert (weights > min_abs * 0.9999).all()
    assert (weights < 0.1 * 1.0001).all()


@pytest.mark.parametrize("min_abs", [0.1, 0.2, -1e-3])
def test_draw_refuses_bounds_without_room(min_abs):
    with pytest.raises(UsageError, match="2 sigma"):
        draw_factors((3,), 0.05, 3, min_abs=min_abs)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.inf, math.nan])
def test_draw_refuses_a_sigma_that_is_not_positive_and_finite(sigma):
    with pytest.raises(UsageError, match="standard deviation"):
        draw_factors((3,), sigma, 3, min_abs=0.0)


def test_draw_is_determined_by_its_generator():
    first, again, other = (draw_factors((5, 4), 0.05, 3, min_abs=3e-3, generator=seeded(s)) for s in (7, 7, 8))
    assert first.shape == (3, 5, 4)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_factorize_caps_the_smallest_weight_at_a_quarter_of_sigma():
    assert (capped_min_abs(3e-3, 0.1), capped_min_abs(3e-3, 4e-3)) == (3e-3, 1e-3)
    narrow, wide = nn.Linear(200, 100), nn.Linear(200, 100)
    nn.init.normal_(narrow.weight, std=0.05, generator=seeded(1))
    nn.init.normal_(wide.weight, std=1e-3, generator=seeded(2))  # 2 sigma is below 3e-3: nothing could be drawn
    dwfbench.factorize(nn.Sequential(narrow, wide), 3, generator=seeded())
    assert 2.99e-3 < narrow.weight.abs().min() < 4.5e-3  # a quarter of sigma would be 12.5e-3
    assert 0.249e-3 < wide.weight.abs().min() < 0.4e-3
    assert wide.weight.abs().max() < 2.02e-3


def test_rescaling_gives_the_deviation_of_the_ordinary_initialiser():
    for rescale, expected in [(True, 0.05), (False, product_std(0.05, 3, 3e-3))]:
        layer = nn.Linear(400, 300)
        nn.init.normal_(layer.weight, std=0.05, generator=seeded(1))
        dwfbench.factorize(layer, 3, generator=seeded(), rescale=rescale)
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.01)


# ---------------------------------------------------------------- the laws of training


def descend(model, loss, strength, rates, momentum=0.0):
    """SGD through the public API: one step for every rate."""
    optimizer = torch.optim.SGD(dwfbench.param_groups(model, strength), lr=1.0, momentum=momentum)
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()


def no_loss(model):
    return 0.0 * model.weight.sum()


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_a_weight_without_gradient_decays_alike_at_every_depth(depth):
    layer = dwfbench.factorize(nn.Linear(3, 2, bias=False).double(), depth, generator=seeded())
    before = layer.weight.detach().clone()
    strength, rates = 0.1, [0.05 * (1 + math.cos(math.pi * t / 200)) for t in range(200)]
    descend(layer, no_loss, strength, rates)
    left = layer.weight.detach() / before
    exact = math.prod(1 - 2 * strength * rate / depth for rate in rates) ** depth
    torch.testing.assert_close(left, torch.full_like(left, exact), rtol=1e-10, atol=0)
    budget = dwfbench.decay_budget(strength, sum(rates), momentum=0.0)
    assert budget == pytest.approx(1.005)  # 0.1 * 0.05 * 201
    assert exact == pytest.approx(math.exp(-2 * budget), rel=0.02)


def test_momentum_multiplies_the_decay():
    layer = dwfbench.factorize(nn.Linear(1, 1, bias=False).double(), 3, keep_weights=True)
    set_factors(layer, 1.0, 1.0, 1.0)
    descend(layer, no_loss, 0.1, [5e-4] * 2000, momentum=0.9)
    budget = dwfbench.decay_budget(0.1, 1.0, momentum=0.9)
    assert budget == pytest.approx(1.0)
    assert layer.weight.item() == pytest.approx(math.exp(-2 * budget), rel=0.02)  # exp(-0.2) without momentum


@pytest.mark.parametrize("momentum", [1.0, 1.5, -0.1, math.nan])
def test_a_momentum_without_a_decay_budget_is_refused(momentum):
    with pytest.raises(UsageError, match="momentum must be"):
        dwfbench.decay_budget(1e-4, 100, momentum)


def test_the_median_size_is_that_of_the_weights_that_are_not_zero():
    assert median_size([torch.tensor([0.0, 0.0, -3.0]), torch.tensor([0.0, 1.0, 2.0])]) == 2.0
    with pytest.raises(UsageError, match="All weights are zero"):
        median_size([torch.zeros(3)])


def test_budget_to_reach_zero_is_the_budget_that_leaves_the_threshold():
    budget = budget_to_reach_zero(0.05)
    assert budget == pytest.approx(6.474, abs=1e-3)
    assert 0.05 * math.exp(-2 * budget) == pytest.approx(FLOAT32_EPSILON)
    assert budget_to_reach_zero(FLOAT32_EPSILON / 3) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("name", ["quadratic", "sine"])
def test_factors_balance_exponentially_whatever_the_loss(depth, name):
    losses = {
        "quadratic": lambda m: 0.5 * (m.weight - 0.7).square().sum(),
        "sine": lambda m: m.weight.mul(5).sin().sum(),
    }
    layer = dwfbench.factorize(nn.Linear(3, 2, bias=False).double(), depth, generator=seeded(3))
    squares = factors_of(layer).detach().square()
    before = squares[0] - squares[1:]
    strength, rate, steps = 1.0, 5e-4, 1000
    descend(layer, losses[name], strength, [rate] * steps)
    squares = factors_of(layer).detach().square()
    expected = before * math.exp(-4 * strength * rate * steps / depth)
    torch.testing.assert_close(squares[0] - squares[1:], expected, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("depth", [2, 3])
def test_an_element_with_two_zero_factors_never_leaves_zero(depth):
    layer = dwfbench.factorize(nn.Linear(1, 1, bias=False), depth, keep_weights=True)
    set_factors(layer, 0.0, 0.0, *[1.0] * (depth - 2))
    descend(layer, lambda m: (m.weight - 1).square().sum(), 0.01, [0.1] * 200)
    assert layer.weight.item() == 0


def test_an_element_with_one_zero_factor_leaves_zero():
    layer = dwfbench.factorize(nn.Linear(1, 1, bias=False), 2, keep_weights=True)
    set_factors(layer, 0.0, 0.5)
    descend(layer, lambda m: (m.weight - 1).square().sum(), 0.01, [0.1] * 200)
    # 2 (w - 1) + 0.01 = 0
    assert layer.weight.item() == pytest.approx(0.995, abs=1e-3)


def test_balanced_factors_keep_the_sign_of_their_weight():
    """|w_1| = |w_2| is invariant, so a balanced start on the wrong side ends at zero; an unbalanced one crosses."""
    ends = []
    for first, second in [(-0.5, 0.5), (-0.2, 0.5)]:
        layer = dwfbench.factorize(nn.Linear(1, 1, bias=False).double(), 2, keep_weights=True)
        set_factors(layer, first, second)
        descend(layer, lambda m: (m.weight - 1).square().sum(), 0.01, [0.1] * 300)
        ends.append(layer.weight.item())
    assert ends == pytest.approx([0, 0.995], abs=1e-3)


# ---------------------------------------------------------------- product, balance, misalignment


def test_product_and_its_gradient_by_hand():
    factors = torch.tensor([[2.0], [3.0], [0.0]], requires_grad=True)
    weight = product(factors)
    weight.sum().backward()
    assert weight.tolist() == [0]
    assert factors.grad.tolist() == [[0], [0], [6]]


def test_balanced_factors_by_hand():
    weight = torch.tensor([-8.0, 27.0, 0.0])
    factors = torch.stack(Product(3).keep(weight))
    expected = torch.tensor([[-2.0, 3.0, 0.0], [2.0, 3.0, 0.0], [2.0, 3.0, 0.0]])
    torch.testing.assert_close(factors, expected)


def test_misalignment_by_hand():
    # (1 + 1 + 64) / 3 = 22 and |1 * 1 * 8|^(2/3) = 4; (4 + 1) / 2 = 2.5 and |2| = 2.
    assert Product(3).misalignment(torch.tensor([[1.0], [-1.0], [8.0]])).item() == pytest.approx(18)
    assert Product(2).misalignment(torch.tensor([[2.0, 3.0], [-1.0, 3.0]])).item() == pytest.approx(0.5)


def test_misalignment_of_a_model_adds_its_layers_up():
    model = dwfbench.factorize(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 3)), 2, keep_weights=True)
    assert dwfbench.misalignment(model) == pytest.approx(0, abs=1e-6)
    for layer in model:
        set_factors(layer, 2.0, 1.0)
    assert dwfbench.misalignment(model) == pytest.approx(4 * 0.5)


quarters = st.integers(-12, 12).map(lambda n: n / 4)
tensors = st.integers(2, 5).flatmap(
    lambda depth: st.lists(st.tuples(quarters, quarters), min_size=depth, max_size=depth).map(torch.tensor)
)


@given(tensors)
def test_misalignment_is_positive_unless_the_factors_are_balanced(factors):
    space = Product(len(factors))
    distance = space.misalignment(factors).item()
    assert distance >= 0
    assert (distance < 1e-6) == torch.equal(factors.abs().amin(0), factors.abs().amax(0))
    assert space.misalignment(space.keep(product(factors.double()))).item() < 1e-6


# ---------------------------------------------------------------- the module-level API


def linear_net():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.LayerNorm(5), nn.Linear(5, 3)), torch.randn(4, 6)


def conv_net(dimensions):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dimensions - 1]
    side = [4] * dimensions
    net = nn.Sequential(
        conv(2, 4, 3, padding=1), norm(4), nn.ReLU(), conv(4, 4, 3, padding=1, groups=2, bias=False), nn.Flatten()
    )
    return nn.Sequential(*net, nn.Linear(4 * 4**dimensions, 3)), torch.randn(3, 2, *side)


NETS = {
    "linear": linear_net,
    **{f"conv{n}d": lambda n=n: conv_net(n) for n in (1, 2, 3)},
    "transposed": lambda: (nn.ConvTranspose2d(2, 3, 3), torch.randn(1, 2, 4, 4)),
}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("depth", [2, 4])
def test_collapse_of_kept_weights_is_the_identity(net, depth):
    torch.manual_seed(0)
    model, inputs = NETS[net]()
    model.eval()
    before, logits = copy.deepcopy(model.state_dict()), model(inputs)
    classes = [type(module) for module in model.modules()]
    dwfbench.factorize(model, depth, keep_weights=True)
    torch.testing.assert_close(model(inputs), logits, rtol=1e-4, atol=1e-5)
    assert len(list(model.parameters())) > len(before) / 2
    assert dwfbench.collapse(model) is model
    after = model.state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(model(inputs), logits, rtol=1e-4, atol=1e-5)
    assert [type(module) for module in model.modules()] == classes
    assert not any(hasattr(module, "parametrizations") for module in model.modules())


@pytest.mark.parametrize("net", NETS)
def test_gradients_reach_every_factor_and_collapse_keeps_the_logits(net):
    torch.manual_seed(0)
    model, inputs = NETS[net]()
    dwfbench.factorize(model, 3, generator=seeded())
    model(inputs).square().sum().backward()
    factors = [value for name, value in model.named_parameters() if "original" in name]
    assert len(factors) == 3 * sum(isinstance(m, (nn.Linear, nn.modules.conv._ConvNd)) for m in model.modules())
    assert all(factor.grad.abs().sum() > 0 for factor in factors)
    model.eval()
    logits = model(inputs)
    torch.testing.assert_close(dwfbench.collapse(model)(inputs), logits)


def test_collapse_zeroes_what_is_below_the_threshold_and_nothing_else():
    layer = nn.Linear(4, 1, bias=False)
    layer.weight.data = torch.tensor([[0.25, -0.2499, 0.2501, -0.0]])
    dwfbench.factorize(layer, 2, keep_weights=True)
    dwfbench.collapse(layer, threshold=0.25)  # 0.5 * 0.5 is exactly 0.25, and not below it
    torch.testing.assert_close(layer.weight.data, torch.tensor([[0.25, 0.0, 0.2501, 0.0]]))
    assert layer.weight.count_nonzero() == 2


def test_collapse_zeroes_at_float32_epsilon_by_default():
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([[1.1e-7, -1.3e-7]])
    dwfbench.collapse(dwfbench.factorize(layer, 3, keep_weights=True))
    assert (layer.weight != 0).tolist() == [[False, True]]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("gradients", [False, True])
def test_collapsed_weights_are_parameters_again(frozen, gradients):
    layer = nn.Linear(3, 2)
    dwfbench.factorize(layer, 3).requires_grad_(not frozen)
    with torch.set_grad_enabled(gradients):
        dwfbench.collapse(layer)
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}
    assert layer.weight.requires_grad is not frozen
    assert layer.weight.is_leaf


def test_param_groups_decay_factors_only_and_hold_every_parameter_once():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    dwfbench.factorize(model[0], 2)
    dwfbench.factorize(model[3], 4)
    decay = {id(p): group["weight_decay"] for group in dwfbench.param_groups(model, 0.6) for p in group["params"]}
    assert sum(len(group["params"]) for group in dwfbench.param_groups(model, 0.6)) == len(decay)
    found = {name: decay.pop(id(parameter)) for name, parameter in model.named_parameters()}
    assert not decay
    expected = dict.fromkeys(found, 0.0)
    expected |= {name: 2 * 0.6 / 2 for name in found if name.startswith("0.param")}
    expected |= {name: 2 * 0.6 / 4 for name in found if name.startswith("3.param")}
    assert found == pytest.approx(expected)
    assert sorted(found.values()) == pytest.approx([0.0] * 4 + [0.3] * 4 + [0.6] * 2)


def test_param_groups_without_other_parameters_have_no_empty_group():
    layer = dwfbench.factorize(nn.Linear(3, 2, bias=False), 2)
    assert [len(group["params"]) for group in dwfbench.param_groups(layer, 0.1)] == [2]


def test_param_groups_refuse_plain_models_and_negative_strengths():
    layer = nn.Linear(3, 2)
    with pytest.raises(UsageError, match="not factorized"):
        dwfbench.param_groups(layer, 0.1)
    dwfbench.factorize(layer, 2)
    for strength in (-0.1, math.nan):
        with pytest.raises(UsageError, match="must not be negative"):
            dwfbench.param_groups(layer, strength)


def masked():
    layer = nn.Linear(3, 2)
    prune.l1_unstructured(layer, "weight", amount=0.5)
    return layer


def not_a_number():
    layer = nn.Linear(4, 4)
    nn.init.constant_(layer.weight, math.nan)
    return nn.Sequential(nn.Linear(4, 4), layer)


REFUSED = {
    "depth": (lambda: nn.Linear(3, 2), {"depth": 1}, "at least 2"),
    "twice": (lambda: dwfbench.factorize(nn.Linear(3, 2), 2), {}, "collapse it first"),
    "no layers": (lambda: nn.BatchNorm1d(3), {}, "No layer is chosen"),
    "not a number": (not_a_number, {}, "1.weight has values that are infinite or NaN"),
    "negative eps": (lambda: nn.Linear(3, 2), {"min_abs": -1e-3}, "min_abs"),
    "pruned": (masked, {}, "computed already"),
    "weight_norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), {}, "computed already"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_factorize_refuses_and_leaves_the_model_alone(case):
    make, options, message = REFUSED[case]
    model = make()
    keys = model.state_dict().keys()
    with pytest.raises(UsageError, match=message):
        dwfbench.factorize(model, **{"depth": 3, **options})
    assert model.state_dict().keys() == keys


def test_a_layer_used_twice_is_factorized_once():
    layer = nn.Linear(4, 4)
    model = dwfbench.factorize(nn.Sequential(layer, nn.ReLU(), layer), 2)
    assert len(dwfbench.param_groups(model, 0.1)[0]["params"]) == 2


def test_deep_copies_are_independent():
    model = dwfbench.factorize(nn.Sequential(nn.Linear(4, 3)), 3)
    twin = copy.deepcopy(model)
    assert torch.equal(twin[0].weight, model[0].weight)
    before = model[0].weight.detach().clone()
    descend(twin, lambda m: m[0].weight.square().sum(), 0.1, [0.1])
    assert torch.equal(model[0].weight, before)
    assert not torch.equal(twin[0].weight, before)
    assert not hasattr(dwfbench.collapse(twin)[0], "parametrizations")


def test_training_continues_exactly_from_saved_states():
    def start(seed):
        torch.manual_seed(seed)
        model = dwfbench.factorize(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), 3)
        return model, torch.optim.SGD(dwfbench.param_groups(model, 1e-2), lr=0.1, momentum=0.9)

    inputs, labels = torch.randn(20, 5, generator=seeded()), torch.arange(20) % 3

    def steps(model, optimizer):
        for _ in range(5):
            optimizer.zero_grad()
            cross_entropy(model(inputs), labels).backward()
            optimizer.step()

    model, optimizer = start(0)
    steps(model, optimizer)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    other, its_optimizer = start(1)
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    other.load_state_dict(saved["model"])
    its_optimizer.load_state_dict(saved["optimizer"])
    steps(model, optimizer)
    steps(other, its_optimizer)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


# ---------------------------------------------------------------- the methods built on it


@pytest.mark.parametrize(("method", "depth"), [(Dwf(depth=2), 2), (Dwf(depth=3), 3), (Dwf(depth=4), 4), (Spred(), 2)])
def test_the_decay_of_the_factors_is_the_gradient_of_their_penalty(method, depth):
    space, strength = method.parametrization(), torch.tensor(0.7)
    trained = parametrization.draw(space, {"w": torch.randn(4, 5, generator=seeded(1))}, seeded())
    assert list(trained) == [f"w.{d}" for d in range(depth)]
    factors = [factor.requires_grad_() for factor in trained.values()]
    penalty = strength / depth * sum(factor.square().sum() for factor in factors)
    for factor, expected in zip(factors, torch.autograd.grad(penalty, factors), strict=True):
        torch.testing.assert_close(method.decay(strength) * factor.detach(), expected)
    torch.testing.assert_close(parametrization.weights_of(space, trained)["w"], torch.stack(factors).prod(0))
    balanced = space.keep(torch.stack(factors).prod(0).detach())  # where the penalty is the norm
    assert sum(factor.square().sum() for factor in balanced).item() / depth == pytest.approx(
        method.norm(parametrization.weights_of(space, trained)).item(), rel=1e-5
    )


def test_the_method_and_the_api_draw_the_same_factors():
    layer = nn.Linear(5, 4, bias=False)
    factors = Dwf(depth=3).parametrization().draw("weight", layer.weight.detach(), seeded())
    dwfbench.factorize(layer, 3, generator=seeded())
    assert torch.equal(factors_of(layer), torch.stack(list(factors)))


def test_spred_starts_from_two_ordinary_draws():
    weight = torch.randn(300, 200, generator=seeded(1)) * 0.05
    first, second = Spred().parametrization().draw("w", weight, seeded())
    assert torch.equal(first, weight)
    assert second.std().item() == pytest.approx(0.05, rel=0.02)
    correlation = torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].item()
    assert abs(correlation) < 0.02


def test_factorize_refuses_a_raised_min_abs_that_leaves_no_value_and_caps_the_default():
    wide = nn.Linear(1000, 50, bias=False)
    nn.init.normal_(wide.weight, std=1e-3)
    with pytest.raises(UsageError, match="2 sigma"):
        dwfbench.factorize(wide, 3, min_abs=0.01)
    dwfbench.factorize(wide, 3)
    assert 0.2e-3 < wide.weight.abs().min() < 0.5e-3
