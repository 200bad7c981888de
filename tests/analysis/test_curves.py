"""Curves from records: small numbers that can be checked by hand."""

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from dwfbench.analysis import cautions, curves
from dwfbench.analysis.frames import mean_layers
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from dwfbench.show import tables
from tests.records import changed, typed

SPEC = {
    **{
        "method": "snip",
        "model": "lenet",
        "dataset": "mnist",
        "seed": 0,
        "strength": 0.0,
        "compression": 1.0,
    },
    **{"epochs": 60, "lr": 0.1, "options": {}},
}


def record(cr, accuracy, label="snip", knob="compression", status="ok", checksum="abc", target=None, **spec):
    """A run with achieved CR `cr` and accuracy in percent; options are passed as options={...}."""
    spec = SPEC | {"compression": cr if target is None else target} | spec
    content = {
        **{
            "id": f"{label}{sorted(spec.items())}",
            "status": status,
            "label": label,
            "knob": knob,
            "spec": spec,
        },
        **{"test_accuracy": accuracy and accuracy / 100, "val_accuracy": 0.5, "compression": cr},
        **{
            "effective_compression": cr,
            "connected": True,
            "macs_dense": 100,
            "macs_sparse": 25,
            "seconds": 2.0,
        },
        "layers": [
            {"name": "a", "shape": [10], "numel": 10, "nnz": 5},
            {"name": "b", "shape": [10, 4], "numel": 4, "nnz": 0},
        ],
        "history": [{"epoch": 1, "val_accuracy": 0.4, "compression": math.inf, "misalignment": None, "lr": 0.1}],
        "provenance": {"data_checksum": checksum},
    }
    return typed(content)


def curve(points, **options):
    return [record(cr, accuracy, **options) for cr, accuracy in points]


def dense(accuracy, **options):
    return record(1.0, accuracy, label="dense", knob=None, method="dense", **options)


def panel():
    """Three seeds of snip, which ends at CR 8 and 90 %, and one of grasp, which falls by half a point to CR 16."""
    snip = [run for seed in range(3) for run in curve([(2, 98 + seed / 10), (4, 94), (8, 90)], seed=seed)]
    grasp = curve([(2, 98), (4, 97.9), (8, 97.8), (16, 97.5)], label="grasp", method="grasp")
    return [*snip, *grasp, *(dense(98 + seed / 10, seed=seed) for seed in range(3))]


# --- frames


def test_frame_is_one_row_per_usable_run_in_percent():
    runs = [record(2, 90), record(4, None, status="diverged"), record(None, 10, target=8), record(2, 90)]
    row = ResultSet(runs).runs
    assert len(row) == 1  # diverged, no compression, given twice
    assert row.accuracy[0] == pytest.approx(90)
    assert row.macs[0] == 0.25
    assert row.knob_value[0] == 2
    assert list(ResultSet(runs).failures.status) == ["diverged", "ok"]


def test_a_curve_is_what_differs_in_seed_and_knob_only():
    runs = ResultSet([record(2, 90), record(4, 80), record(2, 91, seed=1), record(2, 92, lr=0.2)]).runs
    assert list(runs.curve == runs.curve[0]) == [True, True, True, False]


def test_the_knob_value_of_a_strength_method_is_its_strength():
    assert ResultSet([record(50, 90, knob="strength", strength=3e-4)]).runs.knob_value[0] == 3e-4


def test_shared_labels_are_told_apart_by_what_differs():
    def labels(*runs):
        return list(ResultSet(runs).runs.label)

    assert labels(record(2, 90), record(2, 90, epochs=100)) == ["snip (epochs=60)", "snip (epochs=100)"]
    assert labels(record(2, 90, label="a (b)"), record(2, 90, label="a (b)", lr=0.2))[1] == "a (b, lr=0.2)"
    assert labels(record(2, 90), record(2, 90, options={"at": "init"})) == ["snip", "snip (at=init)"]
    assert labels(record(2, 90), record(2, 90, dataset="kmnist", epochs=9)) == ["snip", "snip"]
    assert labels(record(2, 90), record(4, 90, seed=1)) == ["snip", "snip"]


def test_a_record_without_a_later_field_belongs_to_the_same_curve():
    older, newer = record(2, 90), record(4, 89, image_size=None, nesterov=False)
    assert ResultSet([older, newer]).runs["curve"].nunique() == 1
    assert set(ResultSet([older, newer]).runs["label"]) == {"snip"}


