"""Groups of weights (D-Gating) against closed forms, and behind the library and the method."""

import math

import pytest
import torch
from scipy import optimize
from torch import nn
from torch.func import vmap

import dwfbench
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from dwfbench.dwf.factors import FLOAT32_EPSILON, budget_to_reach_zero
from dwfbench.dwf.gates import budget_to_close, by_group, gate_shape, gated
from dwfbench.dwf.parametrization import Gated
from dwfbench.methods.dwf import Dwf
from dwfbench.runs.spec import RunSpec
from tests.records import typed


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def factors_of(layer):
    return list(layer.parametrizations.weight.parameters())


def descend(model, loss, strength, rate, steps, momentum=0.0):
    optimizer = torch.optim.SGD(dwfbench.param_groups(model, strength), lr=rate, momentum=momentum)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()


# ---------------------------------------------------------------- what the groups are


def test_gates_and_their_groups_by_hand():
    weight = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert gate_shape((2, 3), 0) == (2, 1)
    assert gate_shape((2, 3), 1) == (1, 3)
    assert by_group(weight, (2, 1)).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert by_group(weight, (1, 3)).tolist() == [[1, 4], [2, 5], [3, 6]]
    assert gated([weight, torch.tensor([[2.0], [10.0]])]).tolist() == [[2, 4, 6], [40, 50, 60]]
    gates = [torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, 7.0]])]
    assert gated([weight, *gates]).tolist() == [[6, 2, 0], [24, 5, 0]]


def groups_by_perturbation(layer, inputs, side):
    """Which weights act on each output channel, or read each input channel: found by asking the layer itself."""
    weight = layer.weight.detach().clone().requires_grad_()
    groups = []
    count = inputs.shape[1] if side == "row" else layer(inputs).shape[1]
    for channel in range(count):
        seen = inputs.clone()
        if side == "row":
            seen[:, [c for c in range(count) if c != channel]] = 0
        out = torch.func.functional_call(layer, {"weight": weight}, (seen,))
        part = out if side == "row" else out[:, channel]
        groups.append(torch.autograd.grad(part.sum(), weight)[0] != 0)
    return groups


