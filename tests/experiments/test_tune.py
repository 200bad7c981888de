"""Tuning: what a trial is worth, which trials there are, and that the test set plays no part in it."""

import json
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import pytest

from dwfbench.base.errors import UsageError
from dwfbench.base.files import write_json
from dwfbench.cli.tables import study_table
from dwfbench.data import dataset as data
from dwfbench.experiments import plan, tune, tuned
from dwfbench.experiments.search import Rule
from dwfbench.runs.decode import study_of
from dwfbench.runs.record import Origin, Trial
from dwfbench.runs.store import Store
from tests.experiments.test_run import CPU, SHORT, Listener
from tests.fuzz import seeds

BUDGET = tune.Budget(trials=4, rates=(0.02, 0.16), widen=0)


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
    ("points", "target", "expected"),
    [
        ([(4, 0.8), (8, 0.6)], 4, 0.8),
        ([(4, 0.8), (8, 0.6)], 32**0.5, 0.7),  # half way in the logarithm
        ([(8, 0.6), (4, 0.8), (2, 0.9)], 32**0.5, 0.7),
        ([(4, 0.8), (8.2, 0.6)], 5, None),  # too far apart
        ([(4, 0.8), (8, 0.6)], 10, None),  # never beyond
        ([(4, 0.8), (8, 0.6)], 3, None),
        ([(4, 0.7), (4, 0.9), (8, 0.6)], 4, 0.8),  # equal CRs are averaged
        ([(1000 / 63, 0.6)], 16, 0.6),  # 62.5 weights are left of 1000
        ([], 4, None),
    ],
)
def test_the_height_of_a_curve_is_read_between_near_runs_only(points, target, expected):
    assert tune.height(points, target, Rule(2.0, 1000), "strength") == (expected and pytest.approx(expected))


def test_a_dense_network_is_worth_its_accuracy():
    assert tune.height([(1.0, 0.9)], 300, Rule(), None) == 0.9
    assert tune.height([], 300, Rule(), None) is None


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


@pytest.mark.parametrize("ratio", [0, -3, "five"])
def test_ratios_that_no_run_could_have_are_refused_before_a_winner_is_looked_for(ratio):
    (request,) = plan.requests([], SHORT | {"methods": "snip", "compression": [5, ratio]})
    for chosen in (tune.short, tuned.compressions):
        with pytest.raises(UsageError, match="compression must be"):
            chosen(request)
    (request,) = plan.requests([{"compression": ["5", "40"]}], SHORT | {"methods": "snip"})
    assert tuned.compressions(request) == tune.short(request).settings["compression"] == [5, 40]


@pytest.mark.parametrize("terms", [{"trials": 0}, {"rates": (0.1, 0.1)}, {"rates": (0.0, 1.0)}, {"widen": -1}])
def test_budgets_without_sense_are_refused(terms):
    with pytest.raises(UsageError):
        tune.Budget(**terms)


def test_seeds_of_trials_are_none_of_those_reported_by_default():
    def seeds_of(**flags):
        return requests(methods="snip", **flags)[0].settings["seed"]

    assert (seeds_of(), seeds_of(seeds=2), seeds_of(seed=[5, 6])) == ([100], [100, 101], [5, 6])


# ---------------------------------------------------------------- winners, on made-up accuracies


