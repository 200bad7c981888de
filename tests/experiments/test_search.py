"""Where further strengths go, on curves whose compression is known in closed form, and how many runs that takes."""

import itertools
import math
import random
from statistics import mean

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import dwfbench
from dwfbench.experiments import knobs
from dwfbench.experiments.search import CLOSEST, EDGE, Rule, fitted, further, needed, neighbours, plan, reached

SEVEN = [2, 5, 10, 30, 100, 200, 300]
"""Eight runs do not lie around these, nine do: four around 2, 5 and 10, two around 30, three around the others."""


def search(compression, targets, guess=((1e-4, 2), (1e-2, 300)), max_runs=30, trained=()):
    """All strengths that the search trains, in that order, with the compression of each."""
    known = dict(trained)
    while new := further(known, targets, max_runs, guess):
        assert not set(new) & set(known), "a strength is trained once"
        known |= {strength: compression(strength) for strength in new}
    return known


def left(known, targets):
    """The targets that are not reached."""
    return [target for target in targets if not reached(known.values(), target)]


def rising(low, high, power=0.5):
    """A curve that is 1 below a strength, and whose root rises evenly in the logarithm to CR 300, as stored ones do."""

    def compression(strength):
        share = math.log(strength / low) / math.log(high / low)
        return max(1.0, 1 + share * (300**power - 1)) ** (1 / power) if share > 0 else 1.0

    return compression


# ---------------------------------------------------------------- what is reached


@pytest.mark.parametrize(
    ("ratios", "target", "expected"),
    [
        ([5, 9, 14], 10, (9, 14)),
        ([14, 9, 5], 10, (9, 14)),
        ([5, 10, 14], 10, (10, 10)),
        ([5, 9.91], 10, (9.91, 9.91)),
        ([5, 9.9], 10, (9.9, None)),
        ([12, math.inf], 10, (None, 12)),
        ([], 10, (None, None)),
    ],
)
def test_neighbours_of_a_target(ratios, target, expected):
    assert neighbours(ratios, target) == expected


def test_a_target_is_reached_between_two_runs_at_most_the_gap_apart():
    assert reached([7.0, 14.0], 10)
    assert not reached([7.0, 14.2], 10)
    assert reached([7.0, 14.2], 10, Rule(2.1))
    assert reached([10.0], 10)
    assert not reached([11.0, 9.0, 100.0], 50)
    assert not reached([9.0, math.inf], 10)


def test_a_target_is_reached_to_half_a_weight():
    assert neighbours([5, 12.5], 12, numel=100) == (12.5, 12.5)  # 8 weights of 8.33
    assert reached([12.5], 12, Rule(2, numel=100))
    assert not reached([12.5], 12, Rule(2, numel=10_000))
    assert needed({1e-4: 5.0, 2e-4: 12.5, 3e-4: 20.0}, [12], numel=100) == [2e-4]


def test_what_other_seeds_need_are_the_runs_next_to_the_targets_and_where_the_network_died():
    trained = {1e-4: 1.0, 2e-4: 6.0, 3e-4: 11.0, 4e-4: 50.0, 5e-4: 60.0, 6e-4: math.inf, 7e-4: math.inf}
    assert needed(trained, [10]) == [2e-4, 3e-4]
    assert needed(trained, [10, 300]) == [2e-4, 3e-4, 5e-4, 6e-4]


# ---------------------------------------------------------------- plans


@pytest.mark.parametrize(
    ("low", "high", "targets", "runs"),
    [
        (None, None, [30], 2),
        (None, None, [10, 19], 2),  # both between two runs
        (None, None, [5, 10], 3),  # the run between serves both
        (None, None, [5, 50], 4),
        (3, None, [5], 1),
        (2.4, None, [5], 2),  # a run at 4.8 would be none above 5
        (20, 70, [30], 1),
        (20, 79, [30, 60], 2),
        (4, 90, [5, 80], 2),
        (None, None, SEVEN, 9),
    ],
)
def test_the_fewest_runs_around_targets(low, high, targets, runs):
    logs = [math.log(target) for target in targets]
    ends = [None if end is None else math.log(end) for end in (low, high)]
    aims = [math.exp(log) for log in plan(*ends, logs, math.log(2))]
    assert len(aims) == runs
    assert left(dict(enumerate([*aims, *(end for end in (low, high) if end)])), targets) == []