def test_layers_and_their_mean_over_seeds():
    layers = ResultSet([record(2, 90), record(8, 90, seed=1, target=2)]).layers
    assert list(layers.density) == [0.5, 0, 0.5, 0]
    means = mean_layers(layers)
    assert list(means.layer) == ["a", "b"]
    assert means["compression"].to_list() == pytest.approx([3.2, 3.2])  # of the mean of the densities 1/2 and 1/8


# --- interpolation


def test_interpolation_is_linear_in_log_compression_and_says_where_from():
    found = curves.interpolate(ResultSet(curve([(2, 99), (4, 89)])).runs, [math.sqrt(8)]).iloc[0]
    assert found.accuracy == pytest.approx(94)  # log sqrt(8) is half way between log 2 and log 4
    assert (found.runs["below"], found.runs["above"]) == (pytest.approx(2), pytest.approx(4))
    assert len(set(found.runs["ids"])) == 2


def test_interpolation_never_extrapolates_but_forgives_rounding():
    frame = ResultSet(curve([(5.001, 99), (9.9996, 89)])).runs
    found = curves.interpolate(frame, [4.9, 5, 10, 10.1]).accuracy.to_numpy()
    np.testing.assert_allclose(found, [np.nan, 99, 89, np.nan])


def test_two_distant_runs_say_nothing_of_what_lies_between():
    runs = [*curve([(2.3, 92), (1141, 59)]), *curve([(2.3, 91), (4.5, 90), (1141, 60)], seed=1)]
    found = curves.matched(ResultSet(runs).runs, at=[2.3, 3, 5, 50]).set_index("compression")
    at_three = 91 - math.log(3 / 2.3) / math.log(4.5 / 2.3)
    assert found.accuracy.to_list() == pytest.approx([91.5, at_three, math.nan, math.nan], nan_ok=True)
    assert found.n.to_list() == [2, 1, 0, 0]
    near = [(each["seed"], each["accuracy"], each["below"], each["above"]) for each in found.seeds[5]]
    assert near == [
        (0, None, pytest.approx(2.3), pytest.approx(1141)),
        (1, None, pytest.approx(4.5), pytest.approx(1141)),
    ]
    assert curves.matched(ResultSet(runs).runs, at=[50], max_gap=500).n.to_list() == [2]


def test_equal_compressions_are_averaged_and_both_runs_named():
    frame = ResultSet([record(2, 90, target=2), record(2, 94, target=3)]).runs
    found = curves.interpolate(frame, [2]).iloc[0]
    assert found.accuracy == pytest.approx(92)
    assert found.runs["ids"] == sorted(frame.id)


def test_a_ratio_below_one_is_refused():
    with pytest.raises(UsageError, match="no compression ratio"):
        curves.matched(ResultSet(curve([(1, 99)])).runs, at=[0])


def test_matched_agrees_with_scipys_t_interval():
    values = [97.0, 97.4, 98.1]
    frame = ResultSet([record(10, value, seed=seed) for seed, value in enumerate(values)]).runs
    row = curves.matched(frame, at=[10]).iloc[0]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (row.accuracy, row.n) == (pytest.approx(np.mean(values)), 3)
    assert row.ci95 == pytest.approx((high - low) / 2)


def test_two_equal_values_have_no_interval():
    """As paired differences have none (`statistics.intervals`): they are equal by chance on a small test set."""
    runs = [run for seed in range(3) for run in curve([(2, 96)], seed=seed)]
    assert math.isnan(ResultSet(runs[:2]).at([2]).ci95[0])
    assert ResultSet(runs).at([2]).ci95[0] == 0


def test_matched_counts_the_seeds_that_reach_a_ratio():
    frame = ResultSet(curve([(2, 98), (10, 96)]) + curve([(2, 97)], seed=1)).runs
    row = curves.matched(frame, at=[2, 10, 30]).set_index("compression")
    assert row.n.to_list() == [2, 1, 0]
    assert row.accuracy.to_list() == pytest.approx([97.5, 96, np.nan], nan_ok=True)
    assert math.isnan(row.ci95[10])  # one seed has no interval


# --- tolerance


def crossing(points, tolerance=1, relative=False, reference=98.0):
    frame = ResultSet([dense(reference), *curve(points)]).runs
    return curves.at_tolerance(frame, [tolerance], relative).iloc[0]


def test_the_crossing_by_hand():
    found = crossing([(50, 98), (100, 96)])  # 97 is half way
    assert found.compression == pytest.approx(math.sqrt(5000))
    assert not found.censored
    assert [(each["below"], each["above"]) for each in found.seeds] == [(pytest.approx(50), pytest.approx(100))]


