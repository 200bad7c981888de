"""Figures of papers: every entry can be planned and drawn, and what it says is done here is committed."""

from dataclasses import replace
from pathlib import Path

import pytest

import dwfbench
from dwfbench.base.errors import UsageError
from dwfbench.cli.methods import methods
from dwfbench.experiments import plan, reproduce
from dwfbench.methods import registry
from dwfbench.runs import spec
from dwfbench.show import figures as drawn

ROOT = Path(__file__).parents[2]
KNOWN = reproduce.figures()


@pytest.mark.parametrize("name", KNOWN)
def test_an_entry_can_be_planned_and_drawn(name):
    figure = KNOWN[name]
    recipe = {key: value for key, value in spec.base_recipe(figure.recipe, None, None).items() if key != "title"}
    asked = {"methods": methods(figure.method)} if figure.method else {}
    requests = plan.requests([recipe], asked)
    budget = figure.described()["budget"]
    assert budget.startswith(f"{figure.epochs or recipe['epochs']} epochs, {figure.seeds} seeds, ")
    assert len({request.method for request in requests}) == len(requests) >= 3
    assert set(figure.draw) <= set(drawn.figures())


@pytest.mark.parametrize("name", [name for name in KNOWN if KNOWN[name].here])
def test_what_is_done_here_is_committed(name):
    figure = KNOWN[name]
    told = figure.described()
    runs = dwfbench.open(ROOT / figure.archive).runs
    there = runs[(runs["dataset"] == told["data"]) & (runs["model"] == told["network"])]
    words = {30: "30 epochs", 6: "six epochs"}
    assert all(words[epochs] in figure.here for epochs in there["epochs"].unique())
    assert there["seed"].nunique() == 3
    assert "three seeds" in figure.here
    asked = {registry.load(method).name for method, _ in methods(figure.method) or []}
    assert asked <= set(there["method"])


def test_what_nobody_measured_is_said_to_be_so():
    told = replace(KNOWN["lenet-5-kmnist"], hours="", hours_gpu="").described()
    assert (told["hours"], told["here"]) == ("CPU: not measured; GPU: not measured", "not done")


def test_its_commands_are_those_that_a_user_would_type():
    figure = replace(KNOWN["dynamics"], seeds=2)
    assert figure.training(Path("r"), ["--jobs", "2"]) == [
        *("run", "--recipe", "lenet-300-100-fashion-mnist", "--method", "dense, dwf[depth=2,3,4]"),
        *("--epochs", "150", "--compression", "10, 100", "--seeds", "2", "--results", "r", "--jobs", "2"),
    ]
    assert figure.reading(Path("r")) == [
        ["compare", "--at", "10, 100", "--results", "r"],
        ["plot", "dynamics", "--results", "r"],
        ["plot", "weights", "--results", "r"],
        ["claims", "--results", "r"],
    ]


def test_where_the_recipe_decides_no_flag_is_given():
    figure = KNOWN["synflow-vgg-16-cifar10"]
    assert figure.training(Path("r")) == ["run", "--recipe", figure.recipe, "--seeds", "3", "--results", "r"]
    assert figure.described()["methods"] == "dense, random, magnitude, snip, grasp, synflow"


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match="did you mean vgg-16-cifar10"):
        reproduce.figure("vgg16-cifar10")


def test_further_flags_go_before_the_figures_own():
    figure = next(figure for figure in KNOWN.values() if figure.strength)
    words = figure.training(Path("results"), ["--strength", "1e-3", "--jobs", "2"])
    assert words.count("--strength") == 1
    assert words[-4:] == ["--strength", "1e-3", "--jobs", "2"]
    assert "--strength" not in figure.training(Path("results"), ["--strength=1e-3"])
    assert figure.strength in figure.training(Path("results"))
