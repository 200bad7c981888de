"""Networks: sizes stated in the literature, initialisation, seeds, functional use, networks of one's own."""

import math
import sys

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from dwfbench import models
from dwfbench.base.errors import UsageError

NAMES = ("lenet-300-100", "lenet-5", "lenet-5-1998")


def prunable(model):
    return [m.weight for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]


@pytest.mark.parametrize(
    ("name", "weights"), [("lenet-300-100", 266_200), ("lenet-5", 430_500), ("lenet-5-1998", 61_470)]
)
def test_sizes_stated_in_the_literature(name, weights):
    model = models.build(name, (1, 28, 28), 10, seed=0)
    assert sum(weight.numel() for weight in prunable(model)) == weights


def test_layer_names_are_fixed():
    names = [[n for n, _ in models.build(name, (1, 28, 28), 10, seed=0).named_children()] for name in NAMES]
    assert names == [["fc1", "fc2", "fc3"], ["conv1", "conv2", "fc1", "fc2"], ["conv1", "conv2", "fc1", "fc2", "fc3"]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 27), (1, 28, 28), (3, 28, 8), (3, 33, 47)])
def test_networks_adapt_to_the_input(name, shape):
    logits = models.build(name, shape, 7, seed=0)(torch.randn(2, *shape))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", ["lenet-5", "lenet-5-1998"])
def test_lenet5_says_when_images_are_too_small(name):
    with pytest.raises(UsageError, match="at least 8x8 pixels, not 7x28"):
        models.build(name, (1, 7, 28), 10, seed=0)


def test_the_lenet5_of_1998_has_the_maps_of_its_figure_2():
    """C1 6 x 28 x 28, S2 6 x 14 x 14, C3 16 x 10 x 10, S4 16 x 5 x 5, C5 120, F6 84; images of 28 are padded to 32."""
    for side in (28, 32):
        model = models.build("lenet-5-1998", (1, side, side), 10, seed=0)
        assert model.conv1(torch.randn(1, 1, side, side)).shape == (1, 6, 28, 28)
        assert model.conv2(torch.randn(1, 6, 14, 14)).shape == (1, 16, 10, 10)
        assert [layer.out_features for layer in (model.fc1, model.fc2, model.fc3)] == [120, 84, 10]
        assert model.fc1.in_features == 16 * 5 * 5


def test_lenet5_is_caffes_with_a_relu_after_every_hidden_layer():
    model = models.build("lenet-5", (1, 28, 28), 10, seed=0)
    x = torch.randn(3, 1, 28, 28)
    pool, relu = nn.MaxPool2d(2), nn.ReLU()
    layers = (model.conv1, relu, pool, model.conv2, relu, pool, nn.Flatten(), model.fc1, relu, model.fc2)
    assert torch.equal(model(x), nn.Sequential(*layers)(x))


@pytest.mark.parametrize("name", NAMES)
def test_weights_have_variance_two_over_fan_in_and_biases_are_zero(name):
    model = models.build(name, (1, 28, 28), 10, seed=0)
    for weight in prunable(model):
        expected = math.sqrt(2 / weight[0].numel())
        # The relative error of a sample deviation is 1/sqrt(2n): five of those is a generous margin.
        assert weight.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * weight.numel()))
    assert all((p == 0).all() for n, p in model.named_parameters() if n.endswith("bias"))


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_alone_decides_the_weights(name):
    torch.manual_seed(1)
    first = models.build(name, (1, 8, 8), 10, seed=3)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))  # the caller's random numbers go on as if nothing had happened
    same, other = (models.build(name, (1, 8, 8), 10, seed=seed) for seed in (3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.fc1.weight, other.fc1.weight)


@pytest.mark.parametrize("name", NAMES)
def test_lanes_compute_what_each_network_computes_alone(name):
    lanes = [models.build(name, (1, 8, 8), 10, seed=seed) for seed in range(3)]
    params, buffers = stack_module_state(lanes)
    x, y = torch.randn(5, 1, 8, 8), torch.arange(5)

    def loss(params):
        return nn.functional.cross_entropy(functional_call(lanes[0], (params, buffers), (x,)), y)

    grads = vmap(grad(loss))(params)
    for lane, model in enumerate(lanes):
        nn.functional.cross_entropy(model(x), y).backward()
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(grads[key][lane], parameter.grad, rtol=1e-4, atol=1e-5)


def test_names_are_checked_without_building():
    for name in (*models.MODELS, "some.module:Thing"):
        models.check(name)
    with pytest.raises(
        UsageError,
        match=r"did you mean lenet-5.*lenet-300-100, lenet-5, lenet-5-1998, .*resnet-20, or .*module:callable",
    ):
        models.check("LeNet5")
    for name in ("", ":", "a:", ":b", "a b:c", "a..b:c"):
        with pytest.raises(UsageError, match="There is no model"):
            models.check(name)


def test_describe_lists_every_network():
    vggs = ("vgg-16", "vgg-16-quarter", "vgg-16-512", "vgg-19", "vgg-19-512")
    assert [row["name"] for row in models.describe()] == [*NAMES, *vggs, "resnet-18", "resnet-20"]
    assert all(row["summary"] and row["source"] for row in models.describe())


OWN = """
import torch
from torch import nn

def linear(input_shape, classes):
    features = torch.Size(input_shape).numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(features, classes), nn.BatchNorm1d(classes))

def not_a_module(input_shape, classes):
    return "a string"

def failing(input_shape, classes):
    raise KeyError("no weights here")

def wrong_outputs(input_shape, classes):
    return linear(input_shape, classes + 1)

def wrong_inputs(input_shape, classes):
    return nn.Linear(3, classes)

number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module `own_networks` in the current directory, which is on no import path."""
    (tmp_path / "own_networks.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("import a_package_that_nobody_has")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])
    yield
    sys.modules.pop("own_networks", None)


def test_a_network_of_ones_own(own):
    first, same = (models.build("own_networks:linear", (1, 4, 4), 3, seed=0) for _ in range(2))
    assert torch.equal(first[1].weight, same[1].weight)
    assert first.training
    assert first[2].num_batches_tracked == 0


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("own_absent:x", "cannot be imported.*own_absent"),
        ("own_broken:x", "cannot be imported.*a_package_that_nobody_has"),
        ("own_networks:missing", "has no callable named missing"),
        ("own_networks:number", "has no callable named number"),
        ("own_networks:not_a_module", "must return a torch.nn.Module, not str"),
        ("own_networks:failing", "failed for .*no weights here"),
        ("own_networks:wrong_outputs", r"shape \(4, 3\) in eval mode, not \(4, 4\)"),
        ("own_networks:wrong_inputs", "fails on images"),
    ],
)
def test_what_can_be_wrong_with_a_network_of_ones_own(own, name, complaint):
    with pytest.raises(UsageError, match=complaint) as caught:
        models.build(name, (1, 4, 4), 3, seed=0)
    assert "\n" not in str(caught.value)


def test_a_record_runs_no_code_that_a_person_does_not_name(own):
    models.check_named("lenet-5", None)
    models.check_named("own_absent:x", "own_absent:x")
    with pytest.raises(UsageError, match="add --model own_absent:x"):
        models.check_named("own_absent:x", None)
    with pytest.raises(UsageError, match="of the network lenet-5, not of own_absent:x"):
        models.check_named("lenet-5", "own_absent:x")
    assert "own_absent" not in sys.modules