@pytest.fixture
def world(monkeypatch, digits, tmp_path):
    """``tune`` without training: the accuracy of a run by learning rate and CR; None for one that dies."""

    def tuned(accuracy, method="snip", strength=None, **budget):
        records = {}

        def trained(curves, dataset, store, engine, progress, retried):
            grown = []
            for curve in curves:
                specs = curve.specs if strength is None else tuple(
                    spec for seed in curve.seeds for spec in curve.at(strength, seed)
                )  # fmt: skip
                for spec in specs:
                    ratio = spec.compression or 1e4 * spec.strength
                    value = accuracy(spec.lr, ratio)
                    records[spec.id] = SimpleNamespace(
                        id=spec.id, spec=spec, status="ok" if value else "diverged", val_accuracy=value,
                        test_accuracy=None, score=None, chance=0.1, compression=ratio if value else None,
                    )  # fmt: skip
                grown.append(replace(curve, specs=specs))
            return grown, {}

        monkeypatch.setattr(tune.targets, "execute_to_targets", trained)
        monkeypatch.setattr(Store, "read", lambda store, run_id: records.get(run_id))
        (request,) = requests(methods=method)
        terms = {"trials": 4, "rates": (0.02, 0.16), "widen": 3}
        return study(request, digits, tmp_path, tune.Budget(**(terms | budget)))

    return tuned


def rates(found):
    return [trial.values["lr"] for trial in found.trials]


def test_each_target_has_a_winner_of_its_own(world):
    best = {4: 0.04, 16: 0.08}
    found = world(lambda lr, ratio: 0.9 - 0.1 * abs(math.log(lr / best[ratio])))
    assert rates(found) == [0.02, 0.04, 0.08, 0.16]
    assert found.targets == [4, 16]
    assert found.winners == [1, 2]
    assert found.trials[1].scores == pytest.approx([0.9, 0.9 - 0.1 * math.log(2)])
    assert found.trials[1].value == pytest.approx(sum(found.trials[1].scores) / 2)
    assert tune.remarks([found], 4) == [
        "With one seed a rate at the edge of stability may win by luck; --seeds 2 or more tell."
    ]
    assert study_of(msgspec.to_builtins(found)) == found


@pytest.mark.parametrize(
    ("best", "widen", "tried", "edge"),
    [
        ({4: 0.3, 16: 0.08}, 3, [0.02, 0.04, 0.08, 0.16, 0.32, 0.64], None),
        ({4: 0.011, 16: 0.3}, 3, [0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64], None),
        ({4: 5.0, 16: 5.0}, 2, [0.02, 0.04, 0.08, 0.16, 0.32, 0.64], "the largest learning rate, 0.64, won at CR 4;"),
        ({4: 5.0, 16: 5.0}, 0, [0.02, 0.04, 0.08, 0.16], "the largest learning rate, 0.16, won at CR 16;"),
    ],
)
def test_rates_are_added_within_a_limit_until_no_winner_is_at_an_edge(world, best, widen, tried, edge):
    found = world(lambda lr, ratio: 0.9 - 0.1 * abs(math.log(lr / best[ratio])), widen=widen)
    assert rates(found) == tried
    said = [sentence for sentence in tune.remarks([found], 4) if "learning rate" in sentence]
    assert (said == []) if edge is None else any(edge in sentence for sentence in said)


def test_of_trials_that_cannot_be_told_apart_at_a_target_the_one_wins_that_is_nearest_to_the_best_at_all(world, digits):
    """At CR 16 the rate 0.04 is above 0.02 by less than the standard error of about 0.025, and far below it at CR 4."""
    high = {4: {0.02: 0.90, 0.04: 0.70, 0.08: 0.84, 0.16: 0.5}, 16: {0.02: 0.88, 0.04: 0.90, 0.08: 0.85, 0.16: 0.5}}
    assert 0.02 < tune.standard_error(0.9, digits, 1) < 0.03
    assert tune.standard_error(0.9, digits, 4) == pytest.approx(tune.standard_error(0.9, digits, 1) / 2)
    assert world(lambda lr, ratio: high[ratio][lr], widen=0).winners == [0, 0]


def test_how_far_a_trial_is_below_elsewhere_counts_to_a_limit(world):
    """A wreck at CR 4 is no worse than a trial that is clearly below the best there."""
    high = {4: {0.02: 0.1, 0.04: 0.80, 0.08: 0.90, 0.16: 0.5}, 16: {0.02: 0.90, 0.04: 0.89, 0.08: 0.8, 0.16: 0.5}}
    assert world(lambda lr, ratio: high[ratio][lr], widen=0).winners == [2, 0]


