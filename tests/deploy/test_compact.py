"""Dead neurons and channels go, outputs stay: small networks by hand, joined channels, what must be left whole."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dwfbench
from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.deploy.compact import Selected, compact
from dwfbench.models.prunable import prunable
from dwfbench.sparsity.count import macs


def linear(weight, bias):
    layer = nn.Linear(len(weight[0]), len(weight))
    layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    return layer


def shapes(network):
    return [tuple(weight.shape) for weight in prunable(network).values()]


def same(network, smaller, input_shape, samples=16):
    inputs = torch.randn(samples, *input_shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected, found = network.eval()(inputs), smaller(inputs)
    assert float(expected.abs().max()) > 0
    return torch.allclose(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_channels_that_are_followed_for_ever_are_refused():
    """Through the slice of a layer's output that a cell of the same weight reads."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.layer = nn.GRUCell(8, 8, bias=False), nn.Linear(8, 24, bias=False)
            self.layer.weight = self.cell.weight_hh

        def forward(self, x):
            return self.cell(x, self.layer(x)[:, :8])

    with pytest.raises(UsageError, match=r"cannot be traced \(their ways through it have no end\)"):
        compact(Tied(), (8,))


def test_a_network_by_hand():
    first = linear([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], [0.0, 0.5, 0.0])
    second = linear([[0.0, 2.0, 1.0], [0.0, 4.0, -1.0]], [0.0, 1.0])
    network = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second).requires_grad_(False)
    smaller = compact(network, (1, 1, 2))
    # Neuron 0 is not read; neuron 1 is relu(0.5), of which 2 and 4 times go to the biases; pixel 0 is not read either.
    assert smaller[1].index.tolist() == [1]
    assert smaller[1].weight.tolist() == [[1.0]]
    assert smaller[3].weight.tolist() == [[1.0], [-1.0]]
    assert smaller[3].bias.tolist() == [1.0, 3.0]
    assert smaller(torch.tensor([[[[9.0, 2.0]]]])).tolist() == [[3.0, 1.0]]


def test_what_only_the_dead_read_is_dead():
    first = linear([[1.0], [1.0]], [0.0, 0.0])
    second = linear([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    third = linear([[0.0, 3.0]], [0.0])
    smaller = compact(nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), third), (1, 1, 1))
    assert shapes(smaller) == [(1, 1), (1, 1), (1, 1)]
    assert smaller(torch.full((1, 1, 1, 1), 2.0)).tolist() == [[6.0]]


def test_one_channel_stays_where_all_are_dead():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    network[1].weight.data.zero_()
    smaller = compact(network, (1, 2, 2))
    assert shapes(smaller) == [(1, 4), (2, 1)]
    assert same(network, smaller, (1, 2, 2))


def convolutions(padding, shift):
    """Two convolutions; channel 0 of the first has no weights and says relu(shift) after normalisation."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3, padding=padding, bias=False)
    )
    network[0].weight.data[0] = 0
    network[1].bias.data[0] = shift
    return nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("padding", "shift", "width"),
    [(0, 0.7, 2), (1, -0.7, 2), (1, 0.7, 3)],
    ids=["a constant is folded", "a zero goes anywhere", "a constant stays before zero padding"],
)
def test_constants_of_convolutions(padding, shift, width):
    network = convolutions(padding, shift)
    smaller = compact(network, (2, 8, 8))
    assert shapes(smaller)[:2] == [(width, 2, 3, 3), (4, width, 3, 3)]
    assert same(network, smaller, (2, 8, 8))


def cut(network, seed=1):
    """Zero whole rows and columns of all weights but the last, and move the statistics of normalisation."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(generator=random)
                module.bias.normal_(generator=random)
        for weight in list(prunable(network).values())[:-1]:
            weight[torch.rand(len(weight), generator=random) < 0.5] = 0
            if weight.shape[1] > 3:
                weight[:, torch.rand(weight.shape[1], generator=random) < 0.3] = 0
    return network.eval()


@pytest.mark.parametrize(("name", "shape"), [("lenet-5", (1, 28, 28)), ("resnet-20", (3, 16, 16))])
def test_known_networks(name, shape):
    network = cut(models.build(name, shape, 10, 0))
    smaller = compact(network, shape)
    assert same(network, smaller, shape)
    assert macs(smaller, shape)[0] < 0.6 * macs(network, shape)[0]


@pytest.mark.slow
def test_depthwise_convolutions_and_squeezing():
    from torchvision.models import mobilenet_v3_small

    torch.manual_seed(0)
    network = cut(mobilenet_v3_small(num_classes=4))
    smaller = compact(network, (3, 32, 32))
    assert same(network, smaller, (3, 32, 32), 4)
    assert macs(smaller, (3, 32, 32))[0] < 0.8 * macs(network, (3, 32, 32))[0]


