"""Recipes: they plan, they say what their protocols say; and the estimate of a dry run, which is made of plans."""

import functools
import zipfile
from dataclasses import replace
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
from dwfbench.experiments import run as runner
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
        return planning.plan([content], flags, blank(content))


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
    monkeypatch.setattr(estimate, "seconds_per_step", lambda curve, dataset, lanes: 1.0)
    words = ("--method", "dense", "--batch-size", "4", "--val-fraction", "0", "--dry-run", "--threads", "1")
    shown = call("run", "--recipe", "resnet-20-cifar10", "--dataset", pictures, "--results", tmp_path / "none", *words)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.splitlines()[1].split()[1:6] == ["dense", "-", "0", "160", "0.1"]
    assert "1 run to train, about 13 minutes on this device (1 s a step and run" in shown.stdout  # 160 x 5 steps


# ---------------------------------------------------------------- the estimate of a dry run


@pytest.fixture
def parts(digits):
    """What is left of curves, given flags; without ``done`` of the first curve's runs."""

    def parts(engine, done=0, **flags):
        curves = planning.plan([], {"epochs": 30, "batch_size": 100, **flags}, digits)  # 12 steps an epoch
        runs = [list(curve.specs) for curve in curves]
        runs[0] = runs[0][done:]
        return [estimate.Part(c, r, runner.divide(c, r, digits, engine)) for c, r in zip(curves, runs, strict=True)]

    return parts


@pytest.mark.parametrize(
    ("flags", "epochs"),
    [
        ({"methods": "dense", "seeds": 3}, 3 * 30),
        ({"methods": ["snip", "dense"], "compression": [2, 4]}, 3 * 30),
        ({"methods": "magnitude", "compression": [2, 4, 8], "seeds": 2}, 2 * 20 + 6 * 10),  # 20 epochs are shared
        ({"methods": "magnitude", "compression": [2, 4, 8], "finetune_epochs": "0"}, 30),
        ({"methods": "snip", "compression": [2, 4, 8], "done": 2}, 30),
    ],
)
def test_hours_are_the_steps_left_times_the_seconds_of_one(parts, digits, flags, epochs):
    left = parts(CPU, **flags)
    seconds = [0.5] * len(left)
    assert estimate.hours(left, seconds, digits, 1) == pytest.approx(0.5 * 12 * epochs / 3600)


def test_jobs_divide_the_hours_as_far_as_there_are_tasks(parts, digits):
    left = parts(replace(CPU, lanes=1), methods="snip", compression=[2, 4, 8])
    assert [estimate.hours(left, [60.0], digits, jobs) for jobs in (1, 2, 8)] == pytest.approx([18, 9, 6])


def test_curves_with_the_same_step_are_measured_once(parts, digits, monkeypatch):
    seen = []
    monkeypatch.setattr(estimate, "seconds_per_step", lambda curve, *_: seen.append(curve.method.name) or len(seen))
    left = parts(CPU, methods=["dense", "snip", "dwf", "magnitude"], compression=2, strength=0.01, depth=["2", "3"])
    assert estimate.step_times(left, digits) == [1, 1, 2, 3, 1]
    assert seen == ["dense", "dwf", "dwf"]


def test_scores_play_no_part_in_a_measurement(parts, digits, monkeypatch):
    (left,) = parts(CPU, methods="synflow", compression=2)
    monkeypatch.setattr(type(left.curve.method), "masks", lambda *_: pytest.fail("scored"))
    assert estimate.seconds_per_step(left.curve, digits) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags", [{"lr": 1e6}, {"epochs": 1}, {"batch_size": 1200}, {"methods": "l1", "proximal": "true"}]
)
def test_a_measurement_bears_rates_that_diverge_and_single_epochs_and_steps(parts, digits, flags):
    (left,) = parts(CPU, **{"methods": "dwf", "strength": [0.001, 0.01], **flags})
    assert 0 < estimate.seconds_per_step(left.curve, digits, 2) < 60


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        (0.001, "less than a minute"),
        (0.2, "about 12 minutes"),
        (3.44, "about 3.4 hours"),
        (1390.4, "about 1,390 hours"),
    ],
)
def test_a_duration_is_said_in_its_unit(hours, said):
    assert estimate.duration(hours) == said


def test_a_dry_run_ends_with_the_estimate_and_trains_and_stores_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "execute", lambda *_: pytest.fail("trained"))
    shown = run(tmp_path / "none", "--method", "snip", "--compression", "2,4", "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    last = shown.stdout.splitlines()[-1]
    assert last.startswith("2 runs to train, less than a minute on this device (")
    assert "eager steps" in last
    assert "compiling" not in last  # --compile off
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_where_compiling_will_help(call, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "seconds_per_step", lambda curve, dataset, lanes: 0.1)
    words = ("--method", "dense", "--epochs", "9", "--batch-size", "1000", "--threads", "1", "--results", tmp_path)
    assert "compiling makes them faster" in call("run", *words, "--compile", "on", "--dry-run").stdout


def test_a_dry_run_with_nothing_left_says_so_and_measures_nothing(run, trained, monkeypatch):
    monkeypatch.setattr(estimate, "seconds_per_step", lambda *_: pytest.fail("measured"))
    shown = run(trained[0], "--method", "dense", "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.splitlines()[-1] == "Nothing is left to train."