# ---------------------------------------------------------------- smooth curves


def test_the_first_run_goes_where_the_guess_has_the_lower_neighbour_of_the_target():
    # Two runs are needed, at a third of the gap below and above: CR 19.4 is the first. On the scale of CR ** 0.4 it is
    # 0.231 of the way from 2 to 300, and 1e-4 * 100 ** 0.231 = 2.9e-4.
    assert further({}, [24.5], 9, [(1e-4, 2), (1e-2, 300)]) == [2.9e-4]


def test_two_runs_are_looked_between_and_beyond_at_once():
    below, between, above = further({1e-3: 10.0, 2e-3: 90.0}, [5, 30, 300], 9)
    assert below < 1e-3 < between < 2e-3 < above


def test_nothing_is_added_around_targets_that_are_reached_or_where_nothing_is_known():
    assert further({1e-3: 7.0, 2e-3: 13.9}, [10], 9) == []
    assert further({1e-3: 10.0}, [10], 9) == []
    assert further({1e-3: None, 2e-3: None}, [10], 9) == []


def test_the_number_of_strengths_is_bounded_and_wide_gaps_come_first():
    trained = {1e-4: 1.0, 1e-3: 10.0, 1e-1: 1000.0}
    assert further(trained, [3, 100], 3) == []
    (first,) = further(trained, [3, 100], 4)
    assert 1e-3 < first < 1e-1
    assert len(further(trained, [3, 100], 5)) == 2


@pytest.mark.parametrize(
    ("targets", "most"),
    [([5, 50], 6), ([5, 40, 300], 9), (SEVEN, 12), ([5, 10, 20, 40, 80, 160, 300], 12)],
)
@pytest.mark.parametrize("shape", [(1e-4, 1e-2), (1.4e-4, 3e-3), (7e-5, 3e-2)])
def test_curves_of_the_usual_shape_need_few_runs(targets, most, shape):
    known = search(rising(*shape), targets)
    assert left(known, targets) == []
    assert len(known) <= most


def test_a_good_guess_makes_every_run_count():
    """Ideally 9 runs; one more where a run lands beside where it was aimed at."""
    known = search(rising(1e-4, 1e-2), SEVEN, guess=((1.05e-4, 2), (1e-2, 300)))
    assert left(known, SEVEN) == []
    assert len(known) <= 11
    assert all(ratio > 1 for ratio in known.values())


@settings(max_examples=200)
@given(
    power=st.floats(0.3, 6),
    scale=st.floats(1e-5, 1e-2),
    targets=st.lists(st.floats(1.5, 1000), min_size=1, max_size=6),
)
@example(power=5.03125, scale=0.0039999926126689485, targets=[113.0])
@example(power=5.038411286175589, scale=0.007921163501034134, targets=[1.9951593981682747, 236.7338475099512])
@example(power=2.625, scale=0.0078125, targets=[923.0])  # whose first run has nearly the ratio of the guess
def test_every_target_of_a_smooth_curve_is_reached(power, scale, targets):
    known = search(lambda strength: 1 + (strength / scale) ** power, targets, ((scale / 3, 2), (3 * scale, 300)), 200)
    assert left(known, targets) == []
    # Slow curves are far from the guess, and steep ones leave it within a few strengths: of 6,000 random curves four
    # needed more than 7 in the place of the 12, the most 9.6.
    assert len(known) <= 12 + 3 * len(targets) + 12 / power