LAYERS = {
    "linear": lambda: (nn.Linear(4, 6, bias=False), torch.rand(1, 4)),
    "conv1d": lambda: (nn.Conv1d(4, 6, 2, bias=False), torch.rand(1, 4, 5)),
    "grouped": lambda: (nn.Conv2d(4, 6, 2, groups=2, bias=False), torch.rand(1, 4, 3, 3)),
    "depthwise": lambda: (nn.Conv2d(4, 8, 2, groups=4, bias=False), torch.rand(1, 4, 3, 3)),
    "transposed": lambda: (nn.ConvTranspose2d(4, 6, 2, bias=False), torch.rand(1, 4, 3, 3)),
    "grouped transposed": lambda: (nn.ConvTranspose2d(4, 6, 2, groups=2, bias=False), torch.rand(1, 4, 3, 3)),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("group", ["channel", "row"])
def test_closing_a_gate_zeroes_the_weights_of_one_output_or_input(kind, group):
    layer, inputs = LAYERS[kind]()
    nn.init.uniform_(layer.weight, 0.1, 1.0)
    expected = groups_by_perturbation(layer, inputs, group)
    dwfbench.factorize(layer, 3, group=group)
    _, gate, _ = factors_of(layer)
    assert gate.numel() == len(expected)
    found = []
    for index in range(gate.numel()):
        with torch.no_grad():
            gate.view(-1)[index] = 0
            found.append(layer.weight == 0)
            gate.view(-1)[index] = 1
    assert {tuple(mask.flatten().tolist()) for mask in found} == {tuple(m.flatten().tolist()) for m in expected}


def test_a_row_of_an_embedding_is_a_token():
    layer = dwfbench.factorize(nn.Embedding(5, 3), 2, layers="*", group="row")
    assert factors_of(layer)[1].shape == (5, 1)
    layer = dwfbench.factorize(nn.Embedding(5, 3), 2, layers="*", group="channel")
    assert factors_of(layer)[1].shape == (1, 3)


# ---------------------------------------------------------------- the penalty


def test_norms_and_misalignment_by_hand():
    weight = torch.tensor([[3.0, 4.0], [0.0, 8.0]])
    assert Gated(2, "channel").keep(weight)[1].square().flatten().tolist() == pytest.approx([5, 8])
    assert Gated(2, "channel").norm(weight).item() == pytest.approx(13)
    assert Gated(3, "channel").norm(weight).item() == pytest.approx(5 ** (2 / 3) + 4)
    # ||omega_g||^2 = 25 and 1, gates 1 and 2: (25 + 1) / 2 - 5 = 8, (1 + 4) / 2 - 2 = 0.5.
    primary, gate = torch.tensor([[3.0, 4.0], [0.0, -1.0]]), torch.tensor([[1.0], [2.0]])
    assert Gated(2, "channel").misalignment([primary, gate]).item() == pytest.approx(8.5)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_least_decay_of_a_group_is_d_times_its_norm_to_the_power_two_over_d(depth):
    """Minimised numerically over all gates; the primary tensor is then w_g over their product."""
    group = torch.tensor([0.3, -1.2, 0.4])
    norm = group.norm().item()

    def decay(logs):
        gates = [math.exp(x) for x in logs]
        return (norm / math.prod(gates)) ** 2 + sum(gate**2 for gate in gates)

    least = optimize.minimize(decay, [0.3 * (d + 1) for d in range(depth - 1)], tol=1e-12).fun
    assert least == pytest.approx(depth * norm ** (2 / depth), rel=1e-8)
    space = Gated(depth, "channel")
    factors = space.keep(group[None])
    assert sum(factor.square().sum().item() for factor in factors) == pytest.approx(least, rel=1e-5)
    assert depth * space.norm(group[None]).item() == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize(("shape", "side", "blocks"), [((6, 4), 0, 1), ((6, 4), 1, 1), ((6, 2, 3, 3), 1, 2)])
@pytest.mark.parametrize("depth", [2, 3, 5])
def test_balanced_gates_give_the_weight_back_and_only_they_are_aligned(shape, side, blocks, depth):
    weight = torch.randn(shape, generator=seeded())
    weight[0] = 0
    space = Gated(depth, ("channel", "row")[side], gate_shape(shape, side, blocks))
    factors = space.keep(weight)
    torch.testing.assert_close(gated(factors), weight)
    assert (gated(factors)[0] == 0).all()
    assert space.misalignment(factors).item() == pytest.approx(0, abs=1e-5)
    factors[0], factors[1] = factors[0] * 2, factors[1] / 2
    torch.testing.assert_close(gated(factors), weight)
    assert space.misalignment(factors).item() > 0.1


def test_a_group_of_one_weight_is_plain_dwf():
    """L_{2/D} of a column: as many groups as weights."""
    weight = torch.randn(7, 1, generator=seeded())
    assert Gated(3, "channel").norm(weight).item() == pytest.approx(weight.abs().pow(2 / 3).sum().item())
    assert Dwf(depth=3, group="channel").norm({"w": weight}).item() == pytest.approx(
        Dwf(depth=3).norm({"w": weight}).item()
    )


def test_group_lasso_has_its_closed_form():
    """D = 2: min 1/2 ||w - a||^2 + strength ||w|| shrinks a towards 0 by strength, and to 0 within it."""
    target = torch.tensor([[3.0, 4.0], [0.03, -0.04]], dtype=torch.float64)
    layer = nn.Linear(2, 2, bias=False).double()
    torch.nn.init.normal_(layer.weight, generator=seeded())
    dwfbench.factorize(layer, 2, group="channel")
    descend(layer, lambda m: 0.5 * (m.weight - target).square().sum(), 1.0, 0.1, 1000)
    dwfbench.collapse(layer)
    torch.testing.assert_close(layer.weight[0], target[0] * 4 / 5, rtol=1e-5, atol=0)
    assert (layer.weight[1] == 0).all()


# ---------------------------------------------------------------- the laws of training


@pytest.mark.slow
@pytest.mark.parametrize("keep_weights", [False, True])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_group_without_gradient_decays_as_a_single_weight_does(depth, keep_weights):
    layer = nn.Linear(3, 2, bias=False).double()
    dwfbench.factorize(layer, depth, group="channel", keep_weights=keep_weights)
    before = layer.weight.detach().clone()
    descend(layer, lambda m: 0 * m.weight.sum(), 0.1, 0.01, 500)
    left = layer.weight.detach() / before
    assert left.tolist() == [[pytest.approx((1 - 2 * 0.1 * 0.01 / depth) ** (500 * depth))] * 3] * 2
    assert left[0, 0].item() == pytest.approx(math.exp(-2 * dwfbench.decay_budget(0.1, 5.0, 0.0)), rel=0.01)


@pytest.mark.slow
def test_a_weight_without_gradient_in_a_group_that_lives_decays_d_times_slower():
    layer = nn.Linear(2, 1, bias=False).double()
    layer.weight.data = torch.tensor([[0.99, 0.1]], dtype=torch.float64)
    dwfbench.factorize(layer, 2, group="channel", keep_weights=True)
    strength, rate, steps = 0.01, 0.05, 4000  # a budget of 2
    before = layer.weight[0, 1].item()
    descend(layer, lambda m: 0.5 * (m.weight[0, 0] - 1).square(), strength, rate, steps)
    _, gate = factors_of(layer)
    assert gate.item() == pytest.approx(1, abs=0.01)
    assert layer.weight[0, 1].item() / before == pytest.approx(math.exp(-2 * 2 / 2), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.0, 1.0])