def test_a_crossing_in_a_hole_is_not_given():
    for tolerance in (0.5, 1, 1.9):
        found = crossing([(2, 98), (50, 96)], tolerance)
        assert math.isnan(found.compression)
        assert (found.n, bool(found.censored)) == (0, False)
        assert (found.seeds[0]["below"], found.seeds[0]["above"]) == (pytest.approx(2), pytest.approx(50))


def test_a_relative_tolerance_is_a_fraction_of_dense():
    found = crossing([(5, 50), (10, 48)], 2, relative=True, reference=50)
    assert found.compression == pytest.approx(math.sqrt(50))


def test_a_relative_tolerance_is_one_in_points_of_dense():
    runs = ResultSet([dense(80), *curve([(2, 79), (10, 77), (20, 60)])]).runs
    points, relative = curves.at_tolerance(runs, [4, 8]), curves.at_tolerance(runs, [5, 10], relative=True)
    assert relative.compression.to_list() == pytest.approx(points.compression.to_list())  # 5 % of 80 are 4 points
    assert relative.compression[0] == pytest.approx(10 * 2 ** (1 / 17))  # at 76, a 17th of the way from 77 to 60


def test_a_curve_that_stays_within_is_censored():
    found = crossing([(2, 98), (50, 97.5)])
    assert found.compression == pytest.approx(50)
    assert found.censored


def test_a_curve_that_starts_below_has_no_value():
    assert math.isnan(crossing([(2, 90), (4, 80)]).compression)


def test_meeting_the_tolerance_exactly_counts():
    assert crossing([(2, 97.3), (4, 90)], reference=98.3).compression == pytest.approx(2)


def test_the_reference_is_dense_of_the_same_budget_or_of_the_nearest():
    runs = [dense(98), dense(94, epochs=15), dense(96, seed=1)]
    runs += [run for epochs in (7, 30, 60, 300) for run in curve([(2, 97)], epochs=epochs)]
    found = curves.at_tolerance(ResultSet(runs).runs, [1]).set_index("label")["dense"].to_dict()
    names = [f"snip (epochs={epochs})" for epochs in (7, 30, 60, 300)]
    assert [found[name] for name in names] == pytest.approx([94, 97, 97, 97]), "30 is as near to 60 as to 15"
    lines = cautions.warnings(ResultSet(runs).runs)
    assert "mnist/lenet: no dense run of 7, 30, 300 epochs; those of the nearest number stand in." in lines
    assert not any("several dense settings" in line for line in lines)


def test_a_dense_curve_of_several_is_worth_its_own_runs():
    runs = [*(dense(accuracy, lr=rate) for accuracy, rate in ((90, 0.1), (80, 0.3))), *curve([(2, 84)])]
    table = tables.compare(ResultSet(runs), tables.Question(at=[2])).set_index("Method")
    assert table["Dense"].to_dict() == {"dense (lr=0.1)": 90, "dense (lr=0.3)": 80, "snip": 85}


def test_without_dense_there_is_no_value():
    found = curves.at_tolerance(ResultSet(curve([(2, 98)])).runs, [1]).iloc[0]
    assert math.isnan(found.compression)
    assert math.isnan(found.dense)


def test_seeds_are_averaged_geometrically():
    runs = [dense(98), *curve([(3, 98), (16 / 3, 96)]), *curve([(80, 98), (125, 96)], seed=1)]
    found = curves.at_tolerance(ResultSet(runs).runs, [1]).iloc[0]
    assert found.compression == pytest.approx(20)  # of 4 and 100
    assert found.n == 2


# --- area


def area(runs, *span, **options):
    return curves.area(ResultSet(runs).runs, *span, **options).set_index("label")


def test_the_area_of_a_line_is_its_middle():
    assert area(curve([(2, 100), (4, 90), (8, 80)]), 2, 8).area["snip"] == pytest.approx(90)
    assert area(curve([(2, 100), (4, 80)]), 2, math.sqrt(8)).area["snip"] == pytest.approx(95)


def test_chance_counts_beyond_the_last_run_and_a_weak_curve_shrinks_no_range():
    runs = curve([(2, 90), (4, 85), (8, 80)]) + curve(
        [(2, 95), (4, 94), (8, 93), (16, 92)], label="grasp", method="grasp"
    )
    found = area([*runs, *curve([(40, 99)], label="l1", method="l1")], 2, 16)
    assert found.area["snip"] == pytest.approx((2 * 85 + 10) / 3)  # two thirds of its line, one of chance
    assert found.area["grasp"] == pytest.approx(93.5)
    assert (set(found.low), set(found.high)) == ({2}, {16})
    assert math.isnan(found.area["l1"])  # nothing of it lies in the range
    made = found.seeds["snip"][0]
    assert (made["first"], made["last"], made["holes"]) == (pytest.approx(2), pytest.approx(8), [])


