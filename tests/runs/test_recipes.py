"""Recipes: they plan, and they say what their protocols say."""

import functools
import zipfile
from io import BytesIO

import pytest
import torch
from PIL import Image
from torch import nn

from dwfbench import models
from dwfbench.data.dataset import Dataset, Split
from dwfbench.execution.worker import Engine
from dwfbench.experiments import advise, estimate, knobs
from dwfbench.experiments import plan as planning
from dwfbench.runs import spec

EVERY_METHOD = ["dense", "dwf", "spred", "l1", "magnitude", "random", "snip", "grasp", "synflow"]
SHAPES = {"cifar10": ((3, 32, 32), 10, 50_000), "cifar100": ((3, 32, 32), 100, 50_000)}
SHAPES |= {"tiny-imagenet": ((3, 64, 64), 200, 100_000), "digits": ((1, 28, 28), 10, 1437)}
OTHERS = ((1, 28, 28), 10, 60_000)
PAPER = [name for name in spec.recipes() if not name.startswith("synflow-")]
SYNFLOW = [name for name in spec.recipes() if name.startswith("synflow-")]
CPU = Engine(torch.device("cpu"), threads=1, compile=False)


def read(name):
    return spec.base_recipe(name, None, None)


def blank(content):
    """The recipe's data set with one pixel for all: the right shape, number of classes and of samples."""
    shape, classes, samples = SHAPES.get(content["dataset"], OTHERS)
    held_out = round(samples * content.get("val_fraction", spec.RunSpec.val_fraction))
    parts = [torch.arange(count) % classes for count in (samples - held_out, held_out, classes)]
    splits = [Split(torch.zeros(1, dtype=torch.uint8).expand(len(labels), *shape), labels) for labels in parts]
    return Dataset(content["dataset"], *splits, torch.zeros(shape[0]), torch.ones(shape[0]), classes, "0" * 16)


@functools.cache
def thin(model, input_shape, classes, seed, embeddings=False):
    """Every 16th output of every layer: plans look at the size of the weights only."""
    network = full_build(model, input_shape, classes, seed)
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight = nn.Parameter(layer.weight.detach()[::16].clone())
    return network


full_build = models.build


@functools.cache
def plan(name):
    """The curves of a recipe, of all methods and depths where it names no methods, planned on thinned networks."""
    content = {key: value for key, value in read(name).items() if key != "title"}
    flags = {} if "methods" in content else {"methods": EVERY_METHOD, "depth": ["2", "3", "4"]}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(models, "build", thin)
        return [planning.curve(request, blank(content)) for request in planning.requests([content], flags)]


# ---------------------------------------------------------------- all recipes


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_a_recipe_plans_every_method_with_the_same_epochs_and_strengths_from_the_needed_budget_on(name):
    curves = plan(name)
    assert len(curves) == len(EVERY_METHOD) + 2
    assert len({one.epochs for curve in curves for one in curve.specs}) == 1
    factors = [curve for curve in curves if curve.needed is not None]
    assert [curve.method.label() for curve in factors] == ["dwf D=2", "dwf D=3", "dwf D=4", "spred"]
    for curve in factors:
        budgets = [curve.budget(one) for one in curve.specs]
        assert budgets[0] == pytest.approx(curve.needed, rel=0.01)
        assert len(budgets) == knobs.POINTS
        assert budgets[-1] > 1.5 * budgets[0]
        assert advise.budget_note(curve) is None


@pytest.mark.parametrize("name", PAPER)
def test_the_recipe_of_a_model_and_data_set_is_the_one_of_their_names(name):
    content = read(name)
    assert name == f"{content['model']}-{content['dataset']}"
    assert spec.base_recipe(None, content["model"], content["dataset"]) == content


def test_another_protocol_for_the_same_network_is_used_only_when_asked_for():
    assert spec.base_recipe(None, "resnet-18", "cifar10")["title"] == read("resnet-18-cifar10")["title"]
    assert spec.base_recipe(None, "vgg-16", "cifar10")["title"] == read("vgg-16-cifar10")["title"]
    assert spec.base_recipe(None, "vgg-16", "digits") == {}


def test_every_recipe_has_a_title_of_its_own_in_the_list(call):
    shown = call("list", "recipes")
    titles = [read(name)["title"] for name in spec.recipes()]
    assert shown.exit_code == 0
    assert len(set(titles)) == len(titles)
    assert all(title in shown.stdout for title in titles)
    assert shown.stdout.count("(Tanaka et al. 2020)") == len(SYNFLOW)