def test_a_guess_that_is_far_off_costs_a_few_runs():
    for low, high in [(1e-6, 1e-4), (1e-2, 1.0)]:
        known = search(rising(low, high), [5, 50])
        assert left(known, [5, 50]) == []
        assert len(known) <= 14


@pytest.mark.parametrize(("targets", "most"), [([5], 6), ([10], 5), ([20], 4), ([100], 6)])
def test_a_steep_curve_is_entered_from_where_decay_makes_the_first_zeros(targets, most):
    """That of a ResNet from its weights (docs/your-network.md): below CR 2, of which the guess knows, nothing is tried
    in vain. The first run is far above."""
    steep = through({0.00559: 1.0, 0.0098: 1.9, 0.0103: 20.2, 0.0111: 50.9, 0.0124: 150})
    low, high = math.log(0.0099), math.log(4 * 0.0099)
    parts = {ratio: part / knobs.DECAY[knobs.COMPRESSION_RANGE[1]] for ratio, part in knobs.DECAY.items()}
    guess = [(math.exp(low + part * (high - low)), float(ratio)) for ratio, part in parts.items()]
    known = search(steep, targets, guess)
    assert left(known, targets) == []
    assert len(known) <= most
    assert min(known) > 0.009


# ---------------------------------------------------------------- stored curves

PAPER = [2, 5, 10, 30, 100, 300, 1000]


def test_no_search_needs_fewer_runs_than_targets_and_chains():
    """Runs around targets form chains, each with a run more than targets: all of them but 30, 100, 300 and 100, 300,
    1000 can be in one, so that three chains are the fewest."""
    logs = [math.log(target) for target in PAPER]
    assert len(plan(None, None, logs, math.log(2))) == len(PAPER) + 3
    for count in range(1, len(PAPER) + 1):  # against a search of its own: the greatest part that a chain covers
        covered = [start for start in range(len(PAPER) - count + 1) if chained(PAPER[start : start + count])]
        assert bool(covered) == (count <= 4)
    assert not chained([30, 100, 300])
    assert not chained([100, 300, 1000])


def chained(targets):
    """Whether runs lie around these targets one after the other, each next one at most a factor of 2 further on: the
    highest that a run can reach after each target must not fall short of the next."""
    highest = targets[0]
    for target, following in itertools.pairwise([*targets, math.inf]):
        highest = min(2 * highest, following)
        if highest < target:
            return False
    return True


@pytest.fixture(scope="module")
def stored():
    """Compression by strength of the reference runs of LeNet-300-100, by label and seed."""
    runs = dwfbench.open("results/starved/lenet-300-100.zip").runs
    runs = runs[runs["knob"] == "strength"].sort_values("knob_value")
    return {
        (str(label), int(seed)): dict(zip(of_seed["knob_value"], of_seed["compression"], strict=True))
        for (label, seed), of_seed in runs.groupby(["label", "seed"])
        if len(of_seed) > 5
    }


def through(runs):
    """A curve through runs, straight in CR ** 0.4 over log strength, and beyond them."""
    strengths, heights = zip(*((math.log(strength), ratio**0.4) for strength, ratio in runs.items()), strict=True)
    slopes = [(heights[k + 1] - heights[k]) / (strengths[k + 1] - strengths[k]) for k in (0, len(heights) - 2)]

    def compression(strength):
        log = math.log(strength)
        below, above = slopes[0] * min(log - strengths[0], 0), slopes[1] * max(log - strengths[-1], 0)
        return max(float(np.interp(log, strengths, heights)) + below + above, 1.0) ** 2.5

    return compression


def counts(stored, guess_of):
    """How many strengths the search for the paper's targets takes on each stored curve."""
    numbers = []
    for (label, seed), runs in stored.items():
        known = search(through(runs), PAPER, guess_of(label, seed, runs))
        assert left(known, PAPER) == []
        numbers.append(len(known))
    return numbers


