"""Counts, masks, multiplications and live paths of small networks, by hand and against explicit loops."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
import torch_pruning
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dwfbench.base.errors import UsageError
from dwfbench.dwf.module import factorize
from dwfbench.models.prunable import prunable
from dwfbench.sparsity.count import SIZES, compression_ratio, count, count_sizes, evaluating, macs
from dwfbench.sparsity.paths import live, path_report
from dwfbench.sparsity.report import sparsity_report


class Residual(nn.Module):
    """conv(x) + shortcut(x), pooled and classified."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 1, bias=False)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.shortcut = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        x = F.relu(self.stem(x))
        out = self.norm(self.conv(x))
        out += self.shortcut(x)
        return self.head(F.relu(out).mean((2, 3)))


def set_ones(model):
    with torch.no_grad():
        for w in prunable(model).values():
            w.fill_(1.0)
    return model


# ---------------------------------------------------------------- prunable weights and counts


def test_prunable_takes_weights_of_linear_and_conv_layers_only():
    model = nn.ModuleDict(
        {
            "c1": nn.Conv1d(1, 2, 3),
            "norm": nn.BatchNorm2d(2),
            "c2": nn.Conv2d(1, 2, 3),
            "up": nn.ConvTranspose2d(2, 1, 2),
            "embed": nn.Embedding(3, 2),
            "c3": nn.Conv3d(1, 2, 3),
            "ln": nn.LayerNorm(3),
            "head": nn.Linear(2, 2),
        }
    )
    assert list(prunable(model)) == ["c1.weight", "c2.weight", "up.weight", "c3.weight", "head.weight"]
    assert prunable(model)["head.weight"] is model["head"].weight


def test_prunable_lists_a_tied_weight_once_under_its_first_name():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    assert list(prunable(model)) == ["0.weight", "1.weight"]


def test_count_and_report_by_hand():
    model = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, -2.0, 0, 0]]))
        model[2].weight.fill_(3.0)
    report = sparsity_report(model)
    assert report["layers"] == [
        {"name": "0.weight", "shape": [2, 4], "numel": 8, "nnz": 2},
        {"name": "2.weight", "shape": [1, 2], "numel": 2, "nnz": 2},
    ]
    assert (report["numel"], report["nnz"], report["compression"]) == (10, 4, 2.5)
    assert report["compression_all"] == 16 / 10  # 2 biases and 4 BatchNorm parameters, zero or not, are stored
    assert "connected" not in report
    masks = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in prunable(model).items()}
    empty = sparsity_report(model, (4,), masks)
    assert empty["compression"] == empty["effective_compression"] == math.inf
    assert (empty["connected"], empty["macs_dense"], empty["macs_sparse"]) == (False, 10, 0)
    assert compression_ratio(10, 4) == 2.5
    assert count(masks)[0]["nnz"] == 0


def test_a_network_without_weights_to_prune_is_a_usage_error():
    with pytest.raises(UsageError, match="no prunable"):
        sparsity_report(nn.Sequential(nn.BatchNorm1d(2)))


# ---------------------------------------------------------------- multiplications


def loops(weight, size, stride, padding, dilation, groups):
    """Multiplications of one convolution, one by one: non-zero kernel entries at each output position."""
    spans = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    axes = [range(-p, n + p - span + 1, s) for n, p, span, s in zip(size, padding, spans, stride, strict=True)]
    per_group = weight.shape[0] // groups
    total = 0
    for group in range(groups):
        for _ in itertools.product(*axes):
            for out_channel in range(group * per_group, (group + 1) * per_group):
                total += sum(1 for value in weight[out_channel].flatten().tolist() if value != 0)
    return total


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [
        ((1, 1), (0, 0), (1, 1), 1),
        ((2, 1), (1, 2), (1, 1), 2),
        ((2, 3), (2, 0), (2, 1), 4),
        ((1, 2), (0, 1), (1, 2), 1),
    ],
)
def test_conv_macs_match_explicit_loops(stride, padding, dilation, groups):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, (3, 2), stride, padding, dilation, groups)
    with torch.no_grad():
        conv.weight.mul_(torch.rand_like(conv.weight) < 0.3)
    args = ((9, 7), stride, padding, dilation, groups)
    assert macs(conv, (4, 9, 7)) == (
        loops(torch.ones_like(conv.weight), *args),
        loops(conv.weight, *args),
    )


