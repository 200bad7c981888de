"""The rule by which curves are read, on numbers that can be checked by hand, and as a property of all curves."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwfbench.analysis.matched import SeedCurve, height_at, is_at, near

NO = math.nan
HOLE = SeedCurve.of([2, 4, 400, 800], [98, 96, 80, 70])
ratios = st.floats(1, 1e4)
runs = st.lists(st.tuples(ratios, st.floats(10, 99)), min_size=1, max_size=8)


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_between_near_neighbours_a_curve_is_linear_in_log_compression():
    found = HOLE.at([2, math.sqrt(8), 4, 600])
    share = math.log(1.5) / math.log(2)
    same(found.height, [98, 97, 96, 80 - 10 * share])
    assert (found.below.tolist(), found.above.tolist()) == ([0, 0, 1, 2], [0, 1, 1, 3])


def test_in_a_hole_and_beyond_the_ends_there_is_nothing():
    found = HOLE.at([1.9, 5, 395, 809])
    same(found.height, [NO, NO, NO, NO])
    assert (found.below.tolist(), found.above.tolist()) == ([-1, 1, 1, 3], [0, 2, 2, -1])


def test_the_gap_is_the_callers():
    same(HOLE.at([40], max_gap=100).height, [88])
    same(HOLE.at([3], max_gap=1.5).height, [NO])


def test_a_factor_of_two_that_was_rounded_is_one():
    same(SeedCurve.of([9.9996, 20.01], [90, 80]).at([math.sqrt(9.9996 * 20.01)]).height, [85])
    same(SeedCurve.of([10, 20.2], [90, 80]).at([math.sqrt(202)]).height, [85])
    same(SeedCurve.of([10, 20.3], [90, 80]).at([15]).height, [NO])


def test_a_run_at_the_target_is_used_as_it_is():
    found = SeedCurve.of([3, 9.9996, 400], [99, 90, 50]).at([10, 10.2])
    same(found.height, [90, NO])
    assert found.below[0] == found.above[0] == 1


@pytest.mark.parametrize(
    ("compression", "target", "numel", "at"),
    [
        (430_500 / 431, 1000, 430_500, True),
        (430_500 / 430, 1000, 430_500, True),
        (50_200 / 167, 300, 50_200, True),
        (100, 80, 100, True),  # one weight of 1.25
        (50, 80, 100, False),  # two of them
        (2.0047, 2, 266_200, True),  # kept weights that decayed
        (301.47, 300, 266_200, True),
        (10.1, 10, math.inf, True),
        (10.11, 10, math.inf, False),
        (9.901, 10, math.inf, True),
        (9.9, 10, math.inf, False),
    ],
)
def test_a_run_is_at_a_target_to_half_a_weight_or_one_percent(compression, target, numel, at):
    assert is_at(compression, target, numel) == at
    if at:
        same(SeedCurve.of([compression], [90], numel).at([target]).height, [90])


def test_a_gap_is_forgiven_half_a_weight_of_both_runs():
    """Of 100 weights CR 30 leaves 3.33 and CR 60 1.67: a pruner keeps 3 and 2, or of the reverse rounding 4 and 1."""
    assert near(100 / 3, 100 / 2, 2)
    assert near(100 / 3, 100 / 1, 2, numel=100)
    assert not near(100 / 3, 100 / 1, 2)
    assert not near(100 / 4, 100 / 1, 2, numel=100)


def test_runs_of_equal_compression_are_averaged_in_any_order():
    same(SeedCurve.of([8, 2, 8], [80, 99, 84]).at([8]).height, [82])


def test_one_height_for_those_who_want_no_arrays():
    assert height_at([2, 4], [98, 96], math.sqrt(8)) == pytest.approx(97)
    assert height_at([4, 400], [98, 96], 40) is None
    assert height_at([], [], 40) is None


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (97, (math.sqrt(8), False, 0, 1)),
        (96, (NO, False, 1, 2)),  # it falls below in the hole
        (90, (NO, False, 1, 2)),
        (75, (400 * math.sqrt(2), False, 2, 3)),
        (70, (800, True, 3, 3)),
        (99, (NO, False, -1, 0)),
    ],
)
def test_the_last_crossing(level, expected):
    assert tuple(HOLE.last_within(level)) == pytest.approx(expected, nan_ok=True)


def test_the_last_crossing_counts_when_a_curve_is_not_monotone():
    curve = SeedCurve.of([2, 4, 8], [90, 98, 96])
    assert curve.last_within(97).compression == pytest.approx(math.sqrt(32))


@pytest.mark.parametrize(
    ("low", "high", "mean"),
    [
        (2, 4, 97),
        (2, math.sqrt(8), 97.5),
        (1, 4, NO),  # nothing is known below its first run
        (2, 400, NO),
        (4, 16, NO),
        (400, 1600, (75 + 10) / 2),
        (200, 1600, NO),  # the hole reaches into the range
        (800, 1600, NO),  # nothing but its end
    ],
)
def test_the_mean_height_counts_chance_beyond_the_end_and_no_hole(low, high, mean):
    assert HOLE.mean_height(low, high, outside=10) == pytest.approx(mean, nan_ok=True)


def test_a_range_missed_by_rounding_is_reached():
    curve = SeedCurve.of([2.001, 3.9999], [98, 96])
    assert curve.mean_height(2, 4, outside=math.nan) == pytest.approx(97, abs=1e-2)
    assert (curve.begins_within(2), curve.ends_within(4)) == (False, False)
    assert (curve.begins_within(1), curve.ends_within(5)) == (True, True)
    assert not SeedCurve.of([2, 80], [98, 96], numel=100).ends_within(100)  # half a weight is no difference


def test_holes_are_named_by_the_runs_around_them():
    assert HOLE.holes(2, 800) == [(pytest.approx(4), pytest.approx(400))]
    assert HOLE.holes(4, 5) == HOLE.holes(2, 800)
    assert HOLE.holes(2, 4) == HOLE.holes(400, 800) == []


weights = st.sampled_from([math.inf, 1000.0, 266_200.0])


@given(runs, st.lists(ratios, min_size=1, max_size=8), st.floats(1.05, 50), weights)
def test_no_height_lies_between_runs_further_apart_than_the_gap(points, targets, gap, numel):
    """Against a rule of its own: search the sorted runs for one at the target, or for near ones around it."""
    curve = SeedCurve.of(*zip(*points, strict=True), numel)
    known = np.exp(curve.log_cr)
    for target, height in zip(targets, curve.at(targets, gap).height, strict=True):
        missed = np.maximum(0.5 / numel, 0.01 / target) * (1 + 1e-9)
        met = np.abs(1 / known - 1 / target) <= missed
        lower, upper = known[known < target], known[known > target]
        bracketed = len(lower) and len(upper) and apart(lower[-1], upper[0], numel) <= gap
        if not (met.any() or bracketed):
            assert math.isnan(height)
        if not math.isnan(height):
            ends = curve.height[met | np.isin(known, [*lower[-1:], *upper[:1]])]
            assert min(ends) - 1e-9 <= height <= max(ends) + 1e-9


def apart(low, high, numel):
    """The factor between two runs, whose weights may be half a one more or fewer, or 1 % less."""
    return min(high / low / 1.01, (numel / low - 0.5) / (numel / high + 0.5) if numel < math.inf else high / low) - 1e-9


@given(runs, st.floats(10, 99), weights)
def test_no_crossing_lies_between_runs_further_apart_than_the_gap(points, level, numel):
    curve = SeedCurve.of(*zip(*points, strict=True), numel)
    found = curve.last_within(level)
    if not math.isnan(found.compression):
        low, high = curve.log_cr[found.below], curve.log_cr[found.above]
        assert low - 1e-9 <= math.log(found.compression) <= high + 1e-9
        assert found.censored or apart(math.exp(low), math.exp(high), numel) <= 2


@given(runs, ratios, ratios, weights)
def test_no_area_is_of_runs_further_apart_than_the_gap(points, one, other, numel):
    low, high = sorted((one, other))
    curve = SeedCurve.of(*zip(*points, strict=True), numel)
    if not math.isnan(curve.mean_height(low, high, outside=10)):
        known = np.exp(curve.log_cr)
        inside = [(a, b) for a, b in itertools.pairwise(known) if a < high and b > low]
        ends = [(a, b) for a, b in inside if not (is_at(b, low, numel) or is_at(a, high, numel))]
        assert all(apart(a, b, numel) <= 2 for a, b in ends)
