"""Curves with targets: where their ranges of strengths lie, how they grow, and what is said of targets not reached."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from dwfbench.base.errors import UsageError
from dwfbench.experiments import targets, tune
from dwfbench.runs.store import Store
from tests.experiments.test_run import CPU, SHORT, Listener, knobs, plan
from tests.words import once


def ends(curve):
    """The strengths guessed for CR 2 and CR 300."""
    strengths = {ratio: strength for strength, ratio in curve.guess}
    return strengths[2], strengths[300]


def test_a_method_with_a_strength_takes_compressions_as_targets(digits):
    settings = {"strength_range": [1e-4, 1e-1], "compression": [2, 10], "max_runs": 9, "max_gap": 1.5, "seeds": 2}
    (curve,) = plan(digits, methods="l1", **settings)
    assert (curve.targets, curve.max_runs, curve.rule.gap, curve.seeds) == ((2, 10), 9, 1.5, (0, 1))
    assert ends(curve) == pytest.approx((1e-4, 1e-1))
    ratios = [ratio for _, ratio in curve.guess]
    assert ratios == sorted(ratios)
    assert (ratios[0], ratios[-1]) == (1.3, 1000)
    (first,) = curve.specs  # of the first seed alone
    assert (first.seed, 1e-4 < first.strength < 1e-1) == (0, True)
    (pruner,) = plan(digits, methods="snip", compression=[2, 10])
    assert (pruner.targets, knobs(pruner)) == ((), [2, 10])


def test_listed_strengths_and_targets_displace_each_other(digits):
    layer = {"compression": [5], "method": {"l1": {"strength": [1e-3, 1e-2]}}}
    (listed,) = plan(digits, layer, methods="l1")  # the method's own table wins
    assert (listed.targets, knobs(listed)) == ((), [1e-3, 1e-2])
    (asked,) = plan(digits, layer, methods="l1", compression=[7])
    assert asked.targets == (7,)
    (given,) = plan(digits, layer, methods="l1", strength=0.5)
    assert (given.targets, knobs(given)) == ((), [0.5])


def test_a_highest_strength_below_the_lowest_useful_one_does_not_stop_a_search(digits):
    with pytest.raises(UsageError, match="strength_max"):
        plan(digits, methods="dwf", lr=1e-3, strength_max=1e-3, **SHORT)
    (curve,) = plan(digits, methods="dwf", lr=1e-3, strength_max=1e-3, compression=[5], **SHORT)
    low, high = ends(curve)
    assert low * curve.reach == pytest.approx(curve.needed)
    assert high == 2 * low


@pytest.mark.parametrize(
    ("flags", "factor"),
    [
        ({}, 1.0),
        ({"epochs": 20}, 2.0),
        ({"lr": 0.4}, 0.25),
        ({"epochs": 80, "lr": 0.05}, 1.0),
        ({"momentum": 0.8}, 2.0),
        ({"batch_size": 64}, 0.5),
    ],
)
@pytest.mark.parametrize(
    ("table", "name"), [({"strength_max": 0.2}, "dwf"), ({"strength_range": [1e-4, 0.2]}, "spred")]
)
def test_the_range_of_strengths_follows_the_decay_budget_of_a_recipe(digits, flags, factor, table, name):
    """Beside one percent: a cosine ends with a step above zero, and 1618 images are 12 batches of 128 or 25 of 64."""
    recipe = {"epochs": 40, "lr": 0.1, "batch_size": 128, "method": {name: table}}
    (curve,) = plan(digits, recipe, methods=name, points=3, **flags)
    assert knobs(curve)[-1] == pytest.approx(0.2 * factor, rel=0.05)
    assert (curve.note is None) == (factor == 1)
    if factor != 1:
        assert "is meant for 40 epochs at a rate of 0.1" in curve.note
    (searched,) = plan(digits, recipe, methods=name, compression=[5], **flags)
    assert ends(searched)[1] == pytest.approx(0.2 * factor, rel=0.05)


def test_the_range_of_a_method_without_decay_stays_what_it_is(digits):
    recipe = {"epochs": 40, "lr": 0.1, "method": {"l1": {"strength_range": [1e-5, 1e-3]}}}
    (curve,) = plan(digits, recipe, methods="l1", epochs=20, points=2)
    assert (knobs(curve), curve.note) == ([1e-5, 1e-3], None)


def test_a_range_that_is_given_with_the_budget_is_taken_as_it_is(digits):
    recipe = {"epochs": 40, "lr": 0.1, "method": {"spred": {"strength_range": [1e-5, 1e-3]}}}
    (given,) = plan(digits, recipe, methods="spred", epochs=20, strength_range=[1e-4, 1e-2], points=2)
    assert (knobs(given), given.note) == ([1e-4, 1e-2], None)
    (bound,) = plan(digits, recipe, methods=[("spred", {"strength_range": [1e-4, 1e-2], "points": 2})], epochs=20)
    assert (knobs(bound), bound.note) == ([1e-4, 1e-2], None)
    (file,) = plan(
        digits, recipe, {"epochs": 20, "method": {"spred": {"strength_range": [1e-4, 1e-2]}}}, methods="spred", points=2
    )
    assert (knobs(file), file.note) == ([1e-4, 1e-2], None)
    (listed,) = plan(digits, recipe, methods="spred", epochs=20, strength=[0.5])
    assert (knobs(listed), listed.note) == ([0.5], None)


@pytest.mark.parametrize("targets", [[1], [0.5, 3], ["a"]])
def test_targets_without_sense_are_refused(digits, targets):
    with pytest.raises(UsageError, match="above 1"):
        plan(digits, methods="dwf", compression=targets, **SHORT)


@pytest.mark.slow
def test_a_curve_grows_until_its_targets_are_reached_and_again_after_an_interruption(digits, tmp_path):
    flags = {"strength_range": [3e-4, 1e-2], "seeds": 2, "lr": 0.1, "epochs": 6, "batch_size": 32}
    curves = plan(digits, methods="l1", proximal="true", compression=[8], **flags)
    listener, store = Listener(), Store(tmp_path)
    (grown,), outcome = targets.execute_to_targets(curves, digits, store, CPU, listener)
    assert targets.missed(grown, store) == []
    for seed in (0, 1):
        ratios = sorted(store.read(one.id).compression for one in grown.specs if one.seed == seed)
        assert max(r for r in ratios if r <= 8) * 2 >= min(r for r in ratios if r >= 8)
    first, second = ([one.strength for one in grown.specs if one.seed == seed] for seed in (0, 1))
    assert len(first) <= 6
    assert len(second) <= 3, "it begins at the strengths that the first seed needed"
    assert len(set(second) & set(first)) >= 2
    assert len(outcome) == len(grown.specs)
    assert any("towards its targets" in note for note in listener.notes)
    shutil.rmtree(tmp_path / "runs" / grown.specs[-1].id)
    again = Listener()
    (same,), outcome = targets.execute_to_targets(curves, digits, store, CPU, again)
    assert same.specs == grown.specs
    assert list(outcome) == [grown.specs[-1].id]


def searched(digits, **more):
    """A curve with targets, of which nothing is trained."""
    settings = {"methods": "l1", "strength_range": [1e-4, 1e-2], "compression": [5, 50], "seeds": 2, **SHORT}
    return plan(digits, **(settings | more))[0]


class Ledger:
    """A store of made-up runs: status and compression by (seed, strength)."""

    def __init__(self, runs):
        self.runs = runs

    def read(self, run_id):
        return self.runs.get(run_id)


def with_runs(curve, runs, accuracy=0.9):
    """The curve with these runs, and a store of them; a compression of None is a network that died."""
    specs = {key: curve.at([key[1]], key[0])[0] for key in runs}
    records = {}
    for key, ratio in runs.items():
        status = "failed" if ratio == "failed" else "diverged" if ratio is None else "ok"
        records[specs[key].id] = SimpleNamespace(
            id=specs[key].id,
            spec=specs[key],
            status=status,
            compression=ratio if status == "ok" else None,
            score=None,
            chance=0.1,
            val_accuracy=accuracy if status == "ok" else None,
            test_accuracy=None,
        )
    return replace(curve, specs=tuple(specs.values())), Ledger(records)


def test_other_seeds_take_the_strengths_that_the_first_one_needed(digits):
    curve = searched(digits)
    first = {1e-4: 1.0, 4e-4: 4.0, 6e-4: 7.0, 1e-3: 40.0, 1.2e-3: 70.0, 1e-2: 900.0}
    grown, store = with_runs(curve, {(0, strength): ratio for strength, ratio in first.items()})
    assert [(one.seed, one.strength) for one in targets.further(grown, store)] == [
        (1, 4e-4), (1, 6e-4), (1, 1e-3), (1, 1.2e-3),
    ]  # fmt: skip
    second = {4e-4: 4.4, 6e-4: 7.5, 1e-3: 30.0, 1.2e-3: 64.0}
    grown, store = with_runs(curve, {(s, k): r for s, runs in ((0, first), (1, second)) for k, r in runs.items()})
    (refined,) = targets.further(grown, store)  # 64 / 30 is more than 2
    assert refined.seed == 1
    assert 1e-3 < refined.strength < 1.2e-3


def pruner(digits, targets):
    """SNIP asked for these ratios, which it is to come to, as in a trial."""
    return replace(plan(digits, methods="snip", compression=targets, **SHORT)[0], targets=tuple(targets))


@pytest.mark.parametrize(
    ("ended", "between"),
    [
        ({2: 2.0, 10: 10.0, 30: 30.0}, []),  # as asked: nothing more
        ({2: 2.0, 10: 10.0, 30: 70.0}, [(10, 30)]),
        ({2: 2.0, 10: 17.0, 30: 32.0}, [(2, 10)]),
        ({2: 2.0, 10: 15.0, 30: 200.0}, [(2, 10), (10, 30)]),
        ({2: 3.0, 10: 10.0, 30: 30.0}, [(1, 2)]),
        ({2: None, 10: 10.0, 30: None}, [(2, 10), (10, 30)]),  # these diverged
    ],
)
def test_a_pruner_whose_networks_end_sparser_is_asked_for_less(digits, ended, between):
    grown, store = with_runs(pruner(digits, [2, 10, 30]), {(0, asked): ratio for asked, ratio in ended.items()})
    added = targets.further(grown, store)
    assert [spec.strength for spec in added] == [None] * len(between)
    assert all(low < spec.compression < high for spec, (low, high) in zip(added, between, strict=True))


def test_a_pruner_is_never_asked_for_one_or_less(digits):
    """All that is left of a mask for CR 2 has CR 50: what would come to 2 lies below 1."""
    grown, store = with_runs(pruner(digits, [2]), {(0, 2): 50.0})
    assert targets.further(grown, store) == ()


def test_a_pruner_of_which_no_network_lives_is_asked_for_nothing_more(digits):
    grown, store = with_runs(pruner(digits, [2, 10]), {(0, 2): None, (0, 10): None})
    assert targets.further(grown, store) == ()


def test_settings_at_which_no_network_learns_are_not_searched_further(digits):
    """As depth 2 of DWF at twice the best learning rate: dead at CR 1.6, too, so that no other strength lives."""
    curve = searched(digits, seeds=1)
    dead = {(0, 1e-4): 1.6, (0, 1e-3): 61470.0}
    assert targets.further(*with_runs(curve, dead)) != ()  # as long as they are better than chance
    assert targets.further(*with_runs(curve, dead, accuracy=0.1)) == ()
    assert targets.missed(*with_runs(curve, dead, accuracy=0.1)) == [
        "l1: CR 5, 50 are not reached by seed 0: CR 1.6 (strength 0.0001) below and CR 61470 (strength 0.001) above; "
        "all are no better than chance, also where hardly compressed, a lower learning rate may do."
    ]
    for few in ({(0, 1e-4): 1.6}, {(0, 1e-4): 60.0, (0, 1e-3): 61470.0}, {(0, 1e-4): 1.6, (0, 1e-3): "failed"}):
        grown, store = with_runs(curve, few, accuracy=0.1)
        assert not targets.is_lifeless(targets.records_of(grown, store)[0], 5), few


@pytest.mark.parametrize(("accuracy", "bad"), [(0.9, 1), (0.1, 2)])
def test_a_trial_counts_runs_that_are_dead_though_hardly_compressed(digits, accuracy, bad):
    """One that is dead far beyond the targets says nothing of the trial's settings; one that diverged does."""
    curve, store = with_runs(searched(digits), {(0, 1e-4): 1.6, (0, 1e-3): 61470.0, (0, 2e-3): None}, accuracy)
    assert tune.trial({"lr": 0.64}, curve, [5, 50], store).bad == bad