def test_a_rate_at_which_runs_diverge_elsewhere_loses_to_a_level_trial(world):
    """At CR 16 the rate 0.04 is above 0.02 by less than the standard error, and at CR 4 its network dies."""
    high = {4: {0.02: 0.9, 0.04: None, 0.08: 0.8, 0.16: 0.5}, 16: {0.02: 0.89, 0.04: 0.9, 0.08: 0.8, 0.16: 0.5}}
    found = world(lambda lr, ratio: high[ratio][lr], widen=0)
    assert found.trials[1].scores == [None, 0.9]
    assert found.winners == [0, 0]


def test_one_image_of_all_is_no_difference(world, digits):
    """All validation images right, and all but one: at CR 4 the rate 0.02 is not above 0.04."""
    one = 1 - 1 / len(digits.val)
    high = {4: {0.02: 1.0, 0.04: one, 0.08: 0.8, 0.16: 0.5}, 16: {0.02: 0.8, 0.04: 0.9, 0.08: 0.8, 0.16: 0.5}}
    assert world(lambda lr, ratio: high[ratio][lr], widen=0).winners == [1, 1]


def test_a_rate_that_is_added_and_no_better_wins_nothing(world):
    found = world(lambda lr, ratio: 0.9 if lr < 0.03 else 0.6)
    assert rates(found) == [0.01, 0.02, 0.04, 0.08, 0.16]
    assert (found.winners, found.best) == ([1, 1], 1)
    assert not any("learning rate, 0.01, won" in sentence for sentence in tune.remarks([found], 4))


def test_scores_that_are_no_accuracies_have_no_such_error():
    scored = SimpleNamespace(task=SimpleNamespace(score=lambda outputs, targets: 0.5), val=range(100))
    assert tune.standard_error(0.9, scored, 1) == 0


def test_rates_at_which_networks_die_end_the_widening(world):
    found = world(lambda lr, ratio: None if lr > 0.2 else lr)
    assert rates(found) == [0.02, 0.04, 0.08, 0.16, 0.32]
    assert found.trials[-1].scores == [None, None]
    assert (found.trials[-1].value, found.trials[-1].bad) == (None, 2)
    assert found.winners == [3, 3]
    assert not any("edge" in sentence and "won at" in sentence for sentence in tune.remarks([found], 4))


def test_a_trial_that_is_not_bracketed_has_no_score_however_high_its_curve(world):
    """Runs at CR 3, 5, 10 and 30: around 4 they are near enough, around 16 they are not."""
    found = world(lambda lr, ratio: 0.99, method="l1", strength=[3e-4, 5e-4, 1e-3, 3e-3])
    assert [trial.scores for trial in found.trials] == [[pytest.approx(0.99), None]] * len(found.trials)
    assert (rates(found)[:2], found.winners) == ([0.01, 0.02], [1, None])
    assert "l1: no trial is bracketed at CR 16, so that no settings won there." in tune.remarks([found], 4)


def test_no_settings_win_where_all_guess_and_none_is_tried_for_it(world):
    found = world(lambda lr, ratio: 0.1 + lr / 1000 if ratio == 16 else 0.9 - abs(math.log(lr / 0.05)))
    assert rates(found) == [0.02, 0.04, 0.08, 0.16]
    assert found.winners == [1, None]
    assert "snip: no trial is better than chance at CR 16, so that no settings won there." in tune.remarks([found], 4)


def test_what_else_is_tunable_takes_rates_and_the_table_says_so(world):
    found = world(lambda lr, ratio: 0.9 - abs(math.log(lr / 0.05)), method="magnitude", widen=0)
    assert sorted(set(rates(found))) == [0.02, 0.16]
    said = tune.remarks([found], 4)[0]
    assert said.startswith(
        "magnitude: 2 learning rates where others have 4, as finetune_lr is tuned by the same trials"
    )
    assert said.endswith("--trials 8 gives it as many.")