def test_dense_macs_are_those_torch_pruning_counts():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(6, 8, 3, groups=2, dilation=2, bias=False),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 5, bias=False),
    )
    counted, _ = torch_pruning.utils.count_ops_and_params(net, torch.ones(1, 3, 16, 16))
    assert macs(net, (3, 16, 16))[0] == counted


def test_a_factorized_model_is_reported_as_if_collapsed():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        net[0].weight[0] = 0
    factorize(net, 3, keep_weights=True)
    report = sparsity_report(net, (4,))
    assert (report["numel"], report["nnz"], report["compression_all"]) == (18, 14, 23 / 19)
    assert [layer["name"] for layer in report["layers"]] == ["0.weight", "2.weight"]
    assert len(list(net.parameters())) == 3 * 2 + 2  # and it stays factorized


def test_macs_of_other_layers_by_hand():
    # 5 output positions; a Linear at 5 positions; transposed: each weight once per input position.
    assert macs(nn.Conv1d(2, 3, 2), (2, 6)) == (12 * 5, 12 * 5)
    assert macs(nn.Linear(4, 3), (5, 4)) == (60, 60)
    assert macs(nn.ConvTranspose2d(2, 6, 3, stride=2, groups=2), (2, 4, 5)) == (2 * 3 * 9 * 20,) * 2
    shared = nn.Linear(3, 3)
    assert macs(nn.Sequential(shared, nn.ReLU(), shared), (3,)) == (18, 18)
    mask = {"weight": torch.eye(3, dtype=torch.bool)}
    assert macs(shared, (3,), mask) == (9, 3)


# ---------------------------------------------------------------- live paths


def test_network_cut_in_the_middle_is_not_connected():
    model = set_ones(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))
    assert path_report(model, (3,)) == (True, 36)
    with torch.no_grad():
        model[2].weight.zero_()  # its bias still makes the output non-zero
        model[2].bias.fill_(1.0)
    assert path_report(model, (3,)) == (False, 0)


def test_dead_ends_are_not_effective():
    """3-4-2; hidden neuron 0 is intact, 1 has only a bias, 2 leads nowhere, 3 has one weight each side."""
    model = set_ones(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    with torch.no_grad():
        model[0].weight[1] = 0
        model[0].bias[1] = 5.0
        model[2].weight[:, 2] = 0
        model[0].weight[3, :2] = 0
        model[2].weight[0, 3] = 0
    connected, masks = live(model, (3,))
    assert connected
    assert masks["0.weight"].tolist() == [[True] * 3, [False] * 3, [False] * 3, [False, False, True]]
    assert masks["2.weight"].tolist() == [[True, False, False, False], [True, False, False, True]]


def test_weights_of_opposite_sign_do_not_cancel():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -1.0], [1.0, -1.0]]))
        model[1].weight.copy_(torch.tensor([[1.0, -1.0]]))
    assert path_report(model, (2,)) == (True, 6)


@pytest.mark.parametrize(("empty", "effective"), [("shortcut", 3 + 81 + 6), ("conv", 3 + 9 + 6), ("both", 0)])
def test_residual_network_lives_on_its_other_branch(empty, effective):
    model = set_ones(Residual())
    with torch.no_grad():
        for name in ("shortcut", "conv"):
            if empty in (name, "both"):
                getattr(model, name).weight.zero_()
    assert path_report(model, (1, 5, 5)) == (empty != "both", effective)