def shape(label, seed, runs):
    """What is known before any run: the shape, put between the strengths of CR 2 and 100, which a recipe gives."""
    parts = knobs.PENALTY if label.startswith("l1") else knobs.DECAY
    low, high = np.interp(np.log([2, 100]), np.log(list(runs.values())), np.log(list(runs)))
    return [(math.exp(low + part * 1.1 * (high - low)), float(ratio)) for ratio, part in parts.items()]


def test_stored_curves_need_few_runs(stored):
    """10 would be the fewest. With what another seed or a trial of the same settings says they are fewer."""
    alone = counts(stored, shape)

    def known(label, seed, runs):
        other = stored.get((label, (seed + 1) % 3), runs)
        return fitted(shape(label, seed, runs), other)

    helped = counts(stored, known)
    assert (mean(alone) <= 13.5, max(alone) <= 15) == (True, True)
    assert (mean(helped) <= 12.2, max(helped) <= 14) == (True, True)


def test_a_guess_goes_through_the_runs_of_another_seed():
    shape = [(1e-4, 2.0), (2e-4, 10.0), (4e-4, 100.0), (8e-4, 300.0)]
    assert fitted(shape, {3e-4: 10.0}) == shape  # one run says no width
    moved = {ratio: strength for strength, ratio in fitted(shape, {4e-4: 10.0, 8e-4: 100.0, 2e-3: math.inf})}
    assert moved == {
        2: pytest.approx(2e-4),
        10: pytest.approx(4e-4),
        100: pytest.approx(8e-4),
        300: pytest.approx(1.6e-3),
    }
    wider = {ratio: strength for strength, ratio in fitted(shape, {2e-4: 2.0, 8e-4: 10.0})}
    assert wider[100] == pytest.approx(3.2e-3)
    assert wider[300] == pytest.approx(12.8e-3)


# ---------------------------------------------------------------- curves that are not smooth


def test_seeds_that_scatter_are_searched_none_the_less():
    for seed in range(20):
        noise = random.Random(seed)
        curve = rising(1e-4, 1e-2)
        known = search(
            lambda strength, noise=noise, curve=curve: max(1, curve(strength) * noise.uniform(0.9, 1.1)), SEVEN
        )
        assert left(known, SEVEN) == []
        assert len(known) <= 15


def test_a_curve_that_jumps_over_a_target_is_given_up_at_the_jump():
    known = search(lambda strength: rising(1e-4, 1e-2)(strength) * (1 if strength < 1e-3 else 6), [10, 60, 100])
    assert left(known, [10, 60, 100]) == [100]  # from CR 43 to CR 260
    assert len(known) <= 14
    around = [min(s for s in known if s >= 1e-3), max(s for s in known if s < 1e-3)]
    assert around[0] / around[1] < CLOSEST**2.3


def test_networks_that_die_bound_the_search_from_above():
    known = search(lambda strength: rising(1e-4, 1e-2)(strength) if strength < 2e-3 else math.inf, [5, 300])
    assert left(known, [5, 300]) == [300]
    assert len(known) <= 10
    dead = min(strength for strength, ratio in known.items() if ratio == math.inf)
    alive = max(strength for strength, ratio in known.items() if ratio < math.inf)
    assert dead / alive < EDGE**2.3


def test_a_network_that_died_below_living_ones_was_bad_luck():
    assert further({1e-3: 8.0, 2e-3: math.inf, 4e-3: 15.0}, [10], 9) == []
    (again,) = further({1e-3: 8.0, 2e-3: math.inf, 4e-3: 32.0}, [16], 9)
    assert 1e-3 < again < 4e-3


@pytest.mark.parametrize("targets", [[3], [20], [200], [3, 20, 200]])
def test_a_death_by_bad_luck_ends_no_search(targets):
    """The run that comes first, second, ... dies, wherever its strength lies; the search goes on beside it."""
    curve = rising(1e-4, 1e-2)
    for place in range(6):
        trained = {}

        def compression(strength, trained=trained, place=place):
            trained[strength] = math.inf if len(trained) == place else curve(strength)
            return trained[strength]

        assert left(search(compression, targets, max_runs=16), targets) == []