def test_the_best_trial_is_so_at_the_targets_that_all_with_as_many_scores_share():
    scores = [[0.98, 0.97, None], [None, 0.975, 0.96], [0.99, None, None]]
    trials = [Trial(values={"lr": 0.1}, scores=listed, value=tune.mean(filter(None, listed))) for listed in scores]
    assert tune.best(trials) == 1
    assert tune.best([trials[0], trials[2]]) == 0
    apart = [
        Trial(values={"lr": 0.1}, scores=listed, value=listed[0] or listed[1]) for listed in ([0.8, None], [None, 0.9])
    ]
    assert tune.best(apart) == 1
    assert tune.best([Trial(values={"lr": 0.1}, scores=[None])] * 2) == 0


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


@pytest.mark.slow
def test_tuning_never_looks_at_the_test_set(folder):
    records = Store(folder).load()
    assert len(records) >= 4 * 2 + 4 * 2
    for record in records:
        assert record.test_accuracy is record.test_loss is record.dense_equivalent_accuracy is None
        assert record.thresholds == []
        assert record.val_accuracy > 0


def test_the_best_trials_win_and_their_runs_are_named(folder, digits):
    (request,) = requests(methods="snip")
    stored = Store(folder).study(tune.study_name(request, digits))
    assert len(stored.trials) == 4
    records = {record.id: record for record in Store(folder).load()}
    for place, winner in enumerate(stored.winners):
        assert stored.trials[winner].scores[place] == max(trial.scores[place] for trial in stored.trials)
    for trial in stored.trials:
        low, high = (records[name] for name in trial.runs)
        assert low.spec.lr == high.spec.lr == trial.values["lr"]
        assert (low.spec.compression, high.spec.compression) == (4, 16)
        assert trial.scores == [low.val_accuracy, high.val_accuracy]


def test_methods_with_a_strength_search_within_their_budget(folder, digits):
    (request,) = requests(methods="l1")
    stored = Store(folder).study(tune.study_name(request, digits))
    assert all(2 <= len(trial.runs) <= 2 * tune.RUNS_PER_TARGET for trial in stored.trials)


def test_with_points_a_trial_has_as_many_strengths_at_once_and_is_another_budget(folder, digits, tmp_path):
    flags = SHORT | {"methods": "l1", "compression": [4, 16], "max_gap": 100.0}
    (request,) = [tune.short(one, points=3) for one in plan.requests([], flags)]
    listener = Listener()
    (stored,) = tune.tune([request], BUDGET, digits, tmp_path, CPU, listener, Origin())
    assert [len(trial.runs) for trial in stored.trials] == [3] * 4
    assert stored.budget["points"] == 3
    assert {record.spec.lr for record in listener.records} == {trial.values["lr"] for trial in stored.trials}
    with pytest.raises(UsageError, match="another budget"):
        study(tune.short(plan.requests([], flags)[0]), digits, tmp_path)


