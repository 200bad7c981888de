"""Differences between curves and the best of them: hand-computed cases, scipy as an oracle, properties."""

import math
import random
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dwfbench.analysis import cautions, statistics
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from tests.analysis.test_curves import curve, dense, record

accuracies = st.floats(10, 99).map(lambda value: round(value, 2))


def seeds_of(label, *heights, at=10):
    """A run at one CR for every seed, with the accuracies `heights`."""
    return [record(at, height, label=label, method=label, seed=seed) for seed, height in enumerate(heights)]


def compared(runs, versus="b", at=(10,), **options):
    return statistics.differences(ResultSet(runs).runs, versus, at, **options)


def at_ratios(found):
    return found[found.quantity == "accuracy"].set_index(["label", "compression"])


def areas(found):
    return found[found.quantity == "area"].set_index("label")


# --- paired differences


def test_the_interval_of_paired_differences_by_hand():
    mean, ci95, n = statistics.paired([1, 2, 3])
    assert (mean, n) == (2, 3)
    assert ci95 == pytest.approx(4.302653 / math.sqrt(3))  # t of 2 degrees of freedom; the deviation is 1


@given(st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=8))
def test_the_interval_of_paired_differences_is_that_of_scipy(pairs):
    a, b = np.array(pairs).T
    if np.ptp(a - b) < 1e-9:
        return
    mean, ci95, n = statistics.paired(a - b)
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (mean - ci95, mean + ci95) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))
    assert n == len(pairs)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.0], (0, math.nan, 2)),  # two may agree by chance, on a small test set
        ([1e-14, 2e-14, 2e-14], (0, 0, 3)),  # rounding is no difference
        ([0.5, 0.5, 0.5], (0.5, 0, 3)),
        ([-0.1 - 0.2, -0.3], (-0.3, math.nan, 2)),
        ([-0.1 - 0.2, -0.3, -0.3], (-0.3, 0, 3)),  # equal but for rounding
    ],
)
def test_differences_without_variance_need_no_warning(values, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert statistics.paired(values) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("values", "mean", "n"), [([], math.nan, 0), ([1.0], 1, 1), ([math.nan, 1.0], 1, 1), ([None], math.nan, 0)]
)
def test_below_two_pairs_there_is_no_interval(values, mean, n):
    found = statistics.paired(values)
    assert found == pytest.approx((mean, math.nan, n), nan_ok=True)


# --- differences


def test_differences_by_hand():
    found = compared(seeds_of("a", 91, 93, 95) + seeds_of("b", 90, 91, 92)).iloc[0]
    assert (found.dataset, found.model, found.label, found.quantity) == ("mnist", "lenet", "a", "accuracy")
    assert (found.difference, found.n, found.common) == (pytest.approx(2), 3, 3)  # of 1, 2 and 3
    assert found.ci95 == pytest.approx(4.302653 / math.sqrt(3))


def test_curves_are_paired_by_seed_and_not_by_order():
    reversed_seeds = list(reversed(seeds_of("b", 90, 91, 92)))
    found = compared([*seeds_of("a", 91, 92, 93), *reversed_seeds]).iloc[0]
    assert (found.difference, found.ci95) == (pytest.approx(1), 0)


def test_only_common_seeds_are_paired():
    runs = seeds_of("a", 91, 92, 93) + [record(10, 50 + seed, label="b", method="b", seed=seed) for seed in (1, 2, 7)]
    found = compared(runs).iloc[0]
    assert (found.difference, found.n, found.common) == (pytest.approx(41), 2, 2)
    lonely = compared(seeds_of("a", 91) + seeds_of("b", 90)).iloc[0]
    assert (lonely.difference, lonely.n, lonely.common) == (1, 1, 1)
    assert math.isnan(lonely.ci95)


def test_differences_are_interpolated_in_log_compression_and_never_beyond_a_seed():
    runs = []
    for seed in range(3):
        runs += curve([(5, 90), (10, 80)], label="b", method="b", seed=seed)
        runs += curve([(5, 91 + seed), (10 if seed else 6, 81 + seed)], label="a", method="a", seed=seed)
    found = at_ratios(compared(runs, at=[5, math.sqrt(50), 10, 20]))
    assert found.n.to_list() == [3, 2, 2, 0]
    assert found.difference.to_list() == pytest.approx([2, 2.5, 2.5, np.nan], nan_ok=True)


