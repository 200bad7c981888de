"""Runs that ended well and are no results."""

import pytest

from dwfbench.analysis.soundness import CUT_OFF, GUESSING, STUCK, chance, unsound
from tests.analysis.test_curves import dense, record
from tests.records import changed


def why(*runs):
    found = unsound(runs)
    assert found.keys() <= {run.id for run in runs}
    return [found.get(run.id) for run in runs]


def test_chance_is_what_the_record_says():
    assert chance(changed(record(2, 90), chance=0.35)) == 0.35
    assert chance(changed(record(2, 90), score="r2")) == 0
    assert chance(changed(record(2, 90), score="r2", chance=0.0)) == 0


def test_chance_is_known_from_the_last_layer_in_records_of_earlier_versions():
    assert chance(record(2, 90)) == 0.1
    assert chance(changed(record(2, 90), layers=[{"name": "a", "numel": 4, "nnz": 4}])) is None
    assert chance(changed(record(2, 90), layers=[])) is None


@pytest.mark.parametrize(("accuracy", "expected"), [(9.8, GUESSING), (10.9, GUESSING), (11.2, None), (90, None)])
def test_a_run_no_better_than_chance(accuracy, expected):
    assert why(record(50, accuracy)) == [expected]
    assert why(dense(accuracy)) == [expected]


def test_with_few_classes_chance_is_a_point_wide():
    layers = [{"name": "a", "shape": [2, 3], "numel": 6, "nnz": 6}]
    assert why(*(changed(record(cr, percent), layers=layers) for cr, percent in ((5, 50.9), (6, 51.2)))) == [
        GUESSING,
        None,
    ]


def test_where_almost_all_are_of_one_class_chance_is_narrow():
    """0.1 % above 99 %, which a tenth of chance, and a point, would pass."""
    assert why(*(changed(record(cr, percent), chance=0.99) for cr, percent in ((5, 99.05), (6, 99.2)))) == [
        GUESSING,
        None,
    ]


def test_a_run_without_a_test_accuracy_is_judged_by_validation():
    assert why(changed(record(5, None), val_accuracy=0.1), changed(record(6, None), val_accuracy=0.9)) == [
        GUESSING,
        None,
    ]


def test_a_network_without_a_path_is_cut_off_whatever_its_accuracy():
    assert why(changed(record(50, 90), connected=False), changed(record(60, 10), connected=False)) == [CUT_OFF, CUT_OFF]
    assert why(changed(record(50, 90), connected=None)) == [None]


def test_a_pruner_that_was_asked_for_more_is_stuck_at_one():
    assert why(record(1.04, 90, target=10), record(1.06, 90, target=9), record(1.0, 90, target=1)) == [
        STUCK,
        None,
        None,
    ]


def test_a_strength_is_stuck_only_if_no_strength_of_its_curve_and_seed_compresses():
    def run(cr, strength, **options):
        return record(cr, 90, knob="strength", strength=strength, **options)

    assert why(run(1.0, 1e-6), run(1.02, 1e-5)) == [STUCK, STUCK]
    assert why(run(1.0, 1e-6), run(9, 1e-3)) == [None, None]
    assert why(run(1.0, 1e-6), run(9, 1e-3, seed=1)) == [STUCK, None]
    assert why(run(1.0, 1e-6), run(9, 1e-3, lr=0.3)) == [STUCK, None]
    assert why(run(1.0, 0.0)) == [None]  # nothing was asked for


def test_runs_that_ended_badly_have_their_own_status():
    assert why(record(None, None, status="diverged"), record(None, 10)) == [None, None]