def test_a_study_is_taken_up_where_it_was_left(folder, digits, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (request,) = requests(methods="l1")
    stored = Store(folder).study(tune.study_name(request, digits))
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


def test_a_search_without_runs_is_refused():
    with pytest.raises(UsageError, match="max_runs must be a whole number from 1"):
        requests(methods="l1", max_runs=0)


def test_a_trial_whose_runs_all_died_has_no_score(digits, tmp_path):
    (request,) = requests(methods="dense")
    found = study(request, digits, tmp_path, tune.Budget(trials=2, rates=(0.05, 1e6), widen=0))
    assert [trial.bad for trial in found.trials] == [0, 1]
    assert found.trials[1].value is None
    assert (found.best, found.winners) == (0, [0, 0, 0])


def test_a_trial_that_diverged_is_not_tried_again_and_one_that_failed_is(digits, tmp_path):
    (request,) = requests(methods="dense")
    budget = tune.Budget(trials=2, rates=(0.05, 1e6), widen=0)
    first = study(request, digits, tmp_path, budget)
    (record,) = [record for record in Store(tmp_path).load() if record.status == "diverged"]
    assert tune.tune([request], budget, digits, tmp_path, CPU, (again := Listener()), Origin()) == [first]
    assert again.records == []
    Store(tmp_path).write(msgspec.structs.replace(record, status="failed"), [])
    assert tune.tune([request], budget, digits, tmp_path, CPU, (again := Listener()), Origin()) == [first]
    assert [(run.id, run.status) for run in again.records] == [(record.id, "diverged")]


# ---------------------------------------------------------------- curves with the winners


def stored_study(folder, request, digits, **more):
    """Two trials, the first of which won at CR 4, the second at CR 16, in a file."""
    trials = [
        {"values": {"lr": rate}, "value": 0.8, "scores": scores, "runs": [], "bad": 0}
        for rate, scores in ((0.3, [0.9, 0.7]), (0.1, [0.8, 0.75]))
    ]
    content = seeds.study(trials=trials, targets=[4, 16], winners=[0, 1], best=1) | more
    content["id"] = tune.study_name(request, digits)
    write_json(folder / "studies" / f"{content['id']}.json", content)
    return content["id"]


def asked(**flags):
    (request,) = plan.requests([], SHORT | {"seed": [1]} | flags)
    return request


def settings_of(curves):
    return [(one.lr, one.knob) for curve in curves for one in curve.specs]


def test_each_compression_takes_the_settings_of_the_nearest_target(digits, tmp_path):
    request = asked(methods="snip", compression=[2, 4, 7.9, 8.1, 16, 300])
    name = stored_study(tmp_path, request, digits)
    curves, note = tuned.curves(request, digits, tmp_path)
    assert note is None
    assert settings_of(curves) == [(0.3, 2), (0.3, 4), (0.3, 7.9), (0.1, 8.1), (0.1, 16), (0.1, 300)]
    first, second = (curve.tuned for curve in curves)
    assert (first.study, first.trials, first.objective, first.targets, first.values) == (name, 2, 0.9, [4], {"lr": 0.3})
    assert (second.objective, second.targets) == (0.75, [16])


@pytest.mark.slow
def test_runs_that_were_stored_with_the_settings_that_won_become_the_tuned_curves(run, digits, tmp_path):
    asked = ("--method", "random", "--compression", "4")
    assert run(tmp_path, *asked, "--lr", "0.3", "--seeds", "2").exit_code == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("runs/*/history.csv")}
    (request,) = plan.requests([], {"methods": "random", "epochs": 2, "batch_size": 128})
    name = stored_study(tmp_path / "tuning", request, digits, budget={"seeds": [100]})
    again = run(tmp_path, *asked, "--tuned", "--seeds", "3")
    assert "2 runs were stored with the settings that won; they are of the tuned curve from now on." in again.stderr
    records = Store(tmp_path).load()
    assert {(record.provenance.tuned.study, record.provenance.tuned.targets[0]) for record in records} == {(name, 4.0)}
    assert {path: path.read_bytes() for path in before} == before
    assert "from now on" not in run(tmp_path, *asked, "--tuned", "--seeds", "3").stderr


def test_targets_of_a_method_with_a_strength_are_shared_out_too(digits, tmp_path):
    request = asked(methods="l1", compression=[2, 5, 30], strength_range=[1e-4, 1e-1])
    stored_study(tmp_path, request, digits)
    curves, _ = tuned.curves(request, digits, tmp_path)
    assert [(curve.specs[0].lr, curve.targets) for curve in curves] == [(0.3, (2, 5)), (0.1, (30,))]