def test_a_pair_with_a_hole_in_one_curve_has_no_difference():
    runs = curve([(5, 90), (10, 80)], label="b", method="b") + curve([(5, 91), (50, 81)], label="a", method="a")
    found = at_ratios(compared(runs, at=[5, 7, 10])).loc["a"]
    assert found.n.to_list() == [1, 0, 0]
    assert found.difference.to_list() == pytest.approx([1, math.nan, math.nan], nan_ok=True)
    (pair,) = found.seeds[7]
    assert (pair["difference"], pair["accuracy"]) == (None, None)
    assert (pair["below"], pair["above"]) == (pytest.approx(5), pytest.approx(50))
    assert pair["versus"]["accuracy"] == pytest.approx(90 - 10 * math.log(7 / 5) / math.log(2))
    assert (pair["versus"]["below"], pair["versus"]["above"]) == (pytest.approx(5), pytest.approx(10))


def test_dense_and_a_data_set_without_the_other_curve_have_no_rows():
    runs = [*seeds_of("a", 91, 92), *seeds_of("b", 90, 91), dense(95), dense(95, seed=1)]
    elsewhere = record(10, 90, label="a", method="a", dataset="kmnist")
    found = compared([*runs, elsewhere], at=[1, 10])
    assert set(found.label) == {"a"}
    assert set(found.dataset) == {"mnist"}


def test_no_runs_give_no_rows_but_all_columns():
    empty, full = compared([]), compared(seeds_of("a", 91, 92) + seeds_of("b", 90, 91))
    assert empty.empty
    assert list(empty) == list(full)


def test_impossible_ratios_and_ranges_are_refused():
    with pytest.raises(UsageError, match="no compression ratio"):
        compared([], at=[0.5])
    with pytest.raises(UsageError, match="range"):
        compared([], low=10, high=2)


# --- area


def test_the_difference_of_areas_by_hand():
    runs = []
    for seed in range(2):
        runs += curve([(1, 100), (2, 90), (4, 80)], label="b", method="b", seed=seed)
        runs += curve([(1, 90), (2, 90 + seed), (4, 90 + seed)], label="a", method="a", seed=seed)
    found = areas(compared(runs, at=[1, 4])).iloc[0]
    assert (found.low, found.high) == (1, 4)
    assert found.difference == pytest.approx(0.375)  # a - b: 90 - 90 and (90.5 + 91) / 2 - 90
    assert found.ci95 == pytest.approx(12.706205 * 0.375)
    given = areas(compared(runs, low=2, high=4)).iloc[0]
    assert given.difference == pytest.approx(5.5)  # 90 - 85 and 91 - 85


def test_no_curve_changes_the_range_of_another_and_chance_counts_beyond_its_end():
    runs = []
    for seed in range(3):
        runs += curve([(2, 95), (4, 90)], label="b", method="b", seed=seed)
        runs += curve([(2, 98), (4, 96 + seed), (8, 80)], label="a", method="a", seed=seed)
    alone = areas(compared(runs, at=[2, 8]))
    beside = areas(compared([*runs, *curve([(2, 50), (4, 40)], label="c", method="c")], at=[2, 8]))
    assert alone.difference["a"] == pytest.approx(((97.5 + 88.5) - (92.5 + 10)) / 2)
    pd.testing.assert_series_equal(beside.loc["a"], alone.loc["a"], check_exact=True)


def test_a_hole_leaves_no_difference_of_areas():
    runs = []
    for seed in range(2):
        runs += curve([(2, 95), (4, 90)], label="b", method="b", seed=seed)
        runs += curve([(2, 96), (9, 80)], label="a", method="a", seed=seed)
    found = areas(compared(runs, at=[2, 4])).iloc[0]
    assert found.n == 0
    assert found[["difference", "ci95"]].isna().all()


# --- properties

heights = st.lists(st.tuples(accuracies, accuracies, accuracies, accuracies), min_size=1, max_size=4)


def three_curves(rows, labels=("a", "b", "c")):
    """Curves at CR 2, 4 and 16; row s of `rows` shapes those of seed s."""
    runs = []
    for seed, row in enumerate(rows):
        for position, label in enumerate(labels):
            points = zip((2, 4, 16), (row[position], row[position + 1], row[position] / 2), strict=True)
            runs += curve(points, label=label, method=label, seed=seed)
    return runs


@pytest.mark.slow
@settings(max_examples=25)
@given(heights)
def test_swapping_the_two_curves_changes_the_sign_only(rows):
    runs = three_curves(rows, ("a", "b"))
    forth, back = (compared(runs, versus, at=[2, 3, 4, 8, 90]) for versus in ("b", "a"))
    np.testing.assert_allclose(forth.difference, -back.difference, atol=1e-12)
    same = ["common", "compression", "low", "high", "ci95", "n"]
    pd.testing.assert_frame_equal(forth[same], back[same])