def test_channels_that_a_normalisation_compares_stay():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    network[3].weight.data[:, 0] = 0  # nothing reads feature 0, but the mean over the features is also of it
    network[5].weight.data[:, 0] = 0
    smaller = compact(network, (1, 2, 2))
    assert shapes(smaller) == [(6, 4), (4, 6), (2, 4)]
    assert same(network, smaller, (1, 2, 2))


class Attention(nn.Module):
    """One head written out, whose queries and keys meet in a product that no layer's weights show."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out, self.head = nn.Linear(4, 12), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, images):
        query, key, value = self.qkv(images.flatten(2).transpose(1, 2)).chunk(3, -1)
        mixed = F.softmax(query @ key.transpose(1, 2), -1) @ value
        return self.head(F.relu(self.out(mixed)).mean(1))


def test_outputs_stay_where_the_graph_is_wrong():
    torch.manual_seed(0)
    network = Attention()
    network.out.weight.data[:, 1] = 0  # value 1 is not read; query 1 and key 1 are
    network.head.weight.data[:, 2] = 0
    smaller = compact(network, (4, 2, 3))
    assert smaller.head.weight.shape == (3, 3)
    assert same(network, smaller, (4, 2, 3))


def test_grouped_and_transposed_convolutions_stay_whole():
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1, groups=2), nn.ReLU()),
        *(nn.ConvTranspose2d(4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)),
    )
    network[0].weight.data[0] = 0
    network[2].weight.data[1] = 0
    smaller = compact(network, (2, 3, 3))
    assert shapes(smaller) == shapes(network)
    assert same(network, smaller, (2, 3, 3))


def test_the_network_is_left_as_it_was_and_a_factorized_one_is_collapsed():
    torch.manual_seed(0)
    network = dwfbench.factorize(nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), 2)
    network[3].parametrizations.weight.original0.data[:, :4] = 0
    before = copy.deepcopy(network.state_dict())
    smaller = compact(network, (1, 2, 2))
    assert shapes(smaller) == [(2, 4), (2, 2)]
    assert network.training
    assert not smaller.training
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    assert same(network, smaller, (1, 2, 2))


def test_only_a_layer_that_reads_the_pixels_selects_them():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    network[1].weight.data[:, [0, 2, 5]] = 0
    network[3].weight.data[:, 1] = 0
    smaller = compact(network, (1, 2, 3))
    assert [type(smaller[place]) for place in (1, 3)] == [Selected, nn.Linear]
    assert smaller[1].index.tolist() == [1, 3, 4]
    assert same(network, smaller, (1, 2, 3))


class Reread(nn.Module):
    """Whose first weight is read by more than its layer."""

    def __init__(self, tied):
        super().__init__()
        self.first, self.last, self.tied = nn.Linear(6, 6), nn.Linear(6, 6), tied

    def forward(self, images):
        hidden = self.first(images.flatten(1)).relu()
        if self.tied:
            return torch.nn.functional.linear(hidden, self.first.weight.t())
        return self.last(hidden) + self.first.weight.abs().mean() * images.flatten(1)


@pytest.mark.parametrize("tied", [False, True])
def test_pixels_are_not_selected_where_something_else_reads_the_weight(tied):
    torch.manual_seed(0)
    network = Reread(tied)
    network.first.weight.data[:, [0, 2, 5]] = 0
    assert same(network, compact(network, (1, 2, 3)), (1, 2, 3))


class Untraceable(nn.Linear):
    def forward(self, images):
        if torch.is_grad_enabled():  # as it is while the graph is traced
            raise RuntimeError("not with gradients")
        return super().forward(images.flatten(1))


def test_a_network_whose_graph_cannot_be_traced_is_refused():
    with pytest.raises(UsageError, match=r"cannot be traced \(not with gradients\)"):
        compact(Untraceable(4, 2), (1, 2, 2))


class Tied(nn.Module):
    """Three layers of one weight, or one layer of two names; a hidden unit of each is not read."""

    def __init__(self, count):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(count)])
        self.last, self.alias = nn.Linear(6, 2), self.layers[0]
        for layer in self.layers:
            layer.weight = self.alias.weight
        self.alias.weight.data[2] = 0
        self.alias.weight.data[:, [2, 4]] = 0
        self.last.weight.data[:, 1] = 0

    def forward(self, images):
        hidden = self.alias(images.flatten(1)).relu()
        for layer in self.layers[1:]:
            hidden = layer(hidden).relu()
        return self.last(hidden)


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_one_parameter_stays_one(count):
    network = Tied(count)
    smaller = compact(network, (1, 2, 3))
    assert len(list(smaller.parameters())) == len(list(network.parameters()))
    assert all(layer.weight is smaller.alias.weight for layer in smaller.layers)
    assert same(network, smaller, (1, 2, 3))
