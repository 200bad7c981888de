"""VGG and ResNet: published sizes, other implementations, lanes with batch norm, densities, live paths by hand."""

import copy
import math
from functools import lru_cache

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F

from baselines import magnitude, random, synflow
from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.models.prunable import prunable
from dwfbench.sparsity.count import macs
from dwfbench.sparsity.paths import path_report
from dwfbench.sparsity.report import sparsity_report

NAMES = ("vgg-16", "vgg-16-quarter", "vgg-16-512", "vgg-19", "vgg-19-512", "resnet-18", "resnet-20")
IMAGE = (3, 32, 32)


drawn = lru_cache(maxsize=6)(models.build)


def build(name, shape=IMAGE, classes=10, seed=0):
    """A network of one's own; to draw the weights of a large one takes longer than to copy them."""
    return copy.deepcopy(drawn(name, shape, classes, seed))


def numel(tensors):
    return sum(tensor.numel() for tensor in tensors)


# ---------------------------------------------------------------- sizes

# Weights of the convolutions at each resolution, the first being that of the image; every next has half the side.
VGG_16 = [
    9 * (3 * 64 + 64 * 64),
    9 * (64 * 128 + 128 * 128),
    9 * (128 * 256 + 2 * 256 * 256),
    9 * (256 * 512 + 2 * 512 * 512),
    9 * (3 * 512 * 512),
]
QUARTER = [9 * (3 * 16 + 16 * 16), *(weights // 16 for weights in VGG_16[1:])]
VGG_19 = [*VGG_16[:2], *(more + 9 * n * n for more, n in zip(VGG_16[2:], (256, 512, 512), strict=True))]
RESNET_18 = [9 * 3 * 64 + 4 * 9 * 64 * 64] + [9 * n * 2 * n + 3 * 9 * (2 * n) ** 2 + n * 2 * n for n in (64, 128, 256)]
RESNET_20 = [9 * 3 * 16 + 6 * 9 * 16 * 16] + [9 * n * 2 * n + 5 * 9 * (2 * n) ** 2 for n in (16, 32)]

# Name, convolutions as above, weights of the linear layers at 10 classes, normalised channels.
SIZES = [
    ("vgg-16", VGG_16, 512 * 10, 4224),
    ("vgg-16-quarter", QUARTER, 128 * 10, 4224 // 4),
    ("vgg-16-512", VGG_16, 512 * 512 + 512 * 10, 4224 + 512),
    ("vgg-19", VGG_19, 512 * 10, 5504),
    ("vgg-19-512", VGG_19, 512 * 512 + 512 * 10, 5504 + 512),
    ("resnet-18", RESNET_18, 512 * 10, 64 + 4 * 64 + 5 * (128 + 256 + 512)),
    ("resnet-20", RESNET_20, 64 * 10, 16 + 6 * (16 + 32 + 64)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "convolutions", "linear", "channels"), SIZES)
def test_weights_and_multiplications_add_up(name, convolutions, linear, channels):
    model = build(name)
    weights = sum(convolutions) + linear
    assert numel(prunable(model).values()) == weights
    assert numel(model.parameters()) == weights + 2 * channels + 10  # batch norm's two and the last layer's biases
    assert f"{weights:,} weights" in models.MODELS[name].summary
    for side in (32, 64):
        multiplications = sum(w * (side // 2**i) ** 2 for i, w in enumerate(convolutions)) + linear
        assert macs(model, (3, side, side)) == (multiplications, multiplications)


@pytest.mark.slow
def test_sizes_are_the_published_ones():
    sizes = {name: (numel(build(name).parameters()), macs(build(name), IMAGE)[0]) for name, *_ in SIZES}
    # pytorch-cifar prints 14,728,266 and 20,040,522 for its VGGs, whose convolutions have biases, 11,173,962 for
    # its ResNet-18; ResNet-20 with option A: 269,722, "0.27M" in table 6 of He et al. 2016.
    assert sizes["vgg-16"][0] + 4224 == 14_728_266
    assert sizes["vgg-19"][0] + 5504 == 20_040_522
    assert sizes["resnet-18"][0] == 11_173_962
    assert sizes["resnet-20"][0] == 269_722
    # Multiplications: 3.13e8 (Li et al. 2017), 7.97e8 operations at two each (Liu et al. 2017), 0.56e9, 4.06e7
    # (He et al. 2018).
    published = {"vgg-16": 3.13e8, "vgg-19": 7.97e8 / 2, "resnet-18": 0.56e9, "resnet-20": 4.06e7}
    assert {name: sizes[name][1] for name in published} == pytest.approx(published, rel=0.01)


# ---------------------------------------------------------------- shapes and agreement with others


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "classes"), [(IMAGE, 100), ((3, 64, 64), 200), ((1, 28, 28), 10), ((3, 33, 18), 7)])
def test_networks_adapt_to_the_input(name, shape, classes):
    logits = build(name, shape, classes)(torch.randn(2, *shape))
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()


def test_the_smallest_images():
    assert build("resnet-20", (1, 8, 8))(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    assert build("vgg-19", (1, 16, 17))(torch.randn(2, 1, 16, 17)).shape == (2, 10)
    with pytest.raises(UsageError, match="vgg-19 needs images of at least 16x16 pixels, not 15x32"):
        build("vgg-19", (3, 15, 32))


def randomized(model):
    """Batch norm with statistics, scales and shifts that are not trivial."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.uniform_(0.5, 1.5)
                for tensor in (module.bias, module.running_mean):
                    tensor.normal_(std=0.1)
    return model


def agree(model, other, side, tolerance=1e-4):
    """Both in training mode, where batch norm sees the batch, then with the statistics this has left."""
    x = torch.randn(4, 3, side, side)
    for training in (True, False):
        expected = other.train(training)(x)
        torch.testing.assert_close(model.train(training)(x), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("side", [32, 64])
def test_resnet18_is_torchvisions_with_another_stem(side):
    torch.manual_seed(0)
    other = torchvision.models.resnet18(num_classes=10)
    other.conv1, other.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    model = randomized(build("resnet-18"))
    values = model.state_dict().values()
    other.load_state_dict(dict(zip(other.state_dict(), values, strict=True)))
    agree(model, other, side)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "configuration"), [("vgg-16", "D"), ("vgg-19", "E")])
def test_vgg_is_torchvisions_but_for_the_last_pooling_and_the_classifier(name, configuration):
    torch.manual_seed(0)
    plan = torchvision.models.vgg.cfgs[configuration][:-1]  # without the last max-pool
    features = torchvision.models.vgg.make_layers(plan, batch_norm=True)
    for module in features:
        if isinstance(module, nn.Conv2d):
            module.bias = None
    other = nn.Sequential(features, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(512, 10))
    model = randomized(build(name))
    other.load_state_dict(dict(zip(other.state_dict(), model.state_dict().values(), strict=True)))
    agree(model, other, 32)


def test_the_hidden_layer_is_normalised_too():
    model = randomized(build("vgg-16-512")).eval()
    x = torch.randn(3, *IMAGE)
    features = model[: list(dict(model.named_children())).index("fc1")](x)
    hidden = F.relu(model.bn_fc1(features @ model.fc1.weight.T))
    torch.testing.assert_close(model(x), hidden @ model.fc2.weight.T + model.fc2.bias)


def test_resnet20_adds_what_its_shortcuts_bring():
    """Option A by hand: every other pixel in the first half of the channels, nothing in the second."""
    block = randomized(build("resnet-20")).eval().block2_1
    x = torch.randn(2, 16, 7, 8)
    out = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
    expected = F.relu(torch.cat([out[:, :16] + x[:, :, ::2, ::2], out[:, 16:]], 1))
    torch.testing.assert_close(block(x), expected)


# ---------------------------------------------------------------- initial weights, modes


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_initial_weights(name):
    model, same, other = build(name), models.build(name, IMAGE, 10, 0), build(name, seed=1)
    for weight in prunable(model).values():
        expected = math.sqrt(2 / weight[0].numel())
        # The relative error of a sample deviation is 1/sqrt(2n): five of those is a generous margin.
        assert weight.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * weight.numel()))
        assert abs(weight.mean().item()) < 5 * expected / math.sqrt(weight.numel())
    others = {n: p for n, p in model.named_parameters() if n not in prunable(model)}
    assert all((p == (0 if n.endswith("bias") else 1)).all() for n, p in others.items())
    biased = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d) and m.bias is not None]
    assert biased == [model[-1]]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))
    assert not torch.equal(next(model.parameters()), next(other.parameters()))


@pytest.mark.parametrize("name", ["vgg-16-512", "resnet-18", "resnet-20"])
def test_modes(name):
    model, x = build(name), torch.randn(4, *IMAGE)
    assert torch.equal(model(x), model(x))  # nothing random in training
    statistics = {key: value.clone() for key, value in model.named_buffers()}
    model.eval()
    with torch.no_grad():
        # An image's logits do not depend on its company, and nothing is learnt of it.
        torch.testing.assert_close(model(x)[:1], model(x[:1]), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, statistics[key]) for key, value in model.named_buffers())
    assert all(value == 2 for key, value in statistics.items() if key.endswith("num_batches_tracked"))


# ---------------------------------------------------------------- functional use


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("vgg-16-512", 16), ("resnet-18", 8), ("resnet-20", 8)])
def test_lanes_learn_what_each_network_learns_alone(name, side):
    """Two steps of two lanes under vmap against plain networks: weights, and batch norm's running statistics."""
    torch.manual_seed(0)
    shape = (3, side, side)
    lanes = [build(name, shape, seed=seed).double() for seed in range(2)]
    params, buffers = stack_module_state(lanes)
    skeleton = copy.deepcopy(lanes[0]).to("meta")
    batches = [(torch.randn(6, *shape, dtype=torch.float64), torch.arange(6)) for _ in range(2)]

    def loss(params, buffers, x, y):
        buffers = {key: value.clone() for key, value in buffers.items()}
        return F.cross_entropy(functional_call(skeleton, (params, buffers), (x,)), y), buffers

    for x, y in batches:
        grads, buffers = vmap(grad(loss, has_aux=True), in_dims=(0, 0, None, None))(params, buffers, x, y)
        params = {key: value.detach() - 0.01 * grads[key] for key, value in params.items()}
    for lane, model in enumerate(lanes):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        for key, value in model.state_dict().items():
            found = (params | buffers)[key][lane]
            torch.testing.assert_close(found, value, rtol=1e-7, atol=1e-9)
    assert all(value.tolist() == [2, 2] for key, value in buffers.items() if key.endswith("num_batches_tracked"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg-16-512", "resnet-18", "resnet-20"])
def test_one_graph_without_breaks(name):
    torch._dynamo.reset()
    model, x = build(name, (3, 16, 16)), torch.randn(4, 3, 16, 16)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="aot_eager")
    for training in (True, False):
        expected = model.train(training)(x)
        torch.testing.assert_close(compiled.train(training)(x), expected, rtol=1e-4, atol=1e-4)
    torch._dynamo.reset()


# ---------------------------------------------------------------- densities of VGG-16's layers


def densities(masks):
    return [mask.double().mean().item() for mask in masks.values()]


def normal_densities(weights, compression):
    """Of normal weights with variance 2 / fan-in, the share above t is erfc(t / (sqrt(2) sigma)), in each layer.

    The threshold t for all layers is the one at which the shares add up to the total wanted.
    """

    def at(t):
        return [math.erfc(t / (math.sqrt(2) * math.sqrt(2 / w[0].numel()))) for w in weights]

    low, high = 0.0, 10.0
    for _ in range(100):
        t = (low + high) / 2
        total = sum(d * w.numel() for d, w in zip(at(t), weights, strict=True))
        low, high = (t, high) if total > numel(weights) / compression else (low, t)
    return at(low)


@pytest.mark.slow
@pytest.mark.parametrize("compression", [10, 100])
def test_densities_of_magnitude_at_init_have_a_closed_form(compression):
    model = build("vgg-16")
    weights = list(prunable(model).values())
    expected = normal_densities(weights, compression)
    assert sum(d * w.numel() for d, w in zip(expected, weights, strict=True)) == pytest.approx(
        numel(weights) / compression, rel=1e-9
    )
    found = densities(magnitude.masks(model, compression))
    for a, b, weight in zip(found, expected, weights, strict=True):
        # The first and last layers have so few weights that chance alone moves them by half a point.
        chance = math.sqrt(b * (1 - b) / weight.numel())
        assert abs(a - b) < max(0.005, 4 * chance)
        assert abs(a - b) < 0.005 or weight.numel() < 10_000


@pytest.mark.slow
@pytest.mark.parametrize("compression", [10, 100])
def test_densities_of_random_masks_are_all_the_same(compression):
    model, generator = build("vgg-16"), torch.Generator().manual_seed(0)
    sizes = [w.numel() for w in prunable(model).values()]
    exact = densities(random.masks(model, compression, "uniform", generator))
    assert all(abs(d - 1 / compression) <= 1 / n for d, n in zip(exact, sizes, strict=True))
    # Drawn from all weights alike, a layer's count is hypergeometric; small layers stray by more than half a point.
    drawn = densities(random.masks(model, compression, "global", generator))
    assert all(abs(d - 1 / compression) < 4 * math.sqrt(1 / compression / n) for d, n in zip(drawn, sizes, strict=True))


def synaptic_flow(model, shape, compressions):
    """Algorithm 1 of Tanaka et al. 2020 as plainly as can be: the layers' densities after each round."""
    model = copy.deepcopy(model).double().eval()
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.abs() * (not name.endswith("bias"))
    for compression in compressions:
        model.zero_grad()
        model(torch.ones(1, *shape, dtype=torch.float64)).sum().backward()
        scores = [w.detach() * w.grad for w in weights]
        pruned = numel(weights) - round(numel(weights) / compression)
        threshold = np.partition(np.concatenate([s.flatten().numpy() for s in scores]), pruned)[pruned]
        for weight, score in zip(weights, scores, strict=True):
            weight.data *= score >= threshold
        yield [(w != 0).double().mean().item() for w in weights]


@pytest.mark.long
@pytest.mark.slow
def test_densities_of_synflow():
    """Four rounds to CR 100, of which the first two are two rounds to CR 10."""
    shape = (3, 16, 16)
    model = build("vgg-16", shape)
    expected = list(synaptic_flow(model, shape, [100 ** (k / 4) for k in (1, 2, 3, 4)]))
    assert densities(synflow.masks(model, shape, 10, rounds=2)) == pytest.approx(expected[1], abs=0.005)
    assert densities(synflow.masks(model, shape, 100, rounds=4)) == pytest.approx(expected[3], abs=0.005)


# ---------------------------------------------------------------- live paths and multiplications of sparse networks


def empty(model, *names):
    """All weights 1, so that each counts, except those of the layers named by how they end; biases are 1 too."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
        for name, weight in prunable(model).items():
            if name.removesuffix(".weight").endswith(names):
                weight.zero_()
    return model


PROJECTIONS = 64 * 128 + 128 * 256 + 256 * 512


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "emptied", "effective"),
    [
        ("resnet-18", ("shortcut.conv",), 11_164_352 - PROJECTIONS),
        # The branches' first convolutions lead nowhere: stem, projections and classifier are left.
        ("resnet-18", ("conv2",), 27 * 64 + PROJECTIONS + 5120),
        ("resnet-18", ("block2_1.conv1", "block2_1.shortcut.conv"), 0),
        # Option A carries the stem's 16 channels to the end, where they are the first 16 of 64.
        ("resnet-20", ("conv2",), 27 * 16 + 16 * 10),
        # An emptied conv1 makes conv2 useless and the reverse; and after block3_1 the upper 32 of 64 channels are
        # dead until block3_2 revives them, whose conv1 they are missing.
        ("resnet-20", ("block2_2.conv2",), 268_336 - 2 * 9 * 32**2),
        ("resnet-20", ("block3_1.conv1",), 268_336 - 9 * 32 * 64 - 9 * 64**2 - 9 * 32 * 64),
        ("resnet-20", ("fc",), 0),
        ("vgg-16", ("conv3_2",), 0),
    ],
)
def test_emptied_layers_by_hand(name, emptied, effective):
    model = empty(build(name), *emptied)
    assert path_report(model, IMAGE) == (effective > 0, effective)


def test_a_dead_channel_takes_along_what_reads_it_whatever_its_bias():
    model = empty(build("vgg-16"))
    with torch.no_grad():
        model.conv1_1.weight[5] = 0  # its batch norm's bias is 1: a constant, no path from the image
    report = sparsity_report(model, IMAGE)
    assert (report["connected"], report["nnz"]) == (True, 14_715_584 - 27)
    assert report["effective_compression"] == 14_715_584 / (14_715_584 - 27 - 64 * 9)
    assert report["macs_dense"] - report["macs_sparse"] == 27 * 32 * 32


def test_an_emptied_projection_saves_its_multiplications():
    model = empty(build("resnet-18"), "block2_1.shortcut.conv")
    dense, sparse = macs(model, IMAGE)
    assert dense - sparse == 64 * 128 * 16 * 16