def test_a_search_begins_where_the_trial_has_been(digits, tmp_path, monkeypatch):
    """Its runs had CR 4 and 16 at strengths beyond the range that the recipe names."""
    request = asked(methods="l1", compression=[4], strength_range=[1e-4, 1e-3])
    stored_study(tmp_path, request, digits)
    (unhelped,), _ = tuned.curves(request, digits, tmp_path)
    assert unhelped.specs[0].strength < 1e-3
    runs = {name: SimpleNamespace(spec=replace(unhelped.specs[0], strength=strength), compression=ratio)
            for name, strength, ratio in (("a", 1e-2, 4.0), ("b", 2e-2, 16.0), ("c", 1.0, None))}  # fmt: skip
    monkeypatch.setattr(Store, "read", lambda store, name: runs.get(name))
    trial = {"values": {"lr": 0.3}, "value": 0.9, "scores": [0.9], "runs": [*runs, "gone"], "bad": 1}
    stored_study(tmp_path, request, digits, trials=[trial], targets=[4], winners=[0], best=0)
    (helped,), _ = tuned.curves(request, digits, tmp_path)
    strengths = {ratio: strength for strength, ratio in helped.guess}
    assert (strengths[4], strengths[16]) == (pytest.approx(1e-2), pytest.approx(2e-2))
    assert 0.5e-2 < helped.specs[0].strength < 1e-2


def test_a_trial_with_one_network_that_lives_knows_no_curve(digits, tmp_path, monkeypatch):
    request = asked(methods="l1", compression=[8], strength_range=[1e-4, 1e-1], seed=[1, 2])
    unhelped = plan.curve(request, digits)
    run = SimpleNamespace(spec=replace(unhelped.specs[0], strength=1e-3), compression=2.0)
    monkeypatch.setattr(Store, "read", lambda store, name: {"a": run}.get(name))
    trial = {"values": {"lr": 0.3}, "value": 0.9, "scores": [0.9], "runs": ["a", "dead"], "bad": 1}
    stored_study(tmp_path, request, digits, trials=[trial], targets=[8], winners=[0], best=0)
    (curve,), _ = tuned.curves(request, digits, tmp_path)
    assert [(one.seed, one.strength) for one in curve.specs] == [(one.seed, one.strength) for one in unhelped.specs]


def test_every_seed_begins_on_either_side_of_a_target_where_the_trial_knows_the_curve(digits, tmp_path, monkeypatch):
    request = asked(methods="l1", compression=[8], strength_range=[1e-4, 1e-1], seed=[1, 2])
    (unhelped,) = [plan.curve(request, digits)]
    assert {one.seed for one in unhelped.specs} == {1}
    runs = {name: SimpleNamespace(spec=replace(unhelped.specs[0], strength=strength), compression=ratio)
            for name, strength, ratio in (("a", 1e-3, 2.0), ("b", 2e-3, 8.0), ("c", 4e-3, 32.0))}  # fmt: skip
    monkeypatch.setattr(Store, "read", lambda store, name: runs.get(name))
    trial = {"values": {"lr": 0.3}, "value": 0.9, "scores": [0.9], "runs": [*runs], "bad": 0}
    stored_study(tmp_path, request, digits, trials=[trial], targets=[8], winners=[0], best=0)
    (helped,), _ = tuned.curves(request, digits, tmp_path)
    first, second = ([one.strength for one in helped.specs if one.seed == seed] for seed in (1, 2))
    assert first == second
    below, above = first
    assert 1e-3 < below < 2e-3 < above < 4e-3


@pytest.mark.parametrize(
    ("known", "wanted", "expected"),
    [
        ({10: 10, 30: 30}, [10, 17, 30], [10, 17, 30]),
        ({100: 100, 300: 300.1}, [300], [300]),  # the nearest number of weights
        ({10: 20, 40: 80}, [20, 40, 80], [20, 20, 40]),
        ({10: 20, 40: 80}, [5, 100], [5, 100]),  # beyond what is known
        ({2: 216, 10: 29, 30: 63, 100: 429}, [43], [17.4]),  # the one for 2 died for the most part
        ({2: 216, 10: 29, 30: 20, 100: 429}, [100], [56.4]),
        ({}, [7], [7]),
    ],
)
def test_a_pruner_is_asked_for_what_came_to_the_compression_that_is_wanted(known, wanted, expected):
    assert tuned.asked(wanted, known) == pytest.approx(expected, rel=0.01)