@pytest.mark.parametrize("group", ["channel", "row"])
def test_groups_balance_exponentially_whatever_the_loss(group, strength):
    """||omega_g||^2 - gamma_g^2 is conserved by gradient flow, and decays by exp(-4 strength t / D) under decay."""
    depth, rate, steps = 3, 5e-4, 1000
    layer = nn.Linear(3, 2, bias=False).double()
    dwfbench.factorize(layer, depth, group=group)
    axis = 1 if group == "channel" else 0

    def differences():
        primary, *gates = (factor.detach() for factor in factors_of(layer))
        return torch.stack([primary.square().sum(axis, keepdim=True) - gate.square() for gate in gates])

    before = differences()
    assert before.abs().min() > 0.1
    descend(layer, lambda m: m.weight.mul(5).sin().sum(), strength, rate, steps)
    expected = before * math.exp(-4 * strength * rate * steps / depth)
    torch.testing.assert_close(differences(), expected, rtol=0.02, atol=5e-3)


def test_the_budget_that_closes_half_of_the_weights_groups():
    """The largest weights of the rows are 0.5, 0.2, 0.05 and 0.01, each for two weights: the lower median is 0.05."""
    weight = torch.tensor([[0.5, 0.01], [-0.2, 0.1], [0.05, 0.05], [0.01, -0.001]])
    assert budget_to_close([(weight, (4, 1))]) == pytest.approx(budget_to_reach_zero(0.05))
    method = Dwf(depth=3, group="channel")
    assert method.needed_budget({"w": weight}) == pytest.approx(math.log(0.05 / FLOAT32_EPSILON) / 2)
    assert Dwf(depth=3).needed_budget({"w": weight}) == pytest.approx(math.log(0.05 / FLOAT32_EPSILON) / 2)
    rows = Dwf(depth=3, group="row").needed_budget({"w": weight})
    assert rows == pytest.approx(math.log(0.1 / FLOAT32_EPSILON) / 2)  # columns: largest 0.5 and 0.1; the lower median


# ---------------------------------------------------------------- the library


@pytest.mark.parametrize("keep_weights", [False, True])
@pytest.mark.parametrize("group", ["channel", "row"])
def test_factorized_groups_start_from_the_ordinary_weights(group, keep_weights):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    inputs = torch.randn(2, 2, 4, 4)
    logits = model(inputs)
    dwfbench.factorize(model, 3, group=group, keep_weights=keep_weights)
    torch.testing.assert_close(model(inputs), logits)
    assert (dwfbench.misalignment(model) < 1e-5) is keep_weights
    gates = factors_of(model[0])[1:]
    assert all((gate == 1).all() for gate in gates) is not keep_weights
    dwfbench.collapse(model)
    torch.testing.assert_close(model(inputs), logits)


def test_groups_vanish_together_when_trained():
    """Only the first two of ten inputs matter, to the first output alone."""
    torch.manual_seed(0)
    inputs = torch.randn(200, 10)
    targets = torch.stack([2 * inputs[:, 0] - inputs[:, 1], 0 * inputs[:, 0]], 1)
    for group, dead in [("channel", lambda w: w.abs().amax(1) == 0), ("row", lambda w: w.abs().amax(0) == 0)]:
        layer = dwfbench.factorize(nn.Linear(10, 2, bias=False), 3, group=group)
        descend(layer, lambda m: (m(inputs) - targets).square().mean(), 0.05, 0.1, 600, momentum=0.9)
        weight = dwfbench.collapse(layer).weight.detach()
        assert dead(weight).tolist() == ([False, True] if group == "channel" else [False] * 2 + [True] * 8)
        if group == "channel":
            assert (weight[0] != 0).all()


