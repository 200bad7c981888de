"""Learning rates by hand."""

import pytest

from dwfbench.methods.stage import Stage, rate_multiples, rate_sum


def test_cosine_by_hand():
    # (1 + cos(0, 60, 120 degrees)) / 2
    assert rate_multiples((Stage(3),), 1, 0) == [pytest.approx([1, 0.75, 0.25])]


def test_there_is_a_factor_for_every_step_of_every_phase():
    assert [len(stage) for stage in rate_multiples((Stage(3), Stage(2)), 10, 1)] == [30, 20]


@pytest.mark.parametrize(("epochs", "steps", "warmup"), [(1, 1, 0), (5, 7, 0), (5, 7, 2), (2, 3, 2), (2, 3, 9)])
def test_every_step_moves_and_none_exceeds_the_peak(epochs, steps, warmup):
    (rates,) = rate_multiples((Stage(epochs, lr=0.5),), steps, warmup)
    assert len(rates) == epochs * steps
    assert all(0 < rate <= 0.5 for rate in rates)


def test_warm_up_is_linear_and_ends_at_the_peak():
    (rates,) = rate_multiples((Stage(4),), 4, 0.75)
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[3:] == pytest.approx(rate_multiples((Stage(13),), 1, 0)[0])  # a cosine over the steps that are left


def test_later_phases_restart_at_their_own_peak_without_warm_up():
    first, second = rate_multiples((Stage(2), Stage(4, lr=0.1)), 1, 1)
    assert first == pytest.approx([0.5, 1])
    assert second == pytest.approx([0.1 * x for x in rate_multiples((Stage(4),), 1, 0)[0]])
    assert second[0] == pytest.approx(0.1)


@pytest.mark.parametrize("steps", [1, 2, 100, 977])
def test_rate_sum_of_a_cosine_is_half_of_its_length(steps):
    # The cosines of t and T - t cancel; only t = 0 is left over.
    assert rate_sum(0.3, (Stage(steps),), 1, 0) == pytest.approx(0.3 * (steps + 1) / 2)


def test_rate_sum_adds_phases_and_warm_up():
    # Warm-up over 9 of 49 steps: 0.1 + ... + 0.9 = 4.5; cosine over 40: 20.5. Second phase: 0.5 * (10 + 1) / 2.
    assert rate_sum(2.0, (Stage(49), Stage(10, lr=0.5)), 1, 9) == pytest.approx(2 * (4.5 + 20.5 + 2.75))


def test_drops_are_tenfold_at_their_epochs():
    (rates,) = rate_multiples((Stage(160),), 2, 0, (60, 120))
    assert rates == pytest.approx([1.0] * 120 + [0.1] * 120 + [0.01] * 80)


def test_a_phase_has_its_drops_at_the_same_fractions():
    first, second = rate_multiples((Stage(8), Stage(4, lr=0.5)), 1, 0, (6, 9))
    assert first == pytest.approx([1.0] * 4 + [0.1] * 2 + [0.01] * 2)
    assert second == pytest.approx([0.5, 0.5, 0.05, 0.005])


def test_warm_up_comes_before_drops():
    (rates,) = rate_multiples((Stage(4),), 2, 1, (2,))
    assert rates == pytest.approx([1 / 3, 2 / 3, 1, 1, 0.1, 0.1, 0.1, 0.1])


def test_drops_by_another_factor():
    (rates,) = rate_multiples((Stage(3),), 1, 0, (1, 2), 5.0)
    assert rates == pytest.approx([1.0, 0.2, 0.04])
