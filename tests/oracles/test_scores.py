"""Scores and masks of the baselines against hand-derived and independently computed values, in float64."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from baselines import grasp, magnitude, random, snip, synflow
from dwfbench.base.errors import UsageError
from dwfbench.models.prunable import prunable
from dwfbench.sparsity.masks import kept, layer_counts, top_k_masks


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def small_net():
    """A convolutional net with BatchNorm whose statistics are not trivial, in float64."""
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 5),
        nn.Tanh(),
        nn.Linear(5, 4),
    ).double()
    net[1].running_mean.normal_()
    net[1].running_var.uniform_(0.5, 2.0)
    return net


def batch(n=10):
    return torch.randn(n, 1, 4, 4, dtype=torch.float64), torch.arange(n) % 4


def total(masks):
    return sum(int(m.sum()) for m in masks.values())


def close(a, b):
    assert list(a) == list(b)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-9, atol=1e-14)


class SoftmaxRegression(nn.Module):
    """Logits W x with a given W; its derivatives are known in closed form."""

    def __init__(self, weight):
        super().__init__()
        self.fc = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float64)
        self.fc.weight = nn.Parameter(weight.clone())

    def forward(self, x):
        return self.fc(x)


# ---------------------------------------------------------------- SNIP


def test_snip_of_softmax_regression_in_closed_form():
    """dL/dW = mean over samples of (softmax(W x) - onehot(y)) x^T."""
    weight, x, y = torch.randn(3, 4).double(), torch.randn(7, 4).double(), torch.arange(7) % 3
    gradient = (torch.softmax(x @ weight.T, 1) - F.one_hot(y, 3)).T @ x / 7
    close(snip.scores(SoftmaxRegression(weight), x, y), {"fc.weight": (weight * gradient).abs()})


def test_snip_by_hand():
    """Logits (2, 0) for x = (1, 0) of class 0: p = (e^2, 1) / (1 + e^2), so |g| = 1 / (1 + e^2)."""
    weight = torch.tensor([[2.0, 0.0], [0.0, 5.0]], dtype=torch.float64)
    scores = snip.scores(SoftmaxRegression(weight), torch.tensor([[1.0, 0.0]]).double(), torch.tensor([0]))
    assert scores["fc.weight"].tolist() == [[pytest.approx(2 / (1 + math.e**2)), 0], [0, 0]]


def test_snip_is_not_the_mean_of_absolute_values():
    net, (x, y) = small_net(), batch()
    singles = [snip.scores(net, x[i : i + 1], y[i : i + 1])["0.weight"] for i in range(10)]
    assert (sum(singles) / 10 > 1.05 * snip.scores(net, x, y)["0.weight"]).any()


@pytest.mark.parametrize("score", [snip.scores, grasp.scores])
def test_batch_norm_mode_is_an_option(score):
    net, (x, y) = small_net(), batch()
    with_batch_statistics = copy.deepcopy(net)
    convolved = net[0](x).detach()
    with_batch_statistics[1].running_mean = convolved.mean((0, 2, 3))
    with_batch_statistics[1].running_var = convolved.var((0, 2, 3), unbiased=False)
    training = score(net, x, y, training_mode=True)
    assert not torch.allclose(training["4.weight"], score(net, x, y)["4.weight"])
    if score is snip.scores:  # behind the norm the gradient sees the batch statistics as constants
        expected = score(with_batch_statistics, x, y)["4.weight"]
        torch.testing.assert_close(training["4.weight"], expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("score", [snip.scores, grasp.scores])
def test_empty_scoring_batch_is_a_usage_error(score):
    with pytest.raises(UsageError, match="empty"):
        score(small_net(), *batch(0))


# ---------------------------------------------------------------- GraSP


def test_grasp_equals_explicit_hessian():
    net, (x, y) = small_net(), batch()
    names, leaves = list(prunable(net)), list(prunable(net).values())
    net.eval()

    def loss(flat):
        parts = flat.split([w.numel() for w in leaves])
        weights = {n: p.view(w.shape) for n, p, w in zip(names, parts, leaves, strict=True)}
        return F.cross_entropy(torch.func.functional_call(net, weights, (x,)) / 200.0, y)

    flat = torch.cat([w.detach().flatten() for w in leaves])
    gradient = torch.func.grad(loss)(flat)
    expected = flat * (torch.func.hessian(loss)(flat) @ gradient)
    found = grasp.scores(net, x, y)
    torch.testing.assert_close(torch.cat([s.flatten() for s in found.values()]), expected, rtol=1e-8, atol=1e-18)
    assert (expected < 0).any()
    assert (expected > 0).any()


def test_grasp_by_hand():
    """Two classes, W = diag(a, a) and x = (1, 0) of class 0: with p = softmax((a, 0) / T)[0] and q = 1 - p,

    g = (-q, q) / T and H = p q / T^2 [[1, -1], [-1, 1]], so (H g)_00 = -2 p q^2 / T^3; only w_00 counts.
    Removing w_00 raises the gradient's norm, so its score must be negative: it is the first to go.
    """
    a, t = 2.0, 0.5
    p = 1 / (1 + math.exp(-a / t))
    x, y = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([0])
    scores = grasp.scores(SoftmaxRegression(a * torch.eye(2).double()), x, y, temperature=t)["fc.weight"]
    assert scores[0, 0].item() == pytest.approx(-a * 2 * p * (1 - p) ** 2 / t**3)
    assert scores.count_nonzero() == 1
    assert not top_k_masks({"w": scores}, 4 / 3)["w"][0, 0]


def test_grasp_keeps_what_the_gradient_flow_needs():
    """score = -1/2 d|g|^2/ds when that weight alone becomes (1 - s) w: by finite differences."""
    net, (x, y) = small_net(), batch()
    scores = grasp.scores(net, x, y, temperature=1.0)["6.weight"]

    def squared_norm(index, factor):
        weights = {name: w.detach().clone() for name, w in prunable(net).items()}
        weights["6.weight"][index] *= factor
        for w in weights.values():
            w.requires_grad_()
        loss = F.cross_entropy(torch.func.functional_call(copy.deepcopy(net).eval(), weights, (x,)), y)
        return sum((g**2).sum().item() for g in torch.autograd.grad(loss, list(weights.values())))

    for index in [(0, 0), (1, 3), (3, 2)]:
        change = (squared_norm(index, 1 - 1e-5) - squared_norm(index, 1 + 1e-5)) / 2e-5
        assert scores[index].item() == pytest.approx(-change / 2, rel=1e-5)


def test_grasp_temperature_matters_beyond_scale():
    net, (x, y) = small_net(), batch()
    hot, cold = (grasp.scores(net, x, y, temperature=t)["4.weight"].flatten() for t in (200.0, 1.0))
    assert F.cosine_similarity(hot, cold, dim=0) < 0.999


# ---------------------------------------------------------------- SynFlow


def chain(sizes):
    return nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(sizes)))


def test_synflow_of_a_linear_chain_in_closed_form():
    """score of w_ij in layer l = (paths from j to the inputs) |w_ij| (paths from the outputs to i)."""
    net = chain([3, 5, 4, 2])
    weights = [w.detach().double().abs() for w in prunable(net).values()]
    expected = {}
    for i, name in enumerate(prunable(net)):
        before = torch.ones(3, dtype=torch.float64)
        for w in weights[:i]:
            before = w @ before
        after = torch.ones(2, dtype=torch.float64)
        for w in reversed(weights[i + 1 :]):
            after = w.T @ after
        expected[name] = torch.outer(after, before) * weights[i]
    found = synflow.scores(net, (3,))
    assert all(s.dtype == torch.float64 for s in found.values())
    close(found, expected)


def test_synflow_is_conserved_from_layer_to_layer():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    sums = [s.sum().item() for s in synflow.scores(net, (1, 6, 6)).values()]
    assert sums[0] == pytest.approx(sums[1], rel=1e-12)
    assert sums[0] > 0


def test_synflow_takes_batch_norm_in_absolute_value_and_eval_mode():
    """One path: |w1| * (|gamma| / sqrt(|var| + eps)) * |w2|; the mean shifts the flow, biases do not."""
    net = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1), nn.Linear(1, 1)).train()
    with torch.no_grad():
        net[0].weight.fill_(-2.0)
        net[1].weight.fill_(-3.0)
        net[1].bias.fill_(100.0)
        net[1].running_mean.fill_(-0.5)
        net[1].running_var.fill_(4.0)
        net[2].weight.fill_(-5.0)
    gain = 3.0 / math.sqrt(4.0 + 1e-5)
    scores = synflow.scores(net, (1,))
    assert scores["0.weight"].item() == pytest.approx(2.0 * gain * 5.0)
    assert scores["2.weight"].item() == pytest.approx((2.0 - 0.5) * gain * 5.0)


class Masked(nn.Module):
    """Attention among three rows of which each sees itself and those before it, by a mask of some form."""

    def __init__(self, mask):
        super().__init__()
        self.layer = nn.MultiheadAttention(4, 1, batch_first=True)
        self.register_buffer("mask", mask)

    def forward(self, x):
        return self.layer(x, x, x, attn_mask=self.mask, need_weights=False)[0]


@pytest.mark.parametrize("hidden", [-1e4, -math.inf])
def test_synflow_takes_no_absolute_value_of_a_mask(hidden):
    """An attention mask of numbers means what the mask of truth values does."""
    unseen = torch.ones(3, 3).triu(1) > 0
    boolean = Masked(unseen)
    added = Masked(torch.zeros(3, 3).masked_fill(unseen, hidden))
    added.load_state_dict({**boolean.state_dict(), "mask": added.mask})
    expected, scores = synflow.scores(boolean, (3, 4)), synflow.scores(added, (3, 4))
    for name, score in expected.items():
        torch.testing.assert_close(scores[name], score)


def test_synflow_sets_every_bias_of_a_recurrent_layer_to_zero():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.last = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(self.lstm(x)[0][:, -1])

    net = Recurrent()
    before = synflow.scores(net, (5, 3))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "bias" in name:
                parameter.add_(3.0)
    for name, score in synflow.scores(net, (5, 3)).items():
        torch.testing.assert_close(score, before[name])


def test_synflow_adds_channels_of_opposite_sign():
    net = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2, eps=1e-30), nn.Linear(2, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        net[1].weight.copy_(torch.tensor([2.0, -3.0]))
        net[2].weight.copy_(torch.tensor([[1.0, 1.0]]))
    deeper = nn.Sequential(nn.Linear(1, 1, bias=False), net)
    assert synflow.scores(deeper, (1,))["0.weight"].item() == pytest.approx(5 * deeper[0].weight.abs().item())


def test_synflow_is_finite_on_a_hundred_layers():
    """In float32 the flow of this net overflows: the row sums of each layer are about 8."""
    net = chain([256] * 101)
    scores = synflow.scores(net, (256,))
    assert all(s.isfinite().all() and (s > 0).all() for s in scores.values())
    assert scores["0.weight"].sum() > torch.finfo(torch.float32).max


@pytest.mark.parametrize("scale", [1e4, 1e-5])
def test_synflow_beyond_float64_keeps_the_ranking(scale):
    net = chain([8] * 101)
    reference = torch.cat([s.flatten() for s in synflow.scores(net, (8,)).values()])
    with torch.no_grad():
        for w in prunable(net).values():
            w *= scale
    found = torch.cat([s.flatten() for s in synflow.scores(net, (8,)).values()])
    assert found.isfinite().all()
    ratio = found / reference
    torch.testing.assert_close(ratio / ratio[0], torch.ones_like(ratio), rtol=1e-4, atol=0)


@pytest.mark.parametrize("compression", [1, 3, 10, 100, 1e6])
def test_synflow_masks_keep_exactly_k(compression):
    net = chain([6, 20, 20, 4])
    masks = synflow.masks(net, (6,), compression, rounds=20)
    assert total(masks) == kept(600, compression)


def test_synflow_prunes_in_rounds_and_never_takes_back():
    """Independent two-round reference: the second scores come from the net pruned to sqrt(density)."""
    net = chain([4, 12, 12, 3])
    first = top_k_masks(synflow.scores(net, (4,)), 16**0.5)
    pruned = copy.deepcopy(net)
    with torch.no_grad():
        for name, w in prunable(pruned).items():
            w *= first[name]
    second = top_k_masks(synflow.scores(pruned, (4,)), 16)
    found = synflow.masks(net, (4,), 16, rounds=2)
    assert all(torch.equal(found[name], second[name]) for name in found)
    assert all((found[name] <= first[name]).all() for name in found)
    assert any(not torch.equal(found[name], mask) for name, mask in synflow.masks(net, (4,), 16, rounds=1).items())


def test_synflow_avoids_the_layer_collapse_of_a_single_shot():
    net = chain([10, 100, 10, 100, 2])
    assert all(m.any() for m in synflow.masks(net, (10,), 200).values())


@pytest.mark.parametrize("distribution", ["global", "uniform", "erk"])
def test_layers_keep_their_share_at_random_when_all_scores_vanish(distribution):
    net = chain([4, 4, 4])
    with torch.no_grad():
        net[0].weight.zero_()
    masks, same, other = (
        synflow.masks(net, (4,), 8, 5, distribution, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert [int(mask.sum()) for mask in masks.values()] == [2, 2]
    assert all(torch.equal(masks[name], same[name]) for name in masks)
    assert not all(torch.equal(masks[name], other[name]) for name in masks)


def test_synflow_ranks_the_layers_that_a_silent_branch_leaves():
    """A residual branch whose last layer starts at zero, as Fixup has it: the stem and the head have scores."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.inner, self.last, self.head = (nn.Linear(4, 4, bias=False) for _ in range(4))
            nn.init.zeros_(self.last.weight)

        def forward(self, x):
            x = self.stem(x)
            return self.head(x + self.last(self.inner(x).relu()))

    torch.manual_seed(0)
    net = Net()
    masks = synflow.masks(net, (4,), 4, rounds=10, generator=torch.Generator().manual_seed(0))
    assert [int(masks[f"{name}.weight"].sum()) for name in ("inner", "last")] == [4, 4]
    assert total(masks) == 16
    plain = nn.Sequential(net.stem, net.head)
    alone = synflow.masks(plain, (4,), 4, rounds=10)
    assert torch.equal(masks["stem.weight"], alone["0.weight"])
    assert torch.equal(masks["head.weight"], alone["1.weight"])


