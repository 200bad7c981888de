"""Which curves are meant where settings are bound to a method by brackets."""

import math
import re

import pytest

from dwfbench.base.errors import UsageError
from dwfbench.cli import options
from dwfbench.cli.methods import methods
from dwfbench.cli.options import leftover
from dwfbench.data import dataset as data
from dwfbench.experiments import plan
from dwfbench.methods import registry
from dwfbench.runs import spec

SHORT = {"epochs": 2, "strength": [1e-4, 1e-3]}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def requests(text, flags="", layers=(), **shared):
    return plan.requests(list(layers), {**shared, "methods": methods(text), **leftover(flags.split())})


def chosen(text, flags="", layers=(), **shared):
    """Label and learning rate of every curve."""
    return [(one.method.label(), one.settings.get("lr")) for one in requests(text, flags, layers, **shared)]


@pytest.mark.parametrize(
    ("bound", "free", "flags"),
    [
        ("dwf[depth=2,3]", "dwf", "--depth 2,3"),
        ("dwf[depth=2,3],l1[proximal=true]", "dwf,l1", "--depth 2,3 --proximal"),
        ("dwf[depth=2],dwf[depth=3],dwf[depth=2]", "dwf", "--depth 2,3"),
        ("random[distribution=erk,compression=2,5]", "random[compression=2,5]", "--distribution erk"),
    ],
)
def test_bound_options_are_the_runs_and_labels_of_free_flags(digits, bound, free, flags):
    shared = {"epochs": 2} if "random" in bound else SHORT
    ours, theirs = requests(bound, **shared), requests(free, flags, **shared)
    assert [one.method.label() for one in ours] == [one.method.label() for one in theirs]
    ids = [[[run.id for run in plan.curve(one, digits).specs] for one in each] for each in (ours, theirs)]
    assert ids[0] == ids[1]
    assert all(ids[0])


def test_brackets_are_of_their_own_entry():
    assert chosen("dwf[depth=2,lr=0.1],dwf[depth=4],l1[lr=0.3]", lr=0.5) == [
        ("dwf D=2", 0.1),
        ("dwf D=4", 0.5),
        ("l1", 0.3),
    ]
    assert chosen("random[distribution=erk],synflow") == [("random (erk)", None), ("synflow", None)]


def test_brackets_win_over_flags_and_these_over_the_file():
    layer = {"lr": 0.9, "method": {"dwf": {"depth": 5, "lr": 0.8, "when": [{"depth": 2, "lr": 0.7}]}}}
    assert chosen("dwf", layers=[layer]) == [("dwf D=5", 0.8)]
    assert chosen("dwf[depth=2]", layers=[layer]) == [("dwf D=2", 0.7)]
    assert chosen("dwf[depth=2]", "--depth 3", [layer], lr=0.6) == [("dwf D=2", 0.6)]
    assert chosen("dwf[depth=2,lr=0.5]", "--depth 3", [layer], lr=0.6) == [("dwf D=2", 0.5)]


def test_the_same_method_with_two_rates_is_two_curves(digits):
    curves = [plan.curve(one, digits) for one in requests("l1[lr=0.1],l1[lr=0.2],l1[lr=0.1]", **SHORT)]
    assert [{run.lr for run in curve.specs} for curve in curves] == [{0.1}, {0.2}]