def test_groups_refuse_what_has_no_effect_and_ties_on_different_sides():
    for options in ({"rescale": True}, {"min_abs": 1e-4}):
        with pytest.raises(UsageError, match="have no effect"):
            dwfbench.factorize(nn.Linear(3, 2), 2, group="row", **options)
    with pytest.raises(UsageError, match="none, channel, row"):
        dwfbench.factorize(nn.Linear(3, 2), 2, group="column")
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    with pytest.raises(UsageError, match="one tied weight"):
        dwfbench.factorize(model, 2, group="channel")
    assert isinstance(model[1].weight, nn.Parameter)


# ---------------------------------------------------------------- the method


@pytest.mark.parametrize("group", ["channel", "row"])
def test_the_method_is_the_library_in_every_lane(group):
    layers = [nn.Linear(4, 3, bias=False) for _ in range(2)]
    method = Dwf(depth=3, group=group)
    space = method.parametrization()
    lanes = [space.draw("w", layer.weight.detach(), seeded()) for layer in layers]
    stacked = [torch.stack([1.5 * part for part in parts]) for parts in zip(*lanes, strict=True)]
    weights = vmap(space.weight)(*stacked)
    for index, layer in enumerate(layers):
        dwfbench.factorize(layer, 3, group=group)
        assert [f.shape for f in factors_of(layer)] == [part.shape[1:] for part in stacked]
        for factor in factors_of(layer):
            factor.data *= 1.5
        torch.testing.assert_close(weights[index], layer.weight)
        distance = space.misalignment([part[index] for part in stacked])
        assert distance.item() == pytest.approx(dwfbench.misalignment(layer), rel=1e-5)
        axis = 1 if group == "channel" else 0
        norm = method.norm({"w": weights[index]}).item()
        assert norm == pytest.approx(layer.weight.norm(dim=axis).pow(2 / 3).sum().item(), rel=1e-5)
    assert method.decay(torch.tensor(0.3)).item() == pytest.approx(0.2)


def test_the_option_shows_in_the_label_and_its_default_not_in_the_id():
    assert Dwf(depth=3, group="channel").label() == "dwf D=3, group=channel"
    assert Dwf(depth=3, group="none").changed() == Dwf(depth=3).changed() == {}
    assert Dwf(group="row").changed() == {"group": "row"}
    with pytest.raises(UsageError, match="group must be one of none, channel, row"):
        Dwf(group="filter")


def test_runs_stored_before_there_were_groups_are_of_the_same_curve():
    spec = RunSpec(options={"depth": 3}).to_dict()
    common = {"status": "ok", "label": "dwf D=3", "test_accuracy": 0.9, "compression": 2.0, "knob": "strength"}
    old = {**common, "id": "a", "spec": {**spec, "options": {"depth": 3}}}
    new = {**common, "id": "b", "spec": {**spec, "options": {"depth": 3, "group": "none"}}}
    other = {**common, "id": "c", "spec": {**spec, "options": {"depth": 3, "group": "row"}}}
    frame = ResultSet(map(typed, (old, new, other))).runs.set_index("id")
    assert frame.curve["a"] == frame.curve["b"] != frame.curve["c"]
    assert frame.label["a"] == frame.label["b"] != frame.label["c"]


def test_the_method_refuses_options_and_layers_that_do_not_fit(digits, monkeypatch):
    spec = RunSpec()
    Dwf(group="channel").check(spec, digits)
    Dwf(min_abs=1e-4, rescale_init=True).check(spec, digits)
    for options in ({"min_abs": 1e-4}, {"rescale_init": True}):
        with pytest.raises(UsageError, match="leave out min-abs"):
            Dwf(group="channel", **options).check(spec, digits)

    def build(*_):
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2))

    monkeypatch.setattr("dwfbench.models.build", build)
    Dwf(group="channel").check(spec, digits)  # the outputs of a grouped convolution are rows of its weight all the same
    with pytest.raises(UsageError, match="layer 1 is an embedding, or a transposed or grouped"):
        Dwf(group="row").check(spec, digits)


def test_open_gates_leave_the_weight_alone():
    weight = torch.randn(3, 2)
    primary, *gates = Gated(3, "channel").draw("w", weight, None)
    assert torch.equal(primary, weight)
    assert primary is not weight
    assert [gate.tolist() for gate in gates] == [[[1]] * 3] * 2