# ---------------------------------------------------------------- the protocols

VGG, RESNET = [0.3, 0.4, 0.4], [0.2, 0.3, 0.4]
LARGE = {
    "vgg-16-cifar10": VGG,
    "vgg-16-cifar100": VGG,
    "vgg-19-cifar10": VGG,
    "vgg-19-cifar100": VGG,
    "resnet-18-cifar10": RESNET,
    "resnet-18-tiny-imagenet": RESNET,
    "resnet-20-cifar10": RESNET,
}


@pytest.mark.parametrize(("name", "rates"), LARGE.items())
def test_a_cifar_recipe_has_the_learning_rates_of_its_depths_and_of_the_baselines(name, rates):
    dwf = [curve for curve in plan(name) if curve.method.name == "dwf"]
    assert [curve.specs[0].lr for curve in dwf] == rates
    # The strengths are a multiple of the lowest, as the file says.
    spans = [curve.specs[-1].strength / curve.specs[0].strength for curve in dwf]
    assert spans == [pytest.approx(12, rel=0.05), pytest.approx(4, rel=0.05), pytest.approx(4, rel=0.05)]
    plain = [curve for curve in plan(name) if curve.method.decays]
    assert [curve.method.name for curve in plain] == ["dense", "magnitude", "random", "snip", "grasp", "synflow"]
    for curve in plain:
        one = curve.specs[0]
        assert (one.lr, one.weight_decay, one.momentum, one.nesterov) == (0.1, 5e-4, 0.9, False)
        assert (one.batch_size, one.epochs, one.augment, one.drops) == (128, 160, "standard", ())


SYNFLOW_TABLE = {  # epochs, learning rate, drops, weight decay
    "synflow-vgg-16-cifar10": (160, 0.1, (60, 120), 1e-4),
    "synflow-vgg-16-cifar100": (160, 0.1, (60, 120), 1e-4),
    "synflow-resnet-18-cifar10": (160, 0.01, (60, 120), 5e-4),
    "synflow-resnet-18-tiny-imagenet": (100, 0.01, (30, 60, 80), 1e-4),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SYNFLOW)
def test_a_synflow_recipe_is_the_protocol_of_its_repository(name):
    curves = plan(name)
    labels = [curve.method.label() for curve in curves]
    assert labels == ["dense", "random (global)", "magnitude (at init)", "snip", "grasp", "synflow"]
    for curve in curves:
        one = curve.specs[0]
        assert (one.epochs, one.lr, one.drops, one.weight_decay) == SYNFLOW_TABLE[name]
        assert (one.batch_size, one.momentum, one.nesterov) == (128, 0.9, True)
        assert (one.augment, one.val_fraction) == ("standard", 0.0)
        if curve.method.knob:
            assert [run.compression for run in curve.specs] == pytest.approx(
                [10 ** (k / 2) for k in (1, 2, 3, 4, 6)], 2e-3
            )
    by_name = {curve.method.name: curve.method for curve in curves}
    assert by_name["synflow"].rounds == 100
    for scored in (by_name["snip"], by_name["grasp"]):
        assert (scored.samples_per_class, scored.bn_training) == (10, False)


@pytest.fixture
def pictures(tmp_path):
    """A .zip of an image folder: two classes of ten, 8 x 8 pixels."""
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for part, shade, number in ((p, s, n) for p in ("train", "test") for s in (40, 200) for n in range(10)):
            image = BytesIO()
            Image.new("RGB", (8, 8), (shade + number, shade, shade)).save(image, "PNG")
            archive.writestr(f"{part}/{shade}/{number}.png", image.getvalue())
    return path


def test_a_recipe_trains_on_own_images_when_flags_say_so(call, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "measure", lambda *_: estimate.Costs(0, 1, 0, 0))
    words = ("--method", "dense", "--batch-size", "4", "--val-fraction", "0", "--dry-run", "--threads", "1")
    shown = call("run", "--recipe", "resnet-20-cifar10", "--dataset", pictures, "--results", tmp_path / "none", *words)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.splitlines()[1].split()[1:6] == ["dense", "-", "0", "160", "0.1"]
    assert (
        "1 run to train, about 13 minutes on this device as busy as it is now (1000 ms a step and run" in shown.stdout
    )  # 160 x 5 steps