def test_what_is_asked_for_instead_of_what_is_wanted_is_said(digits, tmp_path, monkeypatch):
    request = asked(methods="snip", compression=[20])
    base = replace(plan.curve(request, digits).specs[0], lr=0.3)
    runs = {name: SimpleNamespace(spec=replace(base, compression=value), compression=ratio)
            for name, value, ratio in (("a", 4.0, 8.0), ("b", 16.0, 50.0))}  # fmt: skip
    monkeypatch.setattr(Store, "read", lambda store, name: runs.get(name))
    trial = {"values": {"lr": 0.3}, "value": 0.9, "scores": [0.9], "runs": [*runs], "bad": 0}
    stored_study(tmp_path, request, digits, trials=[trial], targets=[16], winners=[0], best=0)
    (curve,), _ = tuned.curves(request, digits, tmp_path)
    (spec,) = curve.specs
    assert 4 < spec.compression < 16
    assert curve.note.startswith(
        f"snip: asked for {spec.compression:g} for CR 20, as its trial's networks ended sparser"
    )


def test_a_target_without_a_winner_leaves_its_compressions_to_the_next(digits, tmp_path):
    request = asked(methods="snip", compression=[4, 16])
    stored_study(tmp_path, request, digits, winners=[None, 1])
    curves, note = tuned.curves(request, digits, tmp_path)
    assert settings_of(curves) == [(0.1, 4), (0.1, 16)]
    assert note.startswith("snip has no winner at CR 4 in the tuning in ")
    assert note.endswith("; the settings of the nearest target with a winner are taken.")


@pytest.mark.parametrize(
    "flags", [{"methods": "l1", "strength": [1e-3]}, {"methods": "dense"}], ids=["listed strengths", "no knob"]
)
def test_where_compression_is_not_known_before_the_best_trial_as_a_whole_is_taken(digits, tmp_path, flags):
    request = asked(**flags)
    stored_study(tmp_path, request, digits)
    curves, _ = tuned.curves(request, digits, tmp_path)
    assert [one.lr for curve in curves for one in curve.specs] == [0.1]


def test_studies_of_earlier_versions_are_listed_by_their_value(digits):
    trials = [{"values": {"lr": rate}, "value": rate, "runs": [], "bad": 0} for rate in (0.3, 0.5)]
    old = study_of(seeds.study(trials=trials, targets=[], winners=[], best=1))
    head, *lines = study_table([old]).splitlines()
    assert head.split() == ["method", "trial", "value", "runs", "bad"]
    assert [line.split("lr=")[1].split()[:2] for line in lines] == [["0.3", "30.00"], ["0.5", "50.00"]]
    assert "*" in lines[1]


def test_studies_of_earlier_versions_have_one_winner(digits, tmp_path):
    request = asked(methods="snip", compression=[4, 16])
    trials = [{"values": {"lr": rate}, "value": rate, "runs": [], "bad": 0} for rate in (0.3, 0.5)]
    stored_study(tmp_path, request, digits, trials=trials, targets=[], winners=[])
    curves, _ = tuned.curves(request, digits, tmp_path)
    assert settings_of(curves) == [(0.5, 4), (0.5, 16)]
    assert (curves[0].tuned.objective, curves[0].tuned.targets) == (0.5, [])


def test_what_was_not_tuned_takes_its_recipe_and_is_named(digits, tmp_path):
    request = asked(methods="snip", compression=[4], lr=0.25)
    curves, note = tuned.curves(request, digits, tmp_path)
    assert settings_of(curves) == [(0.25, 4)]
    assert curves[0].tuned is None
    assert note.startswith("snip has no tuning with these settings in ")
    assert note.endswith("it takes the learning rate of its recipe or of --config, 0.25.")
    stored_study(tmp_path, request, digits, winners=[None, None])
    curves, note = tuned.curves(request, digits, tmp_path)
    assert settings_of(curves) == [(0.25, 4)]
    assert "snip has no winner in the tuning" in note