@pytest.mark.slow
@settings(max_examples=25)
@given(heights, st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(rows, chance: random.Random):
    runs = three_curves(rows)
    shuffled = chance.sample(runs, len(runs))
    pd.testing.assert_frame_equal(compared(shuffled, at=[2, 3]), compared(runs, at=[2, 3]), check_exact=True)


@pytest.mark.slow
@settings(max_examples=25)
@given(heights)
def test_a_third_method_changes_nothing(rows):
    runs = three_curves(rows)
    two = compared([run for run in runs if run.label != "c"], at=[2, 3, 4])
    three = compared(runs, at=[2, 3, 4])
    three = three[three.label == "a"].reset_index(drop=True)
    pd.testing.assert_frame_equal(three, two, check_exact=True)


# --- the best


def best(runs, at=(10,)):
    return statistics.best(ResultSet(runs).runs, at)


def test_the_best_curve_is_told_apart_from_those_surely_below_it():
    runs = [*seeds_of("a", 91, 92.1, 93), *seeds_of("b", 90, 91, 92), *seeds_of("c", 92, 90, 93), dense(99)]
    row = best(runs).iloc[0]
    assert (row.label, row.next, row.n, row.epochs) == ("a", "c", 3, 60)
    assert row.accuracy == pytest.approx((91 + 92.1 + 93) / 3)
    assert row.difference == pytest.approx(1.1 / 3)  # of -1, 2.1 and 0
    assert row.level == ["c"]  # b is below it by 1, 1.1 and 1


def test_a_lucky_seed_is_not_the_best_of_three():
    row = best([*seeds_of("a", 91, 92.1, 93), *seeds_of("b", 99)]).iloc[0]
    assert (row.label, row.next, row.difference, row.level) == ("a", "b", -8, ["b"])
    assert math.isnan(row.ci95)


def test_what_another_curve_is_surely_above_does_not_come_first():
    """b has two seeds of three, in both of which it is 2 and 2.1 points above a."""
    row = best([*seeds_of("a", 91, 92, 93), *seeds_of("b", 93, 94.1)]).iloc[0]
    assert (row.label, row.n, row.next, row.level) == ("b", 2, "a", [])
    assert row.difference - row.ci95 > 0


def test_one_seed_decides_nothing_and_budgets_are_apart():
    runs = [*seeds_of("a", 91), *seeds_of("b", 90), record(10, 95, label="c", method="c", epochs=9)]
    found = best(runs, at=[10, 50]).set_index(["epochs", "compression"])
    assert found.label.dropna().to_dict() == {(9, 10): "c", (60, 10): "a"}
    assert found.level[60, 10] == ["b"]
    assert pd.isna(found.next[9, 10])
    assert found.level[9, 10] == []


# --- names and cautions


def test_a_curve_is_named_by_its_label_or_by_its_method():
    runs = ResultSet(
        [
            record(2, 90, label="dwf D=2", method="dwf", options={"depth": 2}),
            record(2, 90, label="dwf D=3", method="dwf", options={"depth": 3}),
            record(2, 90, label="synflow (100 rounds)", method="synflow"),
            record(2, 90, label="l1", method="l1"),
            record(2, 90, label="l1 (proximal)", method="l1", options={"proximal": True}),
            dense(95),
        ]
    ).runs
    assert statistics.label_of(runs, "dwf D=3") == "dwf D=3"
    assert statistics.label_of(runs, "synflow") == "synflow (100 rounds)"
    assert statistics.label_of(runs, "l1") == "l1"  # a label before a method
    with pytest.raises(UsageError, match="choose one of dwf D=2, dwf D=3"):
        statistics.label_of(runs, "dwf")
    with pytest.raises(UsageError, match=r"did you mean dwf D=[23]\? Choose one of dwf D=2"):
        statistics.label_of(runs, "dwf D=4")
    with pytest.raises(UsageError, match="no sparse curve 'dense'"):
        statistics.label_of(runs, "dense")
    with pytest.raises(UsageError, match="no sparse curve here"):
        statistics.label_of(ResultSet([dense(95)]).runs, "dense")


def test_few_common_seeds_and_a_missing_curve_are_warned_of():
    runs = ResultSet(
        [
            *seeds_of("a", 91, 92, 93),
            *seeds_of("b", 90, 91, 92),
            *seeds_of("c", 90, 91),
            record(10, 90, label="a", method="a", dataset="kmnist"),
            dense(95, dataset="digits"),
        ]
    ).runs
    lines = cautions.pair_warnings(runs, statistics.differences(runs, "b"), "b")
    assert lines == [
        "kmnist/lenet: no run of b, so nothing is compared with it.",
        "mnist/lenet: fewer than 3 seeds in common with b: c (2).",
    ]
