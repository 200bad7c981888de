"""Differences between curves and their tests: hand-computed cases, scipy and statsmodels as oracles, properties."""

import math
import random
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from dwfbench.analysis import curves
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from tests.analysis.test_curves import curve, dense, record
from tests.records import changed

accuracies = st.floats(10, 99).map(lambda value: round(value, 2))
p_values = st.one_of(st.floats(0, 1), st.just(math.nan))


def seeds_of(label, *heights, at=10):
    """A run at one CR for every seed, with the accuracies `heights`."""
    return [record(at, height, label=label, method=label, seed=seed) for seed, height in enumerate(heights)]


def compared(runs, versus="b", at=(10,), **options):
    return curves.differences(ResultSet(runs).runs, versus, at, **options)


def at_ratios(found):
    return found[found.quantity == "accuracy"].set_index(["label", "compression"])


def areas(found):
    return found[found.quantity == "area"].set_index("label")


# --- one test


def test_the_paired_t_test_by_hand():
    mean, ci95, p, n = curves.paired_t([1, 2, 3])
    assert (mean, n) == (2, 3)
    assert ci95 == pytest.approx(4.302653 / math.sqrt(3))  # t of 2 degrees of freedom; the deviation is 1
    t = 2 * math.sqrt(3)
    assert p == pytest.approx(1 - t / math.sqrt(2 + t**2))  # closed form for 2 degrees of freedom