def test_a_curve_that_begins_within_the_range_has_no_area():
    """As SNIP of a published set, run from CR 97 on: of CR 10 to 100 it had 13.6 %, nearly all of it chance."""
    runs = curve([(4, 90), (8, 80), (16, 70)]) + curve(
        [(2, 95), (4, 94), (8, 93), (16, 92)], label="grasp", method="grasp"
    )
    table = tables.compare(ResultSet([*runs, dense(99)]), tables.Question(at=[2, 16]))
    made = tables.made_of(table, "Area")
    assert [entry["area"] for entry in made["mnist/lenet", "snip"]] == [None]
    assert "mnist/lenet: no run of snip between CR 2 and 4 (seed 0)." in map(str, cautions.of_neighbours(made))
    assert area(runs, 4, 16).area["snip"] == pytest.approx(80)


def test_a_hole_in_the_range_leaves_no_area():
    runs = curve([(2, 95), (4, 90), (40, 80)]) + curve([(2, 95), (4, 90)], seed=1)
    found = area(runs, 2, 4)
    assert (found.n["snip"], found.area["snip"]) == (2, pytest.approx(92.5))
    found = area(runs, 2, 8)
    assert (found.n["snip"], found.area["snip"]) == (1, pytest.approx((92.5 + 10) / 2))  # of seed 1 alone
    assert found.seeds["snip"][0]["holes"] == [[pytest.approx(4), pytest.approx(40)]]
    assert area(runs, 2, 8, max_gap=10).n["snip"] == 2


def test_a_network_of_unknown_classes_has_an_area_only_where_it_reaches():
    runs = [changed(run, layers=[{"name": "a", "numel": 10, "nnz": 5}]) for run in curve([(2, 98), (4, 96)])]
    assert area(runs, 2, 4).area["snip"] == pytest.approx(97)
    assert math.isnan(area(runs, 2, 5).area["snip"])


def test_one_ratio_has_no_area_and_an_impossible_range_is_refused():
    assert math.isnan(area(curve([(2, 98), (4, 90)]), 3, 3).area["snip"])
    for low, high in [(10, 2), (0.5, 3)]:
        with pytest.raises(UsageError, match="range"):
            area(curve([(2, 98), (4, 90)]), low, high)


# --- bands


def band_at_ten(*accuracies):
    runs = [record(10, value, seed=seed) for seed, value in enumerate(accuracies)]
    return curves.bands(ResultSet(runs).runs).iloc[0]


def test_bands_follow_the_number_of_seeds():
    assert math.isnan(band_at_ten(97).lower)
    assert (band_at_ten(97, 98).lower, band_at_ten(97, 98).upper) == (pytest.approx(97), pytest.approx(98))
    three = band_at_ten(96, 97, 98)
    assert three.upper - three.accuracy == pytest.approx(stats.t.ppf(0.975, 2) / math.sqrt(3))


def test_a_mean_line_ends_where_half_of_the_seeds_do():
    runs = curve([(5, 98), (10, 90)]) + curve([(5, 98), (8, 95)], seed=1) + curve([(5, 98), (6, 96)], seed=2)
    grid = curves.bands(ResultSet(runs).runs)
    assert grid.compression.max() == pytest.approx(8)
    assert grid.n.min() == 2


def test_a_mean_line_is_broken_in_a_hole():
    runs = [run for seed in range(2) for run in curve([(2, 98), (4, 96), (40, 80), (60, 79)], seed=seed)]
    grid = curves.bands(ResultSet(runs).runs).set_index("compression")
    blank = grid[grid.accuracy.isna()]
    assert (blank.index > 4).all()
    assert (blank.index < 40).all()
    assert len(blank)
    assert grid.accuracy.loc[[2, 4, 40, 60]].to_list() == [98, 96, 80, 79]


# --- cautions