@pytest.mark.parametrize(
    ("runs", "more", "said"),
    [
        (
            {(0, 1e-4): 2.0, (0, 1e-3): 90.0},
            {"seeds": 1, "max_runs": 2},
            [
                "l1: CR 5, 50 are not reached by seed 0: CR 2 (strength 0.0001) below and CR 90 (strength 0.001) "
                "above; all 2 strengths of --max-runs are spent, give more."
            ],
        ),
        (
            {(0, 4e-4): 4.0, (0, 6e-4): 7.0, (0, 1e-3): 30.0, (0, 1.02e-3): None, (1, 4e-4): 4.0, (1, 6e-4): 7.0},
            {},
            [
                "l1: CR 50 is not reached by seed 0: CR 30 (strength 0.001) below and no run above; stronger runs "
                "diverge, a lower learning rate may go on.",
                "l1: CR 50 is not reached by seed 1: CR 7 (strength 0.0006) below and no run above; the curve levels "
                "off, other settings may go on.",
            ],
        ),
        (
            {(seed, strength): ratio for seed in (0, 1) for strength, ratio in ((4e-4, 4.0), (6e-4, 7.0))},
            {},
            [
                "l1: CR 50 is not reached by seeds 0, 1: CR 7 (strength 0.0006) below and no run above; the curve "
                "levels off, other settings may go on."
            ],
        ),
        (
            {(0, 4e-4): None, (0, 4.4e-4): None, (0, 6e-4): 7.0, (0, 1e-3): 12.0, (0, 2e-3): 40.0, (0, 3e-3): 70.0},
            {"seeds": 1},
            [
                "l1: CR 5 is not reached by seed 0: no run below and CR 7 (strength 0.0006) above; weaker runs "
                "diverge, a lower learning rate may go on."
            ],
        ),
        (
            {(0, 4e-4): "failed"},
            {},
            [
                "l1: CR 5, 50 are not reached by seed 0: no run below and no run above; runs failed, train them again.",
                "l1: CR 5, 50 are not reached by seed 1: no run below and no run above; the first seed found no "
                "strengths for it.",
            ],
        ),
        (
            {(0, 4e-4): 4.0, (0, 6e-4): 7.0, (0, 1e-3): 30.0, (0, 1.005e-3): 80.0},
            {"seeds": 1},
            [
                "l1: CR 50 is not reached by seed 0: CR 30 (strength 0.001) below and CR 80 (strength 0.001005) above; "
                "the curve jumps there, a larger --max-gap accepts that."
            ],
        ),
        ({(0, 4e-4): 4.0, (0, 6e-4): 7.0, (0, 1e-3): 30.0, (0, 1.005e-3): 80.0}, {"seeds": 1, "max_gap": 3.0}, []),
        (
            {(0, 4e-4): 4.0, (0, 6e-4): 7.0, (0, 1e-3): "failed"},
            {"seeds": 1},
            [
                "l1: CR 50 is not reached by seed 0: CR 7 (strength 0.0006) below and no run above; runs failed, train "
                "them again."
            ],
        ),
        (
            {(0, 4e-4): 4.0, (0, 6e-4): 7.0, (0, 1e-3): 7.1, (0, 1e-2): 7.1},
            {"seeds": 1},
            [
                "l1: CR 50 is not reached by seed 0: CR 7.1 (strength 0.01) below and no run above; the curve levels "
                "off, other settings may go on."
            ],
        ),
    ],
)
def test_what_is_said_of_targets_that_are_not_reached(digits, runs, more, said):
    assert targets.missed(*with_runs(searched(digits, **more), runs)) == said