def test_synflow_never_takes_back_what_is_pruned():
    """Down to a single weight: the last rounds choose among weights that are cut off and score 0."""
    net = chain([6, 20, 20, 4])
    rounds = [synflow.masks(net, (6,), 600 ** (k / 12), rounds=k) for k in range(1, 13)]
    for before, after in itertools.pairwise(rounds):
        assert all((after[name] <= before[name]).all() for name in before)
    assert total(rounds[-1]) == 1


def test_synflow_needs_a_round():
    with pytest.raises(UsageError, match="round"):
        synflow.masks(chain([2, 2]), (2,), 2, rounds=0)


# ---------------------------------------------------------------- random


def test_layer_counts_by_hand():
    shapes = {"a": (2, 5), "b": (10, 10), "c": (4, 5, 3, 3)}  # 10 + 100 + 180 weights
    assert layer_counts(shapes, 2.9, "uniform") == {
        "a": 3,
        "b": 35,
        "c": 62,
    }  # 100 * (3.4, 34.5, 62.1) / 100
    # sums 7, 20, 15; 42 kept: one per unit
    assert layer_counts(shapes, 290 / 42, "erk") == {"a": 7, "b": 20, "c": 15}
    # 84 kept: a would need 14 of 10, so it is dense and 74 are shared 20 : 15 = 42.29 : 31.71
    assert layer_counts(shapes, 290 / 84, "erk") == {"a": 10, "b": 42, "c": 32}
    # 240 kept: after a, b would need 131 of 100, so c gets the other 130
    assert layer_counts(shapes, 290 / 240, "erk") == {"a": 10, "b": 100, "c": 130}


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=4), min_size=1, max_size=6),
    st.floats(1, 300),
    st.sampled_from(["uniform", "erk"]),
)
@settings(max_examples=200)
def test_layer_counts_are_exact_and_within_capacity(shapes, compression, distribution):
    named = {str(i): tuple(shape) for i, shape in enumerate(shapes)}
    counts = layer_counts(named, compression, distribution)
    assert list(counts) == list(named)
    assert sum(counts.values()) == kept(sum(map(math.prod, shapes)), compression)
    assert all(0 <= counts[name] <= math.prod(shape) for name, shape in named.items())
    partial = [n for n in named if counts[n] < math.prod(named[n])]
    share = {n: sum(s) if distribution == "erk" else math.prod(s) for n, s in named.items()}
    for a, b in itertools.combinations(partial, 2):  # the same factor in all layers that are not full
        assert (counts[a] - 1) / share[a] <= (counts[b] + 1) / share[b]
        assert (counts[b] - 1) / share[b] <= (counts[a] + 1) / share[a]