def test_a_study_that_cannot_be_read_is_not_taken_for_none(digits, tmp_path):
    request = asked(methods="snip", compression=[4])
    stored_study(tmp_path, request, digits)
    (path,) = (tmp_path / "studies").glob("*.json")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UsageError, match=rf"{path.name} is not a readable study .* `dwfbench tune` makes it again"):
        tuned.curves(request, digits, tmp_path)


def test_seeds_that_chose_are_not_reported(digits, tmp_path):
    request = asked(methods="snip", compression=[4], seed=[3, 0])
    stored_study(tmp_path, request, digits)  # its seed is 0
    with pytest.raises(UsageError, match="were chosen by seed 0, so that it cannot be reported"):
        tuned.curves(request, digits, tmp_path)


# ---------------------------------------------------------------- the command line


def test_run_takes_the_winners_and_names_what_was_not_tuned(call, tmp_path):
    words = ("--epochs", "2", "--batch-size", "128", "--compile", "off", "--threads", "1", "--results", tmp_path)
    limits = ("--trials", "2", "--widen", "0", "--compression", "4,16")
    told = call("tune", "--method", "snip", *words, *limits)
    assert told.exit_code == 0, told.stderr
    table, caption = told.stdout.split("\n\n")
    assert table.splitlines()[0].split() == ["method", "trial", "CR", "4", "CR", "16", "runs", "bad"]
    assert table.count("*") == 2
    assert "*: won there" in caption
    assert call("list", "studies", "--results", tmp_path).stdout == f"{table}\n"
    (study_listed,) = json.loads(call("list", "studies", "--results", tmp_path, "--format", "json").stdout)
    assert study_listed["label"] == "snip"
    assert call("list", "studies", "--results", tmp_path / "tuning").exit_code == 3
    assert "With one seed" in told.stderr
    done = call("run", "--method", "snip,dense", *words, "--tuned", "--compression", "4,8")
    assert done.exit_code == 0, done.stderr
    assert "dense has no tuning with these settings" in done.stderr
    assert "snip has no tuning" not in done.stderr
    for record in Store(tmp_path).load():
        source = record.provenance.tuned
        if record.spec.method == "dense":
            assert source is None
            continue
        stored = json.loads((tmp_path / "tuning" / "studies" / f"{source.study}.json").read_text())
        winner = stored["trials"][stored["winners"][0 if record.spec.compression == 4 else 1]]
        near = stored["trials"][stored["winners"][0]]
        assert record.spec.lr in (winner["values"]["lr"], near["values"]["lr"])  # CR 8 is half way from 4 to 16
        assert source.targets in ([4], [16], [4, 16])
        assert stored["budget"]["seeds"] == [100]
        assert math.isfinite(record.test_accuracy)
    assert "snip" in call("compare", "--results", tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tune", "--lr", "0.1"), "--lr-range"),
        (("run", "--tuned", "--lr", "0.1"), "either --lr or --tuned"),
        (("tune", "--trials", "0"), "--trials"),
        (("tune", "--lr-range", "0.3,0.1"), "--lr-range"),
        (("tune", "--lr-range", "0.3"), "--lr-range"),
        (("tune", "--widen", "21"), "--widen must be from 0 to 20"),
        (("tune", "--max-gap", "0.5"), "max_gap must be a factor above 1"),
    ],
)
def test_usage_errors(call, tmp_path, words, said):
    result = call(*words, "--results", tmp_path, "--threads", "1")
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_tuning_is_deterministic_over_processes(digits, tmp_path):
    (request,) = requests(methods="snip")
    one = study(request, digits, tmp_path / "one")
    (two,) = tune.tune(
        [request], BUDGET, digits, tmp_path / "two", replace(CPU, threads=2, jobs=2), Listener(), Origin()
    )
    assert one.trials == two.trials