def test_deaths_on_the_way_to_a_target_are_no_bad_luck_for_ever():
    """Below a strength all networks die, as without enough decay."""
    known = search(lambda strength: rising(1e-4, 1e-2)(strength) if strength > 2e-4 else math.inf, [3, 100])
    assert left(known, [3, 100]) == [3]
    assert len(known) <= 10


def test_where_all_networks_die_the_search_goes_down():
    known = search(lambda strength: rising(1e-5, 1e-4)(strength) if strength < 1e-4 else math.inf, [5, 20])
    assert left(known, [5, 20]) == []
    assert len(known) <= 14


def test_a_curve_that_levels_off_is_given_up():
    known = search(lambda strength: min(rising(1e-4, 1e-2)(strength), 80.0), [20, 300])
    assert left(known, [20, 300]) == [300]
    assert len(known) <= 9


def test_a_curve_that_falls_again_is_given_up_beyond_its_top():
    """As one by subgradients does at rates that are too high: the network dies and its weights stay above zero."""

    def compression(strength):
        return rising(1e-4, 1e-2)(strength if strength < 1e-3 else 1e-6 / strength)

    known = search(compression, [10, 300])
    assert left(known, [10, 300]) == [300]
    assert len(known) <= 7


def test_a_curve_that_rises_slowly_from_cr_1_is_waited_for():
    known = search(lambda strength: 1 + 3 * strength / (strength + 0.1) + 1e3 * strength**2, [5], max_runs=16)
    assert left(known, [5]) == []


def test_a_curve_that_never_leaves_cr_1_is_given_up():
    known = search(lambda strength: 1.0, [5, 50], max_runs=16)
    assert left(known, [5, 50]) == [5, 50]
    assert len(known) <= 8


def test_a_search_is_a_function_of_what_is_trained():
    """So that an interrupted command chooses the same strengths, whatever the order of the records."""
    known = search(rising(1e-4, 1e-2), SEVEN)
    for some in itertools.islice(itertools.permutations(list(known.items())[:5]), 0, 120, 17):
        assert further(dict(some), SEVEN, 30) == further(dict(list(known.items())[:5]), SEVEN, 30)


def test_strengths_have_three_digits_or_four_where_three_do_not_tell_them_apart():
    assert search(rising(1e-4, 1e-2), SEVEN).keys() == {
        float(f"{strength:.3g}") for strength in search(rising(1e-4, 1e-2), SEVEN)
    }
    steep = search(rising(1e-3, 1.1e-3), SEVEN, guess=((1e-3, 2), (1.1e-3, 300)))
    assert all(strength == float(f"{strength:.4g}") for strength in steep)


@pytest.mark.parametrize("dies", [3e-4, 1.0])
def test_a_range_that_begins_too_high_is_left(dies):
    """At its lower end, which was a guess, networks die already, or have a higher CR than any target."""
    curve = rising(1e-5, 1e-4)

    def compression(strength):
        return math.inf if strength > dies else curve(strength)

    known = search(compression, [5, 10], guess=((1e-3, 2), (1e-1, 300)), max_runs=16)
    assert left(known, [5, 10]) == []


@pytest.mark.parametrize(
    ("jump", "guess", "most"), [(0.03, ((1e-2, 2), (1.0, 300)), 12), (1e-3, ((1e-4, 2), (1e-2, 300)), 10)]
)
def test_a_jump_is_found_by_halves(jump, guess, most):
    """Where a curve has only CRs far above and below its target, the secant would crawl from one end."""
    known = search(lambda strength: 1000.0 if strength > jump else 1.0, [10], guess, max_runs=16)
    low, high = max(one for one in known if one <= jump), min(one for one in known if one > jump)
    assert high / low < 1.03
    assert len(known) <= most
