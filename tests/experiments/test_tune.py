"""Tuning: what a trial is worth, which trials there are, and that the test set plays no part in it."""

import json
import math
import shutil
from dataclasses import replace

import msgspec
import pytest

from dwfbench.base.errors import UsageError
from dwfbench.data import dataset as data
from dwfbench.experiments import plan, tune
from dwfbench.runs.record import Origin, study_of
from dwfbench.runs.store import Store
from tests.experiments.test_run import CPU, SHORT, Listener
from tests.fuzz import seeds

BUDGET = tune.Budget(trials=4, rates=(0.02, 0.16), span=(4.0, 16.0))
CHANCE = 0.1


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def requests(**flags):
    targets = {} if flags["methods"] == "dense" else {"compression": [4, 16]}
    return [tune.short(one) for one in plan.requests([], SHORT | targets | flags)]


def study(request, dataset, folder, budget=BUDGET, **more):
    (found,) = tune.tune([request], budget, dataset, folder, CPU, Listener(), Origin(), **more)
    return found


# ---------------------------------------------------------------- what a trial is worth


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(4, 0.8), (16, 0.6)], 0.7),  # a straight line in log CR
        ([(1, 0.8), (16, 0.4)], 0.5),  # from CR 4 on, half way in the logarithm: 0.6 to 0.4
        ([(8, 0.8), (16, 0.6)], 0.75),  # CR 8 is compressed more than asked below it: 0.8 there, then 0.7
        ([(4, 0.8), (8, 0.8)], 0.45),  # nothing beyond CR 8: chance on half of the range
        ([(2, 0.9)], CHANCE),
        ([(64, 0.5)], 0.5),
        ([(4, 0.7), (4, 0.9), (16, 0.6)], 0.7),  # equal CRs are averaged
        ([(15.999, 0.6), (4, 0.8)], 0.7),  # met to a weight or two
        ([], CHANCE),
    ],
)
def test_the_height_of_a_curve(points, expected):
    assert tune.height(points, (4, 16), CHANCE) == pytest.approx(expected, abs=1e-4)


def test_a_dense_network_is_worth_its_accuracy():
    assert tune.height([(1.0, 0.9)], (4, 16), CHANCE, knob=None) == 0.9


# ---------------------------------------------------------------- trials


def test_every_method_has_the_same_number_of_trials_and_learning_rates_are_even():
    (dwf,), (magnitude,) = requests(methods="dwf"), requests(methods="magnitude")
    assert tune.grid(dwf, BUDGET) == [{"lr": rate} for rate in (0.02, 0.04, 0.08, 0.16)]
    assert [tuple(cell.values()) for cell in tune.grid(magnitude, BUDGET)] == [
        (0.02, 0.3), (0.02, 1.0), (0.16, 0.3), (0.16, 1.0),
    ]  # fmt: skip
    odd = tune.Budget(trials=3, rates=(0.02, 0.16))
    cells = tune.grid(magnitude, odd)
    assert len({tuple(cell.values()) for cell in cells}) == 3
    assert cells == tune.grid(magnitude, odd)


def test_one_shot_pruning_has_no_fine_tuning_to_tune():
    for flags in ({"finetune_epochs": "0"}, {"at": "init"}):
        (one,) = requests(methods="magnitude", **flags)
        assert tune.grid(one, BUDGET) == [{"lr": rate} for rate in (0.02, 0.04, 0.08, 0.16)]


def test_a_study_is_named_by_what_it_does_not_choose(digits):
    def name(**flags):
        (one,) = plan.requests([], SHORT | {"methods": "magnitude"} | flags)
        return tune.study_name(one, digits)

    assert name() == name(lr=0.3) == name(seed=4) == name(compression=7) == name(finetune_lr="0.3")
    assert len({name(), name(epochs=3), name(finetune_epochs="1"), name(methods="snip")}) == 4


@pytest.mark.parametrize("terms", [{"trials": 0}, {"rates": (0.1, 0.1)}, {"rates": (0.0, 1.0)}, {"span": (10.0, 5.0)}])
def test_budgets_without_sense_are_refused(terms):
    with pytest.raises(UsageError):
        tune.Budget(**terms)


# ---------------------------------------------------------------- studies


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits):
    """Studies of two methods on data whose test set would raise an error if it were looked at."""
    place = tmp_path_factory.mktemp("tuned")
    blind = replace(digits, test=None)
    for method in ("snip", "l1"):
        (request,) = requests(methods=method)
        study(request, blind, place)
    return place


def test_tuning_never_looks_at_the_test_set(folder):
    records = Store(folder).load()
    assert len(records) >= 4 * 2 + 4 * 2
    for record in records:
        assert record.test_accuracy is record.test_loss is record.dense_equivalent_accuracy is None
        assert record.thresholds == []
        assert record.val_accuracy > 0