@pytest.mark.parametrize("distribution", random.DISTRIBUTIONS)
def test_random_masks_are_exact_and_reproducible(distribution):
    net = chain([20, 50, 10])
    state = torch.get_rng_state()
    draws = [random.masks(net, 7, distribution, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert total(draws[0]) == total(draws[2]) == kept(1500, 7)
    assert all(torch.equal(draws[0][n], draws[1][n]) for n in draws[0])
    assert not all(torch.equal(draws[0][n], draws[2][n]) for n in draws[0])
    if distribution != "global":
        counts = layer_counts({n: w.shape for n, w in prunable(net).items()}, 7, distribution)
        assert {n: int(m.sum()) for n, m in draws[0].items()} == counts


def test_global_random_masks_are_uniform_over_weights():
    """Each of 12 weights is kept in a third of 3000 draws, give or take 5 standard deviations."""
    net, generator = chain([2, 4, 1]), torch.Generator().manual_seed(0)
    draws = [torch.cat([m.flatten() for m in random.masks(net, 3, generator=generator).values()]) for _ in range(3000)]
    frequency = torch.stack(draws).double().mean(0)
    assert (frequency - 1 / 3).abs().max() < 5 * math.sqrt(2 / 9 / 3000)
    assert torch.stack(draws).sum(1).eq(4).all()


def test_unknown_distributions_are_usage_errors():
    with pytest.raises(UsageError, match="erk"):
        random.masks(chain([2, 2]), 2, "erdos")
    with pytest.raises(UsageError, match="global"):
        layer_counts({"a": (2, 2)}, 2, "global")


# ---------------------------------------------------------------- magnitude


@pytest.mark.parametrize("compression", [1, 2.5, 40, 1e5])
def test_magnitude_equals_torch_global_pruning(compression):
    net = small_net()
    weights = prunable(net)
    found = magnitude.masks(net, compression)
    amount = sum(w.numel() for w in weights.values()) - total(found)
    reference = copy.deepcopy(net)
    layers = [(reference[i], "weight") for i in (0, 4, 6)]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=amount)
    for (layer, _), name in zip(layers, weights, strict=True):
        assert torch.equal(found[name], layer.weight_mask.bool())


# ---------------------------------------------------------------- nothing is disturbed


@pytest.mark.parametrize(
    "action",
    [
        lambda net: snip.scores(net, *batch()),
        lambda net: snip.scores(net, *batch(), training_mode=True),
        lambda net: grasp.scores(net, *batch(), training_mode=True),
        lambda net: synflow.masks(net, (1, 4, 4), 5, rounds=3),
        lambda net: random.masks(net, 5, generator=torch.Generator()),
        lambda net: magnitude.masks(net, 5),
    ],
)
@pytest.mark.parametrize("grad_mode", [True, False])
def test_the_network_is_left_as_found(action, grad_mode):
    net = small_net()
    net.append(nn.Dropout(0.9))  # has no effect on scores and draws no random numbers
    net[1].eval()
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    net[4].weight.requires_grad_(False)
    before, grads = copy.deepcopy(net.state_dict()), [p.grad.clone() for p in net.parameters()]
    modes = [m.training for m in net.modules()]
    with torch.set_grad_enabled(grad_mode):
        torch.manual_seed(3)
        found = action(net)
        assert torch.is_grad_enabled() == grad_mode
    torch.manual_seed(3)
    again = action(net)
    assert list(found) == ["0.weight", "6.weight"]  # not what is frozen
    assert all(torch.equal(found[n], again[n]) and not found[n].requires_grad for n in found)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()].count(False) == 1