def test_warnings_are_about_seeds_budgets_data_reference_and_failures():
    runs = [record(2, 90), record(2, 90, epochs=9, checksum="other"), record(4, None, status="diverged")]
    lines = cautions.warnings(ResultSet(runs).runs, ResultSet(runs).failures)
    for part in ("fewer than 3 seeds", "9, 60 epochs", "2 different versions", "no dense run", "1 diverged"):
        assert any(part in line for line in lines), part
    assert any("of 9 epochs" in line for line in cautions.warnings(ResultSet([*runs, dense(98)]).runs))
    several = ResultSet([*panel(), dense(97, lr=0.3)]).runs
    assert any("several dense settings" in line for line in cautions.warnings(several))


def test_runs_of_several_machines_are_told():
    first, second, *others = panel()
    made = [{"device_name": device, "versions": {"torch": "2.15.0"}} for device in "AB"]
    runs = [changed(first, provenance=made[0]), changed(second, provenance=made[1]), *others]
    lines = cautions.warnings(ResultSet(runs).runs, ResultSet(runs).failures)
    assert "runs of different devices are compared: A, B." in "\n".join(lines)
    assert not any("torch" in line for line in lines)


def test_runs_that_ended_well_and_are_no_results_are_told():
    runs = [
        *panel(),
        *(record(300, 10.9, seed=seed) for seed in (0, 1)),
        changed(record(100, 90, label="grasp", method="grasp"), connected=False),
        record(1.01, 98, target=5, seed=1),
    ]
    lines = cautions.warnings(ResultSet(runs).runs)
    assert "mnist/lenet: no better than chance: snip at CR 300 (seeds 0, 1)." in lines
    assert "mnist/lenet: no path from input to output: grasp at CR 100 (seed 0)." in lines
    assert "mnist/lenet: never left CR 1: snip at CR 1.01 (seed 1)." in lines


def test_holes_are_named_with_their_seeds():
    runs = curve([(2.3, 90), (1141, 60)]) + curve([(2.3, 90), (1141, 61)], seed=1) + curve([(2, 90), (9, 80)], seed=2)
    table = tables.compare(ResultSet(runs), tables.Question(at=[2, 5, 50]))
    assert cautions.of_neighbours(tables.made_of(table)) == [
        "mnist/lenet: no run of snip between CR 2 and 2.3, 2.3 and 1141 (seeds 0, 1); 2 and 9 (seed 2)."
    ]
    pruners = [run for method in ("b", "a") for run in curve([(2, 90), (9, 80)], label=method, method=method)]
    assert cautions.of_neighbours(tables.made_of(tables.compare(ResultSet(pruners), tables.Question(at=[3])))) == [
        "mnist/lenet: no run of a, b between CR 2 and 9 (seed 0)."
    ]
    alike = [
        run for seed, low in enumerate((50, 52, 54, 51)) for run in curve([(2, 99), (9, 90), (low, 80)], seed=seed)
    ]
    alike += curve([(20, 99), (300, 70)], seed=3)
    assert cautions.of_neighbours(tables.made_of(tables.compare(ResultSet(alike), tables.Question(at=[4, 30])))) == [
        "mnist/lenet: no run of snip between CR 2 and 9 (seeds 0 to 3); 9 and 20, 20 and 51 (seed 3); about 9 and 52 "
        "(seeds 0, 1, 2)."
    ]
    near = tables.compare(ResultSet(panel()), tables.Question(at=[2, 8]))
    assert cautions.of_neighbours(tables.made_of(near)) == []


def test_chance_in_an_area_is_told():
    runs = curve([(4, 90), (8, 80)]) + curve([(2, 95), (4, 94), (8, 93)], label="grasp", method="grasp")
    table = tables.compare(ResultSet([*runs, dense(99)]), tables.Question(at=[2, 16]))
    assert cautions.chances(tables.made_of(table, "Area")) == [
        "mnist/lenet: chance accuracy counts in the area of grasp above CR 8."
    ]


def test_nothing_to_warn_of():
    runs = [*panel(), *(record(2, 98, label="grasp", method="grasp", seed=seed) for seed in (1, 2))]
    assert cautions.warnings(ResultSet(runs).runs, ResultSet(runs).failures) == []


def test_empty_input_gives_empty_frames_with_their_columns():
    frame = ResultSet([]).runs
    for found in (curves.matched(frame), curves.at_tolerance(frame), curves.area(frame), curves.bands(frame)):
        assert found.empty
        assert list(found)[:3] == curves.KEYS
    for found in (ResultSet([]).failures, ResultSet([]).layers):
        assert found.empty
    assert mean_layers(ResultSet([]).layers).empty
    assert cautions.warnings(frame) == []


@pytest.mark.slow
def test_tables_and_figures_do_not_need_torch():
    code = "import sys, dwfbench.show.tables, dwfbench.show.mpl; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
