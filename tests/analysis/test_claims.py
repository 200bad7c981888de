"""Verdicts on made-up records whose answers are known, and the error rate and power of the test."""

import math

import numpy as np
import pytest

from dwfbench.analysis import claims
from dwfbench.analysis.claims import CONTRADICTED, NOT_RUN, SUPPORTED, UNDECIDED, decide, judge, shipped
from dwfbench.analysis.resultset import ResultSet
from dwfbench.runs.claims import Claim
from dwfbench.runs.resultsets import told_apart
from tests.analysis.test_curves import curve, dense, record
from tests.records import changed

T3 = 4.302653  # of 2 degrees of freedom

# --- the test


@pytest.mark.parametrize(
    ("effects", "expected", "smallest", "verdict", "needed"),
    [
        ([1, 2, 3], "above", 0.5, UNDECIDED, 4),  # 2 ± 2.48; of 4 seeds it would be ± 1.59
        ([1.9, 2, 2.1], "above", 0.5, SUPPORTED, None),
        ([0.2, 0.21, 0.22], "above", 0.5, CONTRADICTED, None),  # there, but too small to matter
        ([-2.1, -2, -1.9], "above", 0.5, CONTRADICTED, None),
        ([0.4, 0.5, 0.6], "above", 0.5, SUPPORTED, None),  # 0.5 ± 0.25
        ([0.39, 0.49, 0.59], "above", 0.5, UNDECIDED, 387),  # 0.1 t / sqrt(n) < 0.01: (10 * 1.966)^2 is 386.6
        ([0.395, 0.495, 0.595], "above", 0.5, UNDECIDED, None),  # 1544 seeds
        ([0.1, 0, -0.1], "equal", 0.5, SUPPORTED, None),
        ([0.5, 0, -0.5], "equal", 0.5, UNDECIDED, 7),  # 0.5 t / sqrt(n) <= 0.5 from 7 on: t is 2.45, sqrt(7) 2.65
        ([2, 2.1, 1.9], "equal", 0.5, CONTRADICTED, None),
        ([-2, -2.1, -1.9], "equal", 0.5, CONTRADICTED, None),
        ([-3, -3.1, -2.9], "at most", 0.5, SUPPORTED, None),
        ([2, 2.1, 1.9], "at most", 0.5, CONTRADICTED, None),
        ([1], "above", 0.5, UNDECIDED, None),
        ([], "above", 0.5, NOT_RUN, None),
        ([math.nan, math.nan], "above", 0.5, NOT_RUN, None),
        ([math.nan, 1.9, 2, 2.1], "above", 0.5, SUPPORTED, None),
    ],
)
def test_the_verdict_by_hand(effects, expected, smallest, verdict, needed):
    found, mean, half, more = judge(effects, expected, smallest)
    assert (found, more) == (verdict, needed)
    known = [effect for effect in effects if not math.isnan(effect)]
    if len(known) == 3:
        assert mean == pytest.approx(np.mean(known))
        assert half == pytest.approx(T3 * np.std(known, ddof=1) / math.sqrt(3), rel=1e-6)


def test_the_seeds_that_would_decide_decide():
    """Effects of the same mean and spread: of one seed less they do not."""
    _, mean, _, needed = judge([1.0, 2.0, 3.0, 4.0, -0.5], "above", 0.5)
    deviation = np.std([1, 2, 3, 4, -0.5], ddof=1)
    for n, verdict in ((needed, SUPPORTED), (needed - 1, UNDECIDED)):
        values = np.resize([1.0, -1.0], n - n % 2).tolist() + [0.0] * (n % 2)
        values = mean + deviation * np.array(values) / np.std(values, ddof=1)
        assert judge(values, "above", 0.5)[0] == verdict