def test_the_best_trial_wins_and_its_runs_are_named(folder, digits):
    (request,) = requests(methods="snip")
    stored = tune.read(folder, tune.study_name(request, digits))
    assert len(stored.trials) == 4
    values = [trial.value for trial in stored.trials]
    assert values[stored.best] == max(values)
    records = {record.id: record for record in Store(folder).load()}
    for trial in stored.trials:
        low, high = (records[name] for name in trial.runs)
        assert low.spec.lr == high.spec.lr == trial.values["lr"]
        assert trial.value == pytest.approx((low.val_accuracy + high.val_accuracy) / 2, rel=1e-3)


def test_methods_with_a_strength_search_within_their_budget(folder, digits):
    (request,) = requests(methods="l1")
    stored = tune.read(folder, tune.study_name(request, digits))
    assert all(4 <= len(trial.runs) <= tune.MAX_RUNS for trial in stored.trials)


def test_a_study_is_taken_up_where_it_was_left(folder, digits, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (request,) = requests(methods="l1")
    stored = tune.read(folder, tune.study_name(request, digits))
    lost = [trial.runs[-1] for trial in stored.trials]
    for name in lost:
        shutil.rmtree(tmp_path / "copy" / "runs" / name)
    listener = Listener()
    (again,) = tune.tune([request], BUDGET, digits, tmp_path / "copy", CPU, listener, {})
    assert again.trials == stored.trials
    assert sorted(record.id for record in listener.records) == sorted(lost)


def test_a_study_of_another_budget_is_not_overwritten(folder, digits, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (request,) = requests(methods="snip")
    other = replace(BUDGET, trials=2)
    with pytest.raises(UsageError, match="another budget"):
        study(request, digits, tmp_path / "copy", other)
    assert len(study(request, digits, tmp_path / "copy", other, force=True).trials) == 2


def test_without_a_validation_part_nothing_can_be_tuned(digits, tmp_path):
    (request,) = requests(methods="snip", val_fraction=0.0)
    with pytest.raises(UsageError, match="validation part"):
        study(request, data.load("digits", val_fraction=0.0), tmp_path)


def test_a_trial_whose_runs_all_died_is_worth_chance(digits, tmp_path):
    (request,) = requests(methods="dense")
    found = study(request, digits, tmp_path, tune.Budget(trials=2, rates=(0.05, 1e6)))
    assert [trial.bad for trial in found.trials] == [0, 1]
    assert found.trials[1].value == pytest.approx(0.1)
    assert found.best == 0
    assert tune.at_edge(found) == "smallest"


@pytest.mark.parametrize(("best", "edge"), [(0, "smallest"), (1, None), (2, "largest")])
def test_a_winner_at_the_end_of_the_range_is_told(best, edge):
    trials = [{"values": {"lr": rate}} for rate in (0.1, 0.2, 0.3)]
    assert tune.at_edge(study_of(seeds.study(trials=trials, best=best))) == edge
    assert tune.at_edge(study_of(seeds.study(trials=trials[:1], best=0))) is None


# ---------------------------------------------------------------- the command line


def test_run_takes_the_winner_and_says_so(call, tmp_path):
    words = ("--method", "snip,dense", "--epochs", "2", "--batch-size", "128", "--compile", "off", "--threads", "1")
    told = call("tune", *words, "--trials", "2", "--compression", "4,16", "--results", tmp_path, "--seed", "5")
    assert told.exit_code == 0, told.stderr
    assert told.stdout.count("*") == 3  # two winners and the caption
    done = call("run", *words, "--tuned", "--compression", "8", "--results", tmp_path)
    assert done.exit_code == 0, done.stderr
    for record in Store(tmp_path).load():
        source = record.provenance.tuned
        stored = json.loads((tmp_path / "tuning" / "studies" / f"{source.study}.json").read_text())
        best = stored["trials"][stored["best"]]
        told = {"study": stored["id"], "trials": 2, "objective": best["value"], "values": best["values"]}
        assert msgspec.to_builtins(source) == told
        assert record.spec.lr == best["values"]["lr"]
        assert record.label == stored["label"]
        assert math.isfinite(record.test_accuracy)
    assert "snip" in call("compare", "--results", tmp_path).stdout
    other = call("run", *words, "--tuned", "--nesterov", "--results", tmp_path)
    assert (other.exit_code, "no readable tuning of snip" in other.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tune", "--lr", "0.1"), "--lr-range"),
        (("run", "--tuned", "--lr", "0.1"), "either --lr or --tuned"),
        (("tune", "--trials", "0"), "--trials"),
        (("tune", "--lr-range", "0.3,0.1"), "--lr-range"),
        (("tune", "--lr-range", "0.3"), "--lr-range"),
        (("tune", "--area", "30"), "--area"),
    ],
)
def test_usage_errors(call, tmp_path, words, said):
    result = call(*words, "--results", tmp_path, "--threads", "1")
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_tuning_is_deterministic_over_processes(digits, tmp_path):
    (request,) = requests(methods="snip")
    one = study(request, digits, tmp_path / "one")
    (two,) = tune.tune(
        [request], BUDGET, digits, tmp_path / "two", replace(CPU, threads=2, jobs=2), Listener(), Origin()
    )
    assert one.trials == two.trials
