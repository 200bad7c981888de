"""Where further strengths go, on curves whose compression is known in closed form."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dwfbench.experiments.search import CLOSEST, further


def search(compression, start, targets, most=30, bracket=2.0):
    """All strengths that the search trains, with the compression of each."""
    trained = {strength: [compression(strength)] for strength in start}
    while new := further(trained, targets, most, bracket):
        assert not set(new) & set(trained), "a strength is trained once"
        trained |= {strength: [compression(strength)] for strength in new}
    return dict(sorted(trained.items()))


def around(trained, target):
    """The compression ratios next to a target, below and above."""
    ratios = [ratio for (ratio,) in trained.values()]
    return max(r for r in ratios if r <= target), min(r for r in ratios if r >= target)


def test_a_gap_is_filled_where_a_straight_line_in_log_log_meets_the_target():
    # From CR 1 at 1e-4 to CR 100 at 1e-2: log CR = log(strength / 1e-4), so CR 10 is expected at 1e-3.
    assert further({1e-4: [1.0], 1e-2: [100.0]}, [10], 9) == [1e-3]


def test_nothing_is_added_around_a_target_that_is_met():
    assert further({1e-3: [7.0], 2e-3: [13.9]}, [10], 9) == []
    assert further({1e-3: [7.0], 2e-3: [14.1]}, [10], 9) != []
    assert further({1e-3: [10.0]}, [10], 9) == []


def test_beyond_the_trained_strengths_the_search_goes_outwards():
    assert further({3e-4: [5.0], 4e-4: [8.0]}, [2, 20], 9) == [2e-4, 6e-4]


def test_a_dead_network_bounds_the_search_from_above():
    # CR 20 lies between 1e-3 (CR 8) and 4e-3 (dead): half way in the logarithm.
    assert further({1e-3: [8.0], 4e-3: [math.inf]}, [8, 20], 9) == [2e-3]
    jump = search(lambda strength: 8.0 if strength < 3e-3 else math.inf, [1e-3, 4e-3], [20])
    assert len(jump) < 12, "a curve that jumps over a target is given up"
    assert max(s for s in jump if s < 3e-3) * CLOSEST**2.3 > min(s for s in jump if s >= 3e-3)


def test_a_run_that_died_below_living_ones_is_bad_luck():
    assert further({1e-3: [8.0], 2e-3: [math.inf], 4e-3: [15.0]}, [10], 9) == []
    assert further({1e-3: [8.0, math.inf], 4e-3: [15.0, 15.0]}, [10], 9) == []


def test_without_a_run_that_says_anything_nothing_is_added():
    assert further({1e-3: [], 2e-3: []}, [10], 9) == []


def test_all_seeds_must_reach_the_ends():
    # The mean is above 100, one seed is not: a little more is needed.
    assert further({1e-3: [60.0, 60.0], 1.5e-3: [99.0, 130.0]}, [100], 9) == [2.25e-3]
    # In the middle seeds may lie on both sides, if the means are near enough.
    seeds = {1e-3: [60.0, 60.0], 1.5e-3: [99.0, 130.0], 2e-3: [190.0, 200.0]}
    assert further(seeds, [100], 9) == []


def test_the_number_of_strengths_is_bounded_and_wide_gaps_come_first():
    trained = {1e-4: [1.0], 1e-3: [10.0], 1e-1: [1000.0]}
    assert further(trained, [3, 100], 3) == []
    assert further(trained, [3, 100], 4) == [1e-2]
    assert len(further(trained, [3, 100], 5)) == 2


@settings(max_examples=200, deadline=None)
@given(
    power=st.floats(0.3, 6),
    scale=st.floats(1e-5, 1e-2),
    targets=st.lists(st.floats(1.5, 1000), min_size=1, max_size=6),
)
@example(power=5.03125, scale=0.0039999926126689485, targets=[113.0])  # rounding brings the proposal too near
def test_every_target_of_a_smooth_curve_is_met(power, scale, targets):
    def compression(strength):
        return 1 + (strength / scale) ** power

    found = search(compression, [scale / 3, scale, 3 * scale], targets, most=200)
    for target in targets:
        low, high = around(found, target)
        assert high / low <= 2.0 * (1 + 1e-6)


@pytest.mark.parametrize("most", [4, 6, 9])
def test_the_search_of_a_steep_curve_stays_within_its_budget(most):
    found = search(lambda s: 1.0 if s < 3e-4 else 7 * (s / 3e-4) ** 3, [3.1e-4, 6e-4], [2, 10, 100, 900], most)
    assert len(found) <= most