@given(st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=8))
def test_the_paired_t_test_is_that_of_scipy(pairs):
    a, b = np.array(pairs).T
    if np.ptp(a - b) < 1e-9:
        return
    mean, ci95, p, n = curves.paired_t(a - b)
    oracle = stats.ttest_rel(a, b)
    low, high = oracle.confidence_interval(0.95)
    assert p == pytest.approx(oracle.pvalue, rel=1e-6, abs=1e-12)
    assert (mean - ci95, mean + ci95) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))
    assert n == len(pairs)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.0], (0, 0, 1, 2)),
        ([1e-14, 2e-14, 2e-14], (0, 0, 1, 3)),  # rounding is no difference
        ([0.5, 0.5, 0.5], (0.5, 0, 0, 3)),
        ([-0.1 - 0.2, -0.3], (-0.3, 0, 0, 2)),  # equal but for rounding
    ],
)
def test_differences_without_variance_need_no_warning(values, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert curves.paired_t(values) == pytest.approx(expected)


@pytest.mark.parametrize(("values", "n"), [([], 0), ([1.0], 1), ([math.nan, 1.0], 1), ([math.nan], 0)])
def test_below_two_pairs_there_is_no_test(values, n):
    *numbers, found = curves.paired_t(values)
    assert found == n
    assert all(math.isnan(number) for number in numbers)


# --- a family of tests


def test_holm_by_hand():
    p = np.array([0.04, np.nan, 0.01, 0.03])
    expected = [0.06, np.nan, 0.03, 0.06]  # 3 * 0.01, 2 * 0.03, and 0.04 may not fall below the one before
    np.testing.assert_allclose(curves.holm(p), expected)
    assert curves.holm(np.array([0.6, 0.7])).tolist() == [1, 1]
    assert len(curves.holm(np.array([]))) == 0


@settings(max_examples=15, deadline=None)  # the oracle takes 50 ms a call
@given(st.lists(p_values, max_size=12))
def test_holm_is_that_of_statsmodels(values):
    p = np.array(values, dtype=float)
    known = ~np.isnan(p)
    found = curves.holm(p)
    assert np.isnan(found[~known]).all()
    if known.any():
        np.testing.assert_allclose(found[known], multipletests(p[known], method="holm")[1], rtol=1e-12)


# --- differences


def test_differences_by_hand():
    found = compared(seeds_of("a", 91, 93, 95) + seeds_of("b", 90, 91, 92)).iloc[0]
    assert (found.dataset, found.model, found.label, found.quantity) == ("mnist", "lenet", "a", "accuracy")
    assert (found.difference, found.n, found.seeds) == (pytest.approx(2), 3, 3)  # of 1, 2 and 3
    assert found.ci95 == pytest.approx(4.302653 / math.sqrt(3))


def test_curves_are_paired_by_seed_and_not_by_order():
    reversed_seeds = list(reversed(seeds_of("b", 90, 91, 92)))
    found = compared([*seeds_of("a", 91, 92, 93), *reversed_seeds]).iloc[0]
    assert (found.difference, found.ci95, found.p) == (pytest.approx(1), 0, 0)


def test_only_common_seeds_are_paired():
    runs = seeds_of("a", 91, 92, 93) + [record(10, 50 + seed, label="b", method="b", seed=seed) for seed in (1, 2, 7)]
    found = compared(runs).iloc[0]
    assert (found.difference, found.n, found.seeds) == (pytest.approx(41), 2, 2)
    lonely = compared(seeds_of("a", 91) + seeds_of("b", 90)).iloc[0]
    assert (lonely.n, lonely.seeds) == (1, 1)
    assert lonely[["difference", "ci95", "p", "p_holm"]].isna().all()


def test_differences_are_interpolated_in_log_compression_and_never_beyond_a_seed():
    runs = []
    for seed in range(3):
        runs += curve([(1, 90), (100, 80)], label="b", method="b", seed=seed)
        runs += curve([(1, 91 + seed), (100 if seed else 9, 81 + seed)], label="a", method="a", seed=seed)
    found = at_ratios(compared(runs, at=[1, 10, 100, 200]))
    assert found.n.to_list() == [3, 2, 2, 0]
    assert found.difference.to_list() == pytest.approx([2, 2.5, 2.5, np.nan], nan_ok=True)


def test_the_family_is_all_tests_of_a_data_set_and_model():
    labels = {"a": (91, 92.5, 93), "b": (90, 91, 92), "c": (91, 90.5, 94)}
    runs = []
    for label, heights in labels.items():
        for seed, height in enumerate(heights):
            points = [(2, height), (10, height - 1 - seed * 0.2 * (label == "a"))]
            runs += curve(points, label=label, method=label, seed=seed)
    single = compared(runs, at=[2, 10, 30])
    known = single.p.notna()
    assert known.sum() == 6  # two labels at CR 2 and 10 and for their area; nobody reaches 30
    np.testing.assert_allclose(single.p_holm[known], multipletests(single.p[known], method="holm")[1])
    assert single.p_holm[~known].isna().all()

    elsewhere = [changed(run, id=f"k{run.id}", spec={"dataset": "kmnist"}) for run in runs]
    both = compared([*runs, *elsewhere], at=[2, 10, 30])
    for _, panel in both.groupby("dataset"):
        np.testing.assert_allclose(panel.p_holm, single.p_holm)


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
    assert curves.dominance(empty).empty


def test_impossible_ratios_and_ranges_are_refused():
    with pytest.raises(UsageError, match="no compression ratio"):
        compared([], at=[0.5])
    with pytest.raises(UsageError, match="range"):
        compared([], low=10, high=2)


# --- area


def test_the_difference_of_areas_by_hand():
    runs = []
    for seed in range(2):
        runs += curve([(1, 100), (100, 80)], label="b", method="b", seed=seed)
        runs += curve([(1, 90), (10, 90 + seed), (1000, 90 + seed)], label="a", method="a", seed=seed)
    found = areas(compared(runs)).iloc[0]
    assert (found.low, found.high) == (pytest.approx(1), pytest.approx(100))
    assert found.difference == pytest.approx(0.375)  # a - b: 90 - 90 and (90.5 + 91) / 2 - 90
    assert found.ci95 == pytest.approx(12.706205 * 0.375)
    given = areas(compared(runs, low=10, high=100)).iloc[0]
    assert given.difference == pytest.approx(5.5)  # 90 - 85 and 91 - 85
    assert areas(compared(runs, low=10, high=200)).n.to_list() == [0]  # b ends at 100


def test_a_third_curve_does_not_shorten_the_range_of_two():
    runs = []
    for seed in range(3):
        runs += curve([(2, 95), (100, 90)], label="b", method="b", seed=seed)
        runs += curve([(5, 96 + seed), (200, 80)], label="a", method="a", seed=seed)
    short = curve([(6, 50), (7, 40)], label="c", method="c")
    alone, beside = areas(compared(runs)), areas(compared([*runs, *short]))
    assert (alone.low["a"], alone.high["a"]) == (pytest.approx(5), pytest.approx(100))
    pd.testing.assert_series_equal(beside.loc["a"].drop("p_holm"), alone.loc["a"].drop("p_holm"), check_exact=True)


def test_without_a_common_range_there_is_no_area():
    runs = []
    for seed in range(2):
        runs += curve([(2, 95), (3, 90)], label="b", method="b", seed=seed)
        runs += curve([(5, 96), (9, 80)], label="a", method="a", seed=seed)
    found = areas(compared(runs)).iloc[0]
    assert found.n == 0
    assert found[["difference", "low", "high", "p_holm"]].isna().all()


# --- properties

heights = st.lists(st.tuples(accuracies, accuracies, accuracies, accuracies), min_size=1, max_size=4)


def three_curves(rows, labels=("a", "b", "c")):
    """Curves at CR 2, 10 and 40; row s of `rows` shapes those of seed s."""
    runs = []
    for seed, row in enumerate(rows):
        for position, label in enumerate(labels):
            points = zip((2, 10, 40), (row[position], row[position + 1], row[position] / 2), strict=True)
            runs += curve(points, label=label, method=label, seed=seed)
    return runs


@settings(max_examples=25, deadline=None)
@given(heights)
def test_swapping_the_two_curves_changes_the_sign_only(rows):
    runs = three_curves(rows, ("a", "b"))
    forth, back = (compared(runs, versus, at=[2, 5, 40, 90]) for versus in ("b", "a"))
    np.testing.assert_allclose(forth.difference, -back.difference, atol=1e-12)
    same = ["seeds", "compression", "low", "high", "ci95", "p", "p_holm", "n"]
    pd.testing.assert_frame_equal(forth[same], back[same])
    there, here = curves.dominance(forth).iloc[0], curves.dominance(back).iloc[0]
    assert (there.above, there.below, there.undecided) == (here.below, here.above, here.undecided)


@settings(max_examples=25, deadline=None)
@given(heights, st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(rows, chance: random.Random):
    runs = three_curves(rows)
    shuffled = chance.sample(runs, len(runs))
    pd.testing.assert_frame_equal(compared(shuffled, at=[2, 7]), compared(runs, at=[2, 7]), check_exact=True)


@settings(max_examples=25, deadline=None)
@given(heights)
def test_a_third_method_changes_nothing_but_the_correction(rows):
    runs = three_curves(rows)
    two = compared([run for run in runs if run.label != "c"], at=[2, 7, 40])
    three = compared(runs, at=[2, 7, 40])
    three = three[three.label == "a"].reset_index(drop=True)
    pd.testing.assert_frame_equal(three.drop(columns="p_holm"), two.drop(columns="p_holm"), check_exact=True)
    known = two.p_holm.notna()
    assert (three.p_holm[known] >= two.p_holm[known]).all()


# --- dominance


def test_dominance_counts_ratios_beyond_noise():
    rows = [
        ("a", "accuracy", 2, 0.01),
        ("a", "accuracy", 1, 0.05),  # not below the level
        ("a", "accuracy", -1, 0.049),
        ("a", "accuracy", math.nan, math.nan),
        ("a", "area", 3, 0.0),  # no CR
        ("b", "accuracy", 1, 0.2),
    ]
    found = pd.DataFrame(rows, columns=["label", "quantity", "difference", "p_holm"])
    counts = curves.dominance(found.assign(dataset="mnist", model="lenet")).set_index("label")
    assert counts.loc["a", ["above", "below", "undecided"]].to_list() == [1, 1, 2]
    assert counts.loc["b", ["above", "below", "undecided"]].to_list() == [0, 0, 1]


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
    assert curves.label_of(runs, "dwf D=3") == "dwf D=3"
    assert curves.label_of(runs, "synflow") == "synflow (100 rounds)"
    assert curves.label_of(runs, "l1") == "l1"  # a label before a method
    with pytest.raises(UsageError, match="choose one of dwf D=2, dwf D=3"):
        curves.label_of(runs, "dwf")
    with pytest.raises(UsageError, match=r"did you mean dwf D=[23]\? Choose one of dwf D=2"):
        curves.label_of(runs, "dwf D=4")
    with pytest.raises(UsageError, match="no sparse curve 'dense'"):
        curves.label_of(runs, "dense")
    with pytest.raises(UsageError, match="no sparse curve here"):
        curves.label_of(ResultSet([dense(95)]).runs, "dense")


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
    lines = curves.pair_warnings(runs, curves.differences(runs, "b"), "b")
    assert lines == [
        "kmnist/lenet: no run of b, so nothing is compared with it.",
        "mnist/lenet: fewer than 3 seeds in common with b, a test can tell little: c (2).",
    ]
