"""``dwfbench reproduce``: it trains, compares, draws and judges by the commands that it shows."""

import re

import pandas as pd
import pytest

from dwfbench.cli.reproduce import decided
from tests.conftest import SMALL

TINY = ("lenet-300-100-mnist", "--dataset", "digits", "--method", "dense,synflow", "--compression", "4", "--seeds", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reproduced") / "results"


@pytest.fixture(scope="module")
def made(call, folder):
    return call("reproduce", *TINY, *SMALL, "--results", folder)


def shown(result):
    return [line.split()[2] for line in result.stderr.splitlines() if line.startswith("$ dwfbench ")]


def test_it_trains_compares_draws_and_judges_and_shows_its_commands(made, folder):
    assert (made.exit_code, shown(made)) == (0, ["run", "compare", "plot", "claims"])
    assert "could be confirmed" in made.stderr, "what is not the paper's is said first"
    assert re.search(r"digits +lenet-300-100 +synflow +2 ", made.stdout), "a row of `compare`"
    assert (folder / "accuracy.png").is_file()
    assert "\nClaims that this decides: none.\nClaims that it does not decide: depth-3-above-2, " in made.stderr


def test_once_more_it_trains_nothing(call, made, folder, snapshot):
    before = snapshot(folder / "runs")
    again = call("reproduce", *TINY, *SMALL, "--results", folder)
    assert (again.exit_code, again.stdout) == (0, made.stdout)
    assert snapshot(folder / "runs") == before


def test_a_dry_run_shows_the_plan_and_what_would_follow(call, tmp_path):
    planned = call("reproduce", *TINY, *SMALL, "--results", tmp_path / "r", "--dry-run")
    assert planned.exit_code == 0
    assert "4 runs to train" in planned.stdout
    assert re.findall(r"^Then: dwfbench (\w+)", planned.stderr, re.M) == ["compare", "plot", "claims"]
    assert not (tmp_path / "r").exists()


def test_nothing_is_compared_after_a_command_that_was_refused(call, tmp_path):
    refused = call("reproduce", *TINY, "--epochs", "3", "--results", tmp_path, "--momentum", "7")
    assert (refused.exit_code, shown(refused)) == (2, ["run"])
    assert "Error: momentum must be" in refused.stderr


def test_a_wrong_value_of_a_flag_of_run_is_told_in_a_sentence(call, tmp_path):
    result = call("reproduce", "lenet-300-100-mnist", "--dry-run", "--jobs", "abc", "--results", tmp_path)
    assert result.exit_code == 2
    assert "\nError: --jobs takes a whole number, not 'abc'.\n" in result.stderr


def test_list_figures_has_every_fact(call):
    listed = call("list", "figures")
    assert listed.exit_code == 0
    head, *facts = listed.stdout.split("\n\n")[1].splitlines()
    assert head.startswith("lenet-300-100-fashion-mnist: LeNet-300-100 on Fashion-MNIST: ")
    assert [line.split()[0] for line in facts if line[2] != " "] == ["source", "methods", "budget", "hours", "here"]
    assert max(map(len, facts)) <= 80
    assert listed.stderr.count("could be confirmed") == listed.stderr.count("--dry-run") == 1


def test_claims_are_named_by_their_verdicts():
    table = pd.DataFrame({"claim": ["a", "b", "a", "c"], "verdict": ["supported", "not run", "supported", "supported"]})
    assert decided(table) == [
        "Claims that this decides: a, c (supported).",
        "Claims that it does not decide: b (not run).",
    ]