@pytest.mark.parametrize(
    ("side", "meant"),
    [
        ({"method": "magnitude"}, True),
        ({"method": "magnitude", "finetune_epochs": "none"}, True),
        ({"method": "magnitude", "finetune_epochs": 0}, False),
        ({"method": "magnitude", "augment": "none"}, True),
        ({"method": "magnitude", "depth": "none"}, False),  # not an option of the method
        ({"method": "random", "finetune_epochs": "none"}, False),
    ],
)
def test_a_curve_is_meant_by_the_values_of_its_settings(side, meant):
    settings = {"method": "magnitude", "finetune_epochs": None, "augment": "none"}
    assert claims._is_meant(settings, side) is meant


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize(
    ("expected", "truth"), [("above", 0.0), ("above", -0.3), ("equal", 0.5), ("equal", -0.5), ("at most", 0.5)]
)
def test_under_no_effect_at_most_one_in_twenty_claims_is_supported(expected, truth, n):
    draws = np.random.default_rng(7).normal(truth, 0.4, (4000, n))
    supported = np.mean([judge(effects, expected, 0.5)[0] == SUPPORTED for effects in draws])
    assert supported <= 0.05  # by theory 0.025 or less; three standard errors of it are 0.007


@pytest.mark.parametrize(
    ("expected", "truth", "spread", "least"),
    [("above", 2, 0.4, 0.95), ("equal", 0, 0.1, 0.9), ("at most", -1, 0.3, 0.9)],
)
def test_a_plain_effect_is_seen_with_three_seeds(expected, truth, spread, least):
    draws = np.random.default_rng(8).normal(truth, spread, (300, 3))
    assert np.mean([judge(effects, expected, 0.5)[0] == SUPPORTED for effects in draws]) >= least


def test_a_false_claim_is_contradicted_and_seldom_a_true_one():
    draws = np.random.default_rng(9)
    false = [judge(effects, "above", 0.5)[0] for effects in draws.normal(-2, 0.4, (300, 3))]
    true = [judge(effects, "above", 0.5)[0] for effects in draws.normal(0.5, 0.4, (1000, 3))]
    assert np.mean(np.array(false) == CONTRADICTED) > 0.95
    assert np.mean(np.array(true) == CONTRADICTED) < 0.05


def test_no_effect_is_both_supported_and_contradicted():
    means, halves = np.meshgrid(np.linspace(-2, 2, 81), np.linspace(0, 2, 41))
    for expected in ("above", "equal", "at most"):
        assert set(np.unique(decide(means, halves, expected, 0.5))) == {SUPPORTED, CONTRADICTED, UNDECIDED}
    assert decide(np.array(3.0), np.array(np.nan), "above", 0.5) == UNDECIDED


# --- rows


def claim(**fields):
    named = {"name": "c", "sentence": "A is above B.", "source": "us", "expected": "above", "smallest": 0.5}
    sides = {"first": {"method": "a"}, "second": {"method": "b"}, "quantity": "accuracy", "at": [4]}
    return Claim(**(named | sides | fields))


def ratio(**fields):
    return claim(**({"at": [], "smallest": 2} | fields))


def runs_of(method, seed, points, **options):
    return curve(points, label=method, method=method, seed=seed, **options)


def verdict(runs, *asked):
    results = ResultSet(runs)
    return claims.verdicts(results.records, results.runs, asked or [claim()])


def test_accuracy_at_ratios_is_compared_by_seed():
    runs = [dense(99)]
    for seed, above in enumerate((1.9, 2.0, 2.1)):
        runs += runs_of("a", seed, [(4, 90 + seed + above), (8, 80)]) + runs_of("b", seed, [(4, 90 + seed), (8, 80)])
    row = verdict(runs).iloc[0]
    assert (row.verdict, row.dataset, row.model, row.epochs, row["first"], row.second, row.n) == (
        *(SUPPORTED, "mnist", "lenet", 60, "a", "b", 3),
    )
    half = T3 * 0.1 / math.sqrt(3)
    assert (row.effect, row.low, row.high) == (pytest.approx(2), pytest.approx(2 - half), pytest.approx(2 + half))
    assert set(row.ids) == {run.id for run in runs if run.compression == 4}
    assert (row.reason, row.measure, row.unit) == ("", "accuracy at CR 4", "points")
    both = verdict(runs, claim(at=[4, 8])).iloc[0]
    assert both.effect == pytest.approx(1)  # the mean of 2 and 0