# ---------------------------------------------------------------- the command line

WORDS = ("--method", "l1", "--proximal", "--strength-range", "3e-4,1e-2", "--epochs", "6", "--batch-size", "32")
ALONE = ("--compile", "off", "--threads", "1", "--device", "cpu")


@pytest.mark.slow
def test_targets_that_are_not_reached_are_said_and_fail(call, tmp_path):
    done = call("run", *WORDS, *ALONE, "--compression", "5,50", "--max-runs", "2", "--results", tmp_path)
    assert done.exit_code == 1
    (said,) = (line for line in done.stderr.splitlines() if "not reached" in line)
    assert said.startswith("l1 (proximal): CR 5, 50 are not reached by seed 0: ")
    assert "all 2 strengths of --max-runs are spent" in said
    again = call("run", *WORDS, *ALONE, "--compression", "5,50", "--results", tmp_path)  # goes on from there
    assert again.exit_code == 0, again.stderr
    assert "two runs lie around each of its targets" in again.stderr
    assert len(list((tmp_path / "runs").iterdir())) <= 9


def test_a_search_is_planned_from_where_it_is(digits, monkeypatch):
    """A dry run of what was interrupted."""
    monkeypatch.setattr(targets, "pending", lambda curve, store, *_, **__: [
        spec for spec in curve.specs if store.read(spec.id) is None
    ])  # fmt: skip
    curve, store = with_runs(searched(digits, seeds=1), {(0, 4e-4): 4.0})
    grown = targets.resumed(curve, store, digits)
    assert grown.specs == (*curve.specs, *targets.further(curve, store))
    assert len(grown.specs) > 1
    reached, store = with_runs(curve, {(0, 4e-4): 4.0, (0, 6e-4): 7.0, (0, 1e-3): 40.0, (0, 1.2e-3): 70.0})
    assert targets.resumed(reached, store, digits) == reached