def test_identity_shortcut_bridges_an_emptied_block():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.fc = nn.BatchNorm1d(2), nn.Linear(2, 2)

        def forward(self, x):
            return x + 0.5 * self.fc(F.relu(self.norm(x)))

    model = set_ones(nn.Sequential(nn.Linear(2, 2), Block(), nn.Linear(2, 2)))
    with torch.no_grad():
        model[1].fc.weight.zero_()
    assert path_report(model, (2,)) == (True, 8)


def test_one_path_through_a_hundred_layers_and_none():
    """A width-64 chain of 100 layers, dense (64^100 paths) and then with a single path left."""
    model = nn.Sequential(*(layer for _ in range(100) for layer in (nn.Linear(64, 64), nn.Sigmoid())))
    assert path_report(model, (64,)) == (True, 100 * 64 * 64)
    with torch.no_grad():
        model[100].weight.zero_()
        model[100].weight[5, 7] = 1.0
    assert path_report(model, (64,)) == (True, 97 * 64 * 64 + 64 + 1 + 64)
    with torch.no_grad():
        for i in range(100):
            model[2 * i].weight.zero_()
            model[2 * i].weight[(i + 1) % 64, i % 64] = 1e-30
    assert path_report(model, (64,)) == (True, 100)
    with torch.no_grad():
        model[100].weight.zero_()
    assert path_report(model, (64,)) == (False, 0)


POOLS = [
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
    nn.MaxPool2d((2, 3), stride=(2, 1), ceil_mode=True),
    nn.MaxPool2d(2, stride=2, dilation=2, padding=1),
    nn.AdaptiveMaxPool2d((2, 3)),
    nn.AvgPool2d(2),
]