def test_a_hole_leaves_a_seed_out_and_is_named():
    runs = []
    for seed in range(3):
        runs += runs_of("a", seed, [(3 if seed else 4, 92 + seed / 10), (40, 80)])
        runs += runs_of("b", seed, [(4, 90)])
    row = verdict(runs).iloc[0]
    assert (row.verdict, row.n, row.reason) == (UNDECIDED, 1, "no run of a between CR 3 and 40 (seeds 1, 2)")
    row = verdict(runs, claim(at=[50, 2])).iloc[0]
    assert (row.verdict, row.n) == (NOT_RUN, 0)
    assert row.reason.startswith("no run of a above CR 40 (seeds 0, 1, 2); no run of a below CR 4 (seed 0); ")
    assert row.ids == []


def test_the_ratio_of_compressions_at_equal_tolerance():
    runs = [dense(98)]
    for seed, factor in enumerate((3, 4, 5)):
        runs += runs_of("a", seed, [(10 * factor, 98), (15 * factor, 93), (20 * factor, 80)])
        runs += runs_of("b", seed, [(10, 98), (15, 93), (20, 80)])
    row = verdict(runs, ratio(quantity="compression", tolerance=5)).iloc[0]
    logs = np.log([3, 4, 5])
    half = T3 * logs.std(ddof=1) / math.sqrt(3)
    assert (row.verdict, row.unit, row.n) == (SUPPORTED, "times", 3)
    expected = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    np.testing.assert_allclose([row.effect, row.low, row.high], expected, rtol=1e-6)


def test_a_bound_and_a_hole_give_no_ratio():
    runs = [dense(98), *runs_of("a", 0, [(10, 98), (20, 97)]), *runs_of("b", 0, [(10, 98), (40, 80)])]
    row = verdict(runs, ratio(quantity="compression", tolerance=5)).iloc[0]
    assert row.verdict == NOT_RUN
    assert row.reason == "a never leaves the tolerance (seed 0); no run of b between CR 10 and 40 (seed 0)"


def test_equal_strengths_are_compared():
    runs = []
    for seed in range(3):
        for strength, above in ((1e-4, 0.1), (2e-4, 0.3), (5e-4, 9)):
            own = {"knob": "strength", "strength": strength, "seed": seed}
            runs.append(record(4, 90 + above + seed / 100, label="a", method="a", **own))
            if above < 1:
                runs.append(record(8, 90, label="b", method="b", **own))
    asked = claim(quantity="accuracy at strength", at=[], expected="equal")
    row = verdict(runs, asked).iloc[0]
    assert (row.verdict, row.n, row.effect) == (SUPPORTED, 3, pytest.approx(0.21))  # of 0.2, 0.21 and 0.22
    twice = [changed(run, id=f"{run.id}, of another target") for run in runs if run.spec.strength == 1e-4]
    assert verdict(runs + twice, asked).iloc[0].effect == pytest.approx(0.21), "a strength counts once"
    alone = [run for run in runs if run.label == "a" or run.spec.strength == 1e-4]
    assert verdict(alone, asked).iloc[0].effect == pytest.approx(0.11)
    apart = [run for run in runs if (run.label == "a") == (run.spec.strength == 5e-4)]
    assert verdict(apart, asked).iloc[0].reason == "no strength that both a and b have (seeds 0, 1, 2)"


def strong(seed, points):
    """Runs of a and b at equal strength, by strength their accuracies."""
    return [
        record(4, accuracy, label=label, method=label, knob="strength", strength=strength, seed=seed, compression=None)
        for strength, accuracies in points.items()
        for label, accuracy in zip("ab", accuracies, strict=True)
    ]