def test_a_bound_knob_displaces_what_is_said_for_all(digits):
    bound = requests("dwf[strength=0.01,seeds=2],l1", epochs=2, compression=[5, 10])
    first, second = (plan.curve(one, digits) for one in bound)
    assert ([(run.strength, run.seed) for run in first.specs], first.targets) == ([(0.01, 0), (0.01, 1)], ())
    assert second.targets == (5, 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dwf[depht=2]", "--method dwf[...]: unknown key 'depht'; did you mean depth?"),
        ("l1[depth=2],dwf", "--method l1[...]: unknown key 'depth'"),
        ("dwf[lrr=2]", "did you mean lr?"),
        ("dwf[depth=two]", "depth must be a whole number"),
        ("dwf[model=lenet-5]", "model is the same for all methods; give --model, not --method dwf[model=...]."),
        ("dwf[val-fraction=0.2]", "give --val-fraction"),
        ("snip[strength=1]", "--strength is not the knob of snip"),
        ("dwf[seeds=2],dwf[seeds=3]", "dwf D=3 is asked for twice"),
        ("dwff[depth=2]", "did you mean dwf?"),
    ],
)
def test_what_a_method_cannot_be_bound_to_is_refused(text, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        requests(text)


def test_a_rule_of_several_values_is_for_each_of_them():
    when = {"depth": [2, 3], "distribution": "erk"}
    assert [plan.matches(when, registry.create("dwf", {"depth": depth})) for depth in (2, 3, 4)] == [True, True, False]
    assert not plan.matches(when, registry.create("random", {"distribution": "uniform"}))


@pytest.mark.parametrize(("depth", "counts"), [("2", True), (2, True), (["3", 2], True), (3, False), ([[2]], None)])
def test_a_rules_values_are_read_as_the_options_are(digits, depth, counts):
    layer = {"method": {"dwf": {"when": [{"depth": depth, "lr": 0.7}]}}}
    if counts is None:
        with pytest.raises(UsageError, match="depth must be a whole number"):
            requests("dwf[depth=2]", layers=[layer])
    else:
        assert chosen("dwf[depth=2]", layers=[layer]) == [("dwf D=2", 0.7 if counts else None)]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"strength": [math.nan]}, "not nan"),
        ({"strength": math.nan}, "not nan"),
        ({"compression": math.nan}, r"above 1 for dwf D=3, not \[nan\]"),
        ({"compression": [math.nan]}, r"above 1 for dwf D=3, not \[nan\]"),
        ({"strength_range": [1e-4, math.inf]}, "two positive numbers"),
        ({"strength_range": [True, 5]}, "two positive numbers"),
    ],
)
def test_what_is_no_number_in_a_config_is_named(digits, setting, said):
    with pytest.raises(UsageError, match=said):
        [plan.curve(one, digits) for one in requests("dwf", layers=[{"epochs": 2, **setting}])]


# ---------------------------------------------------------------- none


UNSAID = {name: default for name, (_, default) in options.flags().items()}


def none_in(config, name):
    """What a config file says, and then a flag and brackets, that take a setting back."""
    config.write_text(f'{name.replace("_", "-")} = "none"')
    yield [spec.read_toml(config)], {"methods": "l1"}
    yield [], options.spoken({**UNSAID, "method": "l1", name: "none"}, [])
    if name not in spec.DATA_KEYS:
        yield [], options.spoken({**UNSAID, "method": f"l1[{name}=none]"}, [])


@pytest.mark.parametrize(("name", "value"), [("lr_drops", "1"), ("image_size", 4), ("init", "trained.pt")])
def test_none_takes_back_what_a_recipe_says(tmp_path, name, value):
    recipe = {"epochs": 2, name: value}
    for layers, flags in none_in(tmp_path / "config.toml", name):
        (request,) = plan.requests([recipe, *layers], flags)
        assert getattr(plan.bare_spec(request.method, request.settings), name) is None


def test_the_images_are_cut_as_the_record_says(tmp_path, monkeypatch):
    recipe, config = tmp_path / "recipe.toml", tmp_path / "config.toml"
    recipe.write_text("image-size = 4")
    config.write_text('image-size = "none"')
    monkeypatch.setattr(spec, "recipes", lambda: {"lenet-300-100-digits": recipe})
    for given, side in (({}, 4), ({"config": config}, None), ({"image_size": "none"}, None), ({"image_size": "5"}, 5)):
        work = options.read({**UNSAID, "device": "cpu", "threads": 1, **given}, [])
        assert work.dataset.input_shape == (1, side or 8, side or 8)
        assert plan.bare_spec(work.requests[0].method, work.requests[0].settings).image_size == side


def test_a_method_with_what_it_has_by_default_is_one_curve():
    assert chosen("l1[lr=0.1,lr_drops=none],l1") == [("l1", 0.1)]
