"""The course of training: histories, phases and sizes of weights on runs small enough to check by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dwfbench.analysis import dynamics
from dwfbench.analysis.resultset import ResultSet
from dwfbench.sparsity.count import SIZE_EDGES, SIZES, count_sizes
from tests.records import changed, typed

NAN = math.nan


def steps(accuracy, compression, misalignment=None, norm=None, every=1):
    """A history: accuracies in percent, an epoch number every `every`, blanks where nothing is given."""
    blank = [None] * len(accuracy)
    columns = zip(accuracy, compression, misalignment or blank, norm or blank, strict=True)
    names = ("val_accuracy", "compression", "misalignment", "norm")
    rows = [dict(zip(names, row, strict=True)) for row in columns]
    return [
        {"epoch": every * place, **row, "val_accuracy": row["val_accuracy"] / 100} for place, row in enumerate(rows, 1)
    ]


def record(history=(), strength=0.1, seed=0, compression=10.0, method="dwf", knob="strength", **more):
    label = f"{method} D=3" if method == "dwf" else method
    spec = {"method": method, "dataset": "digits", "model": "lenet", "seed": seed, "strength": strength, "epochs": 4}
    spec |= {"compression": 1.0, "options": {"depth": 3} if method == "dwf" else {}}
    names = {"id": f"{label}/{strength}/{seed}", "status": "ok", "label": label, "knob": knob}
    results = {"test_accuracy": 0.9, "compression": compression, "history": list(history)}
    return typed({**names, "spec": spec, **results, **more})


def sizes(**counts):
    """A row of sizes: bins by name, m2 for -2; all others are empty."""
    named = {name.replace("m", "-").replace("_", "."): count for name, count in counts.items()}
    return dict.fromkeys(SIZES, 0) | named


# --- histories


def test_a_mean_is_of_most_seeds():
    """A seed that recorded every epoch does not lead the line where the other one is silent."""
    often, seldom = steps([10, 40, 20, 60], [2, 2, 2, 2]), steps([20, 80], [2, 2], every=2)
    means = dynamics.mean_histories(ResultSet([record(often), record(seldom, seed=1)]).history)
    assert means[["epoch", "val_accuracy", "n"]].to_numpy() == pytest.approx(np.array([[2, 30, 2], [4, 70, 2]]))


def test_histories_hold_percent_and_no_infinity():
    table = ResultSet([record(steps([40, 50], [2, None], [1, 0], [9, 8]), compression=4)]).history
    assert table.val_accuracy.to_list() == pytest.approx([40, 50])
    np.testing.assert_array_equal(table["compression"], [2, NAN])
    assert table.final_compression.to_list() == [4, 4]
    assert (table.misalignment.to_list(), table.norm.to_list()) == ([1, 0], [9, 8])


def test_histories_of_older_records_have_no_norm():
    old = steps([40], [2], [1])
    del old[0]["norm"]
    assert math.isnan(ResultSet([record(old)]).history.norm[0])


def test_means_over_seeds_are_geometric_but_for_accuracy():
    runs = [
        record(steps([90, 80], [1, 2], [4, 0], [1, 1]), seed=0, compression=2),
        record(steps([80, 80], [1, 8], [9, 1], [4, 9]), seed=1, compression=8),
    ]
    means = dynamics.mean_histories(ResultSet(runs).history)
    assert means.val_accuracy.to_list() == pytest.approx([85, 80])
    assert means["compression"].to_list() == pytest.approx([1, 4])
    assert means.final_compression.to_list() == pytest.approx([4, 4])
    assert means.misalignment.to_list() == pytest.approx([6, 0])
    assert means.norm.to_list() == pytest.approx([2, 3])
    assert means.n.to_list() == [2, 2]


def test_long_courses_are_smoothed_by_run_and_short_ones_are_not():
    long = [
        record(steps([10, 40] * 60, [1] * 120), seed=seed, strength=strength) for seed, strength in [(0, 1), (1, 2)]
    ]
    table, window = dynamics.smoothed(ResultSet(long).history)
    assert window == 2
    assert table.val_accuracy.to_list() == pytest.approx([10, *[25] * 119] * 2)  # nothing of the other run is mixed in
    short = ResultSet([record(steps([10, 40] * 30, [1] * 60))]).history
    table, window = dynamics.smoothed(short)
    assert window == 1
    assert table.equals(short)


@pytest.mark.parametrize(("most", "expected"), [(6, [0, 3, 5, 8, 10, 13]), (14, range(14)), (2, [0, 13])])
def test_shown_knob_values_are_spread_evenly_in_log_compression(most, expected):
    runs = [record(steps([90], [1]), strength=1 + power, compression=2.0**power) for power in range(14)]
    means = dynamics.mean_histories(ResultSet(runs).history)
    assert np.log2(dynamics.shown(means, most).final_compression).to_list() == pytest.approx(list(expected))


def test_shown_knob_values_are_chosen_for_each_curve():
    runs = [record(steps([90], [1]), strength=1.0 + i, compression=2.0**i) for i in range(8)]
    runs += [record(steps([90], [1]), strength=50.0, method="l1"), record(steps([90], [1]), method="dense", knob=None)]
    kept = dynamics.shown(dynamics.mean_histories(ResultSet(runs).history), 3)
    assert kept.groupby("label").size().to_dict() == {"dense": 1, "dwf D=3": 3, "l1": 1}


# --- phases


def phases(history, **more):
    return ResultSet([record(history, **more)]).phases.iloc[0]


def test_phases_of_a_run_that_dips_and_recovers():
    history = steps([60, 80, 75, 70, 78], [1, 1, 2, 5, 9], [3, 2, 0.5, 0.02, 0.01], [9, 8, 7, 4, 3], every=2)
    found = phases(history, compression=10)
    assert (found.onset, found.dip_epoch) == (6, 8)
    assert (found.dip, found.recovery) == pytest.approx((10, 8))
    assert found.aligned == 8  # 0.02 <= 1 % of 4, while 0.5 > 1 % of 7
    assert (found.norm_start, found.norm_end, found["compression"]) == (9, 3, 10)


def test_the_start_is_no_dip_though_it_is_the_lowest_accuracy():
    found = phases(steps([10, 90, 88, 92], [1, 1, 1, 1]))
    assert (found.dip, found.dip_epoch, found.recovery) == pytest.approx((2, 3, 4))


def test_a_run_that_only_rises_has_no_dip_and_no_onset():
    found = phases(steps([10, 20, 20, 30], [1, 1, 1 + 1e-7, 1]))
    assert found.dip == 0
    assert all(math.isnan(found[name]) for name in ("dip_epoch", "recovery", "onset", "aligned", "norm_start"))


@pytest.mark.parametrize(
    ("misalignment", "expected"),
    [([0, 0, 0], 1), ([1, 0, 1], NAN), ([0, 1, 0], 3), ([1, 1, 0.01], 3), ([1, 0.01, 0.011], NAN)],
)
def test_aligned_counts_from_where_it_lasts(misalignment, expected):
    found = phases(steps([1, 2, 3], [1, 1, 1], misalignment, [1, 1, 1]))
    assert found.aligned == pytest.approx(expected, nan_ok=True)


def test_an_empty_network_counts_as_sparse():
    assert phases(steps([10, 20, 30], [1, None, 2])).onset == 2


def test_one_zero_of_many_weights_is_the_onset():
    weights = [{"epoch": epoch, "sizes": sizes(zero=zero, m2=10**9)} for epoch, zero in ((1, 0), (2, 1))]
    assert phases(steps([10, 20], [1, 1]), weights=weights).onset == 2


def test_a_rounded_compression_gives_way_to_the_counted_weights():
    weights = [
        {"epoch": epoch, "sizes": sizes(zero=zero, m2=left)} for epoch, zero, left in ((1, 1, 266_199), (2, 9, 0))
    ]
    table = ResultSet([record(steps([10, 20, 30], [1, 2, 3]), weights=weights)]).history
    assert table.compression.to_list() == pytest.approx([266_200 / 266_199, NAN, 3], rel=1e-12, nan_ok=True)


def test_phases_of_records_without_history_or_weights_are_blank():
    found = phases([])
    assert found[dynamics.PHASES[len(dynamics.RUN) :]].isna().all()


def test_only_usable_runs_with_a_strength_have_phases():
    runs = [
        record(steps([10], [1])),
        record(steps([10], [1]), method="snip", knob="compression"),
        changed(record(steps([10], [1]), strength=0.2), status="diverged", compression=None),
    ]
    assert ResultSet(runs).phases[["label", "knob_value"]].to_numpy().tolist() == [["dwf D=3", 0.1]]


def test_phases_tell_one_mode_from_two():
    history = steps([10, 20, 30], [1, 2, 3])
    one = sizes(m3=1, m2_75=2, m2_5=1)
    at_onset, at_end = sizes(zero=1, m3=2, m2=1), sizes(zero=1, m2=1)
    rows = [{"epoch": epoch, "sizes": row} for epoch, row in enumerate((one, at_onset, at_end), 1)]
    found = phases(history, weights=rows)
    assert found.bimodality_end == pytest.approx(1)
    places = [math.log10(1.19e-7) - 0.125, -2.875, -2.875, -1.875]
    assert found.bimodality_onset == pytest.approx(sarle(places))


# --- bimodality


def sarle(values):
    return (stats.skew(values) ** 2 + 1) / stats.kurtosis(values, fisher=False)


@pytest.mark.parametrize("counts", [(5, 5), (1, 999), (3, 0, 7)])
def test_two_values_have_bimodality_1(counts):
    assert dynamics.bimodality(np.arange(len(counts)), np.array(counts)) == pytest.approx(1)


def test_bimodality_of_the_uniform_and_the_normal_distribution():
    grid = np.linspace(-8, 8, 2001)
    assert dynamics.bimodality(grid, np.ones(2001)) == pytest.approx(5 / 9, abs=1e-5)
    assert dynamics.bimodality(grid, np.exp(-(grid**2) / 2)) == pytest.approx(1 / 3, abs=1e-9)


def test_a_single_value_has_no_bimodality():
    assert math.isnan(dynamics.bimodality(np.array([1.0, 2.0]), np.array([0, 9])))


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=30), st.floats(0.01, 100), st.floats(-100, 100))
def test_bimodality_is_that_of_scipy_within_its_bounds_and_without_unit(counts, scale, shift):
    values, counts = np.arange(len(counts), dtype=float), np.array(counts)
    if np.count_nonzero(counts) < 2:
        return
    found = dynamics.bimodality(values, counts)
    assert 0 < found <= 1 + 1e-9
    assert found == pytest.approx(sarle(np.repeat(values, counts)), rel=1e-6)
    assert dynamics.bimodality(scale * values + shift, counts) == pytest.approx(found, rel=1e-6)


# --- sizes of weights


def spread_weights(epochs):
    return [{"epoch": epoch, "sizes": sizes(zero=3, m2=1)} for epoch in epochs]


def test_weights_are_shares_of_bins_that_touch():
    counts = count_sizes([torch.tensor([[0.0, 1e-8, 1.5e-5, 3.0]])])[0].tolist()
    rows = [{"epoch": 1, "sizes": dict(zip(SIZES, counts, strict=True))}]
    table = ResultSet([record(steps([10], [2]), weights=rows)]).weights()
    assert len(table) == len(SIZES)
    full = table[table.share > 0]
    assert full.share.to_list() == pytest.approx([50, 25, 25])
    assert (full.low.to_list()[1:], full.high.to_list()[1:]) == ([-5, 0], [-4.75, 0.25])
    assert full.high[0] == pytest.approx(math.log10(1.19e-7), abs=1e-3)  # what counts as zero ends here
    np.testing.assert_array_equal(table.low[1:], table.high[:-1])
    assert table.low.to_list()[2:] == list(SIZE_EDGES[1:])


def test_the_run_nearest_in_log_compression_of_the_first_seed_is_taken():
    runs = [
        record(steps([10], [2]), strength=strength, seed=seed, compression=cr, weights=spread_weights([1]))
        for strength, seed, cr in [(0.1, 1, 20.0), (0.2, 1, 150.0), (0.3, 2, 100.0), (0.4, 1, 1000.0)]
    ]
    chosen = [set(ResultSet(runs).weights(cr).knob_value) for cr in (100, 400, 50)]
    assert chosen == [{0.2}, {0.4}, {0.1}]  # 400 is nearer to 1000 than to 150 in log CR only; 50 to 20


@pytest.mark.parametrize(
    ("zeros", "expected"),
    [
        ([0] * 9, [1, 3, 5, 7, 9]),
        ([0, 0, 0, 1, 2, 5, 30, 50, 68, 75, 80, 90, 93, 96, 98, 99, 99], [1, 4, 11, 14, 17]),  # CR 1.01, 5, 25, 100
        ([0] * 9 + [99], [1, 3, 5, 7, 10]),
        ([0, 0, 50], [1, 2, 3]),
        ([100] * 9, [1, 3, 5, 7, 9]),
        ([0], [1]),
    ],
)
def test_five_epochs_are_shown_with_the_onset_and_those_between_in_compression(zeros, expected):
    history = steps([10] * len(zeros), [100 / (100 - zero) if zero < 100 else None for zero in zeros])
    weights = [{"epoch": epoch, "sizes": sizes(zero=zero, m2=100 - zero)} for epoch, zero in enumerate(zeros, 1)]
    table = ResultSet([record(history, weights=weights)]).weights()
    assert table.epoch.unique().tolist() == expected


def test_runs_without_a_strength_or_weights_are_left_out():
    runs = [
        record(steps([10], [2])),
        record(steps([10], [2]), strength=0.2, weights=[]),
        record(steps([10], [2]), method="snip", knob="compression", weights=spread_weights([1])),
    ]
    assert ResultSet(runs).weights().empty


def test_empty_input_gives_empty_tables_with_their_columns():
    table = ResultSet([]).history
    assert table.empty
    assert list(table) == dynamics.DYNAMICS
    means = dynamics.mean_histories(table)
    assert means.empty
    assert dynamics.shown(means).empty
    for found, columns in ((ResultSet([]).phases, dynamics.PHASES), (ResultSet([]).weights(), dynamics.WEIGHTS)):
        assert found.empty
        assert list(found) == columns