def test_equal_strengths_are_those_of_all_seeds_at_which_both_networks_have_learned():
    asked = claim(quantity="accuracy at strength", at=[], expected="equal")
    runs = [run for seed in range(3) for run in strong(seed, {1e-3: (88 + seed / 10, 86.5)})]
    guessing = [run for seed in range(3) for run in strong(seed, dict.fromkeys((0.1, 0.2, 0.4), (10, 10)))]
    for listed in (runs, runs + guessing):
        row = verdict(listed, asked).iloc[0]
        assert (row.verdict, row.effect, row.measure) == (
            *(CONTRADICTED, pytest.approx(1.6)),
            "accuracy at equal strength 0.001",
        )
    row = verdict(runs + strong(0, {1e-5: (90, 90)}), asked).iloc[0]
    assert (row.verdict, row.effect) == (CONTRADICTED, pytest.approx(1.6)), "a strength of one seed says nothing of all"
    apart = [*strong(0, {1e-3: (88, 87)}), *strong(1, {1e-4: (88, 87)})]
    row = verdict(apart, asked).iloc[0]
    assert (row.verdict, row.reason) == (NOT_RUN, "no strength that all seeds of both a and b have (seeds 0, 1)")
    many = [run for seed in range(3) for run in strong(seed, dict.fromkeys((1e-4, 2e-4, 4e-4, 8e-4), (88 + seed, 88)))]
    assert verdict(many, asked).iloc[0].measure == "accuracy at equal strength (4 from 0.0001 to 0.0008)"


def test_seeds_of_which_no_run_ended_well_are_named():
    runs = [run for seed in range(5) for run in runs_of("b", seed, [(4, 90)])]
    runs += [run for seed in range(3) for run in runs_of("a", seed, [(4, 92 + seed / 10)])]
    runs += [run for seed in (2, 3, 4) for run in runs_of("a", seed, [(8, None)], status="diverged")]
    row = verdict(runs).iloc[0]
    assert (row.verdict, row.n, row.reason) == (SUPPORTED, 3, "no run of a ended well (seeds 3, 4)")


def test_a_curve_that_is_in_one_set_alone_is_compared_within_each():
    ours = [run for seed in range(3) for run in runs_of("a", seed, [(4, 91 + seed / 10)])]
    theirs = [run for seed in range(3) for run in runs_of("a", seed, [(4, 92 + seed / 10)])]
    runs = [told_apart(run, name) for name, listed in (("ours", ours), ("theirs", theirs)) for run in listed]
    runs += [run for seed in range(3) for run in runs_of("b", seed, [(4, 90)])]
    found = verdict(runs)
    assert list(zip(found["first"], found.second, found.effect, strict=True)) == [
        ("a (set=ours)", "b", pytest.approx(1.1)),
        ("a (set=theirs)", "b", pytest.approx(2.1)),
    ]


def test_two_seeds_that_agree_to_the_last_digit_decide_nothing():
    runs = [run for seed in range(2) for run in runs_of("a", seed, [(4, 92)]) + runs_of("b", seed, [(4, 90)])]
    row = verdict(runs).iloc[0]
    assert (row.verdict, row.effect, row.reason) == (
        *(UNDECIDED, pytest.approx(2)),
        "two seeds that agree to the last digit say nothing of the spread",
    )


def test_seconds_are_compared_on_one_machine_only():
    def timed(method, seed, seconds, device):
        made = {"device_name": device, "threads": 1, "lanes": 1, "compiled": True}
        return changed(record(4, 90, label=method, method=method, seed=seed), seconds=seconds, provenance=made)

    runs = [timed("a", seed, 11 + seed / 10, "x") for seed in range(3)] + [
        timed("b", seed, 10.0, "x") for seed in range(3)
    ]
    asked = ratio(quantity="seconds", expected="at most", smallest=1.25)
    row = verdict(runs, asked).iloc[0]
    assert (row.verdict, row.effect) == (SUPPORTED, pytest.approx((1.1 * 1.11 * 1.12) ** (1 / 3)))
    slow = [changed(run, seconds=run.seconds * (2 if run.label == "a" else 1)) for run in runs]
    assert verdict(slow, asked).iloc[0].verdict == CONTRADICTED
    other = [changed(run, provenance={"device_name": "y"}) if run.label == "a" else run for run in runs]
    row = verdict(other, asked).iloc[0]
    assert row.verdict == NOT_RUN
    assert "one machine" in row.reason


def test_seconds_of_several_machines_are_compared_each_by_itself():
    def timed(method, number, seconds, device):
        made = {"device_name": device, "threads": 1}
        run = record(4, 90, label=method, method=method, seed=0)
        return changed(run, id=f"{run.id}{device}{number}", seconds=seconds, provenance=made)

    of_a = [*[timed("a", n, 100.0, "x") for n in range(9)], timed("a", 0, 1000.0, "y")]
    of_b = [timed("b", 0, 100.0, "x"), *[timed("b", n, 1000.0, "y") for n in range(9)]]
    row = verdict([*of_a, *of_b], ratio(quantity="seconds", expected="at most", smallest=1.25)).iloc[0]
    assert row.effect == pytest.approx(1.0)