def test_a_dry_run_tells_a_search(call, tmp_path):
    shown = call("run", *WORDS, *ALONE, "--compression", "5,50", "--dry-run", "--results", tmp_path)
    assert shown.exit_code == 0
    assert "l1 (proximal) is searched: up to 16 strengths of each seed follow." in shown.stdout


def test_the_range_of_a_recipe_is_scaled_in_a_line(call, tmp_path):
    shown = call("run", *ALONE, "--epochs", "60", "--points", "2", "--dry-run", "--results", tmp_path)
    lines = [line for line in shown.stderr.splitlines() if "is meant for" in line]
    assert lines == [
        "dwf D=3: the range of strengths is meant for 400 epochs at a rate of 0.05; it is multiplied by 6.66 here, "
        "which keeps its decay budgets."
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--max-gap", "1"), "max_gap must be a factor above 1"),
        (("--max-gap", "inf"), "max_gap must be a factor above 1"),
        (("--max-runs", "0"), "max_runs must be a whole number from 1"),
        (("--compression", "1"), "Target compression ratios must be above 1"),
        (("--points", "4"), "Give either --points (how many) or --compression (which ones)"),
        (("--strength", "1e-3"), "--strength lists the runs, which --compression would choose"),
    ],
)
def test_searches_without_sense_are_refused(call, tmp_path, words, said):
    done = call("run", *once("--compression", "5", *words), *ALONE, "--results", tmp_path)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