@pytest.mark.parametrize("pool", POOLS)
def test_max_pooling_keeps_every_reachable_weight_alive(pool):
    """The first maximum of the top left window lies where padding hides half of the kernel from the input."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), pool, nn.Flatten(), nn.LazyLinear(1))
    model(torch.zeros(1, 1, 5, 5))
    set_ones(model)
    assert path_report(model, (1, 5, 5)) == (True, 18 + model[-1].in_features)


@pytest.mark.parametrize("pool", POOLS)
def test_pooled_windows_are_exact(pool):
    """With one weight left after the pool, the live pixels before it are those whose lone 1 reaches it."""
    pixels = torch.eye(25).view(25, 1, 5, 5)
    windows = pool(pixels).flatten(1)  # (pixel, output)
    model = nn.Sequential(
        nn.Linear(2, 25), nn.Unflatten(1, (1, 5, 5)), pool, nn.Flatten(), nn.Linear(windows.shape[1], 1)
    )
    for output in range(windows.shape[1]):
        weights = {
            "0.weight": torch.ones(25, 2),
            "4.weight": F.one_hot(torch.tensor([output]), windows.shape[1]),
        }
        connected, masks = live(model, (2,), weights)
        assert connected
        assert masks["0.weight"].tolist() == [[reaches > 0] * 2 for reaches in windows[:, output].tolist()]


def test_padding_hides_kernel_edges_of_a_tiny_input():
    model = set_ones(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(2, 3)))
    assert path_report(model, (1, 1, 1)) == (True, 2 + 6)  # only the kernel's centre meets the single pixel


def test_grouped_convolution_and_concatenation():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return torch.cat([self.a(x)[:, :2], self.b(F.max_pool2d(x, 2, stride=1, padding=1)[..., :3, :3])], 1)

    model = set_ones(Net())
    # Only the first group of `a` reaches the output: 2 x 2 of its 4 x 2 weights; all 8 of `b`.
    assert path_report(model, (4, 3, 3)) == (True, 4 + 8)


def test_constants_of_the_network_are_no_paths():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.side, self.head = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(4, 1)
            self.register_buffer("constant", torch.ones(1, 2, dtype=torch.float64))
            self.gamma = nn.Parameter(torch.full((2,), -5.0))

        def forward(self, x):
            x = (x - 1.0) / self.constant.to(x.dtype)  # the usual input of ones would be all zero here
            side = self.side(self.constant.to(x.dtype))
            return F.log_softmax(self.head(torch.cat([self.gamma * self.fc(x), side], 1)), 1)

    connected, masks = live(set_ones(Net()), (2,))
    assert connected
    assert {name: int(m.sum()) for name, m in masks.items()} == {
        "fc.weight": 4,
        "side.weight": 0,
        "head.weight": 2,
    }


def test_changes_in_place_do_not_leak_into_other_branches():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.dead, self.fc, self.head = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(4, 1)

        def forward(self, x):
            dead = self.dead(x)
            out = torch.relu(dead)
            out += self.fc(x)
            return self.head(torch.cat([dead, out], 1))

    model = set_ones(Net())
    with torch.no_grad():
        model.dead.weight.zero_()
    assert live(model, (2,))[1]["head.weight"].tolist() == [[False, False, True, True]]


def test_paths_and_multiplications_are_those_of_eval_mode():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.auxiliary = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.fc(x) + self.auxiliary(x) if self.training else self.fc(x)

    model = set_ones(Net()).train()
    assert path_report(model, (2,)) == (True, 4)
    assert macs(model, (2,)) == (4, 4)


def brute_force_live(weights):
    """Live weights of a chain of matrices by enumerating every path."""
    masks = [torch.zeros_like(w, dtype=torch.bool) for w in weights]
    sizes = [weights[0].shape[1], *(w.shape[0] for w in weights)]
    for path in itertools.product(*map(range, sizes)):
        steps = list(zip(path[1:], path[:-1], strict=True))
        if all(w[step] != 0 for w, step in zip(weights, steps, strict=True)):
            for mask, step in zip(masks, steps, strict=True):
                mask[step] = True
    return masks


@given(st.integers(0, 10**6), st.floats(0.1, 0.9))
@settings(max_examples=40)
def test_live_weights_match_enumerated_paths(seed, density):
    generator = torch.Generator().manual_seed(seed)
    sizes = [3, 4, 3, 2]
    model = nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(sizes)))
    with torch.no_grad():
        for w in prunable(model).values():
            w.copy_(torch.randn(w.shape, generator=generator) * (torch.rand(w.shape, generator=generator) < density))
    expected = brute_force_live(list(prunable(model).values()))
    connected, masks = live(model, (3,))
    assert connected == bool(expected[0].any())
    assert all(torch.equal(a, b) for a, b in zip(masks.values(), expected, strict=True))


# ---------------------------------------------------------------- nothing is disturbed


def test_the_network_is_left_as_found():
    torch.manual_seed(1)
    model = nn.Sequential(Residual(), nn.Dropout(0.5))
    model[0].norm.eval()
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    model[0].stem.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    grads = [p.grad.clone() for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    state = torch.get_rng_state()
    sparsity_report(model, (1, 5, 5))
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == modes
    assert set(modes) == {True, False}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))
    assert not model[0].stem.weight.requires_grad


def test_modes_come_back_after_an_error():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    with evaluating(model, batch_norm_training=True):
        assert [m.training for m in model.modules()] == [False, False, True]
    with pytest.raises(RuntimeError):
        macs(model, (3,))
    assert all(m.training for m in model.modules())


def test_half_precision_networks_are_counted():
    model = set_ones(Residual()).to(torch.bfloat16)
    report = sparsity_report(model, (1, 4, 4))
    assert (report["effective_compression"], report["macs_dense"]) == (1.0, 16 * (3 + 81 + 9) + 6)


def test_sizes_of_weights_fall_into_quarter_decades():
    weights = torch.tensor([[0.0, 1.18e-7, -1.2e-7, 10**-6.75 * 1.01], [-0.99, 1.0, -40.0, 0.0101]])
    found = [{name: n for name, n in zip(SIZES, row.tolist(), strict=True) if n} for row in count_sizes([weights])]
    assert found == [{"zero": 2, "-7": 1, "-6.75": 1}, {"-0.25": 1, "0": 2, "-2": 1}]
    double = count_sizes([weights, weights[:, None]])
    assert torch.equal(double, 2 * count_sizes([weights]))