def test_a_tolerance_without_a_dense_run_says_so_and_a_curve_is_not_compared_with_itself():
    runs = [*runs_of("a", 0, [(10, 98), (20, 90)]), *runs_of("b", 0, [(10, 98), (20, 90)])]
    row = verdict(runs, ratio(quantity="compression", tolerance=5)).iloc[0]
    assert row.reason == "no dense run beside a (seed 0); no dense run beside b (seed 0)"
    row = verdict(runs, claim(second={"method": "a"}, at=[10])).iloc[0]
    assert (row.verdict, row.reason) == (NOT_RUN, "both sides mean the same curve: a")


def test_a_row_for_every_data_set_model_and_budget_with_runs_of_both():
    runs = [
        *runs_of("a", 0, [(4, 92)]),
        *runs_of("b", 0, [(4, 90)]),
        *runs_of("a", 0, [(4, 91)], epochs=9),
        *runs_of("a", 0, [(4, 91)], dataset="kmnist"),
        *runs_of("b", 0, [(4, 92)], dataset="kmnist"),
    ]
    found = verdict(runs)
    assert list(zip(found.dataset, found.epochs, found.effect, found.verdict, strict=True)) == [
        ("kmnist", 60, -1, UNDECIDED),
        ("mnist", 60, 2, UNDECIDED),
    ]
    assert set(found.reason) == {"one seed has no spread"}


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        (runs_of("a", 0, [(4, 92)]), "no run of b"),
        (runs_of("c", 0, [(4, 92)]), "no run of a and of b"),
        (
            runs_of("a", 0, [(4, 92)]) + runs_of("b", 0, [(4, 92)], epochs=9),
            "no data set, model and budget has runs of both",
        ),
        (runs_of("a", 0, [(4, 92)]) + runs_of("b", 1, [(4, 92)]), "no seed in common"),
        (
            runs_of("a", 0, [(4, 92)]) + runs_of("b", 0, [(4, 92)]) + runs_of("b", 0, [(4, 91)], lr=0.3),
            "several curves are meant: a; b (lr=0.1), b (lr=0.3)",
        ),
    ],
)
def test_what_cannot_be_compared_is_not_run(runs, reason):
    (row,) = verdict(runs).to_dict("records")
    assert (row["verdict"], row["reason"], row["n"]) == (NOT_RUN, reason, 0)


def test_sides_are_told_by_options_settings_and_names_of_files():
    runs = [
        *runs_of("a", 0, [(4, 92)], options={"depth": 3}),
        *runs_of("a", 0, [(4, 90)], options={"depth": 2}),
        *runs_of("b@0123456789ab", 0, [(4, 80)], lr=0.1),
        *runs_of("b@0123456789ab", 0, [(4, 81)], lr=0.3),
    ]
    asked = [
        claim(name="depth", first={"method": "a", "depth": 3}, second={"method": "a", "depth": 2}),
        claim(name="lr", first={"method": "b", "lr": 0.3}, second={"method": "b", "lr": 0.1}),
        claim(name="none", first={"method": "a", "width": 3}),
    ]
    found = verdict(runs, *asked)
    assert found.claim.to_list() == ["depth", "lr", "none"]
    assert found.effect.to_list() == pytest.approx([2, 1, math.nan], nan_ok=True)
    assert found.reason[2] == "no run of a[width=3]"


def test_the_papers_claims_are_read_and_replaced_by_those_of_the_same_name():
    names = [claim.name for claim in shipped()]
    assert len(names) >= 6
    assert ResultSet([]).claims().claim.to_list() == names
    own = claim(name=names[0])
    results = ResultSet([*runs_of("a", 0, [(4, 92)]), *runs_of("b", 0, [(4, 90)])], claimed=[own])
    found = results.claims().set_index("claim")
    assert (len(found), found.effect[names[0]], found.verdict[names[0]]) == (len(names), 2, UNDECIDED)
    assert results.only(method=["a"]).claimed == [own]
