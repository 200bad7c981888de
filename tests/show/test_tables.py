"""Tables of curves and of differences: what a row holds, what its text shows."""

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwfbench.analysis import statistics
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from dwfbench.base.text import aligned
from dwfbench.runs.store import Store
from dwfbench.show import tables
from tests.analysis.test_curves import curve, dense, panel, record
from tests.records import changed

# --- compare


def test_compare_puts_dense_first_then_falls_by_area():
    table = tables.compare(ResultSet(panel()), tables.Question(at=[2, 8, 16]))
    assert table.Method.to_list() == ["dense", "grasp", "snip"]
    assert table["CR 2"].to_list() == pytest.approx([np.nan, 98, 98.1], nan_ok=True)
    assert table["CR 16 n"].to_list() == [0, 1, 0]
    assert table.Dense.to_list() == pytest.approx([98.1] * 3)
    assert {"CR@-1pt", "CR@-5pt censored", "Area ci95"} <= set(table)


def test_rows_are_ordered_by_the_column_asked_for_with_blanks_last():
    runs = [*panel(), *curve([(2, 99), (40, 98)], label="z", method="z")]

    def order(sort, runs=runs):
        return tables.compare(ResultSet(runs), tables.Question(at=[2, 8], sort=sort)).Method.to_list()

    assert order("Area") == ["dense", "grasp", "snip", "z"]  # z has a hole
    assert order("CR 2") == ["dense", "z", "snip", "grasp"]
    assert order("Method") == ["dense", "grasp", "snip", "z"]
    for wrong in ("CR 3", "CR 2 seeds", "Model"):
        with pytest.raises(UsageError, match="no column"):
            order(wrong)


def test_a_weak_curve_does_not_come_first_because_others_have_holes():
    weak = [run for seed in range(3) for run in curve([(2, 30), (4, 20)], label="z", method="z", seed=seed)]
    holed = [run for seed in range(3) for run in curve([(2, 99), (40, 98)], label="l1", method="l1", seed=seed)]

    def order(runs):
        return tables.compare(ResultSet(runs), tables.Question(at=[2, 8])).Method.to_list()

    assert order([*panel(), *weak]) == ["dense", "grasp", "snip", "z"]
    assert order([*panel(), *weak, *holed]) == ["dense", "grasp", "l1", "snip", "z"]  # by name
    elsewhere = [changed(run, id=f"k{run.id}", spec={"dataset": "kmnist"}) for run in [*panel(), *weak]]
    assert order([*panel(), *weak, *holed, *elsewhere])[:4] == ["dense", "grasp", "snip", "z"]


def test_random_pruning_cannot_stand_first_by_a_range_that_it_shrank_itself():
    runs = [*curve([(26, 87), (33, 86)], label="random", method="random")]
    runs += curve([(2**k, 88 - k) for k in range(1, 9)], label="dwf D=3", method="dwf", options={"depth": 3})
    table = tables.compare(ResultSet(runs), tables.Question(at=[2, 256])).set_index("Method")
    assert list(table.index) == ["dwf D=3", "random"]
    assert table["Area"]["dwf D=3"] == pytest.approx(83.5)
    assert np.isnan(table["Area"]["random"])


def test_tolerances_have_two_readings_and_their_names_say_which():
    points, relative, both = (
        tables.compare(ResultSet(panel()), tables.Question(reading=name)) for name in tables.READINGS
    )
    assert ("CR@-5pt" in points, "CR@-5%" in points) == (True, False)
    assert ("CR@-5pt" in relative, "CR@-5%" in relative) == (False, True)
    assert both["CR@-5pt"].equals(points["CR@-5pt"])
    assert both["CR@-5%"].equals(relative["CR@-5%"])
    assert both["CR@-5%"][2] < both["CR@-5pt"][2]  # 5 % of 98 are less than 5 points


def test_extra_passes_are_shown_where_a_method_needs_any():
    assert "Extra" not in tables.compare(ResultSet(panel()))
    runs = [*panel(), *(changed(one, extra_passes=100) for one in curve([(2, 90), (50, 80)], label="x", method="x"))]
    table = tables.compare(ResultSet(runs)).set_index("Method")
    assert table["Extra"]["x"] == 100
    assert np.isnan(table["Extra"]["snip"])  # a record of an earlier version
    assert "Extra" in tables.cells(table.reset_index())[0]


def test_seconds_a_run_are_those_of_one_device():
    def seconds_a_run(*devices):
        runs = [
            changed(record(ratio, 90), seconds=10 * ratio, provenance={"device_name": device})
            for ratio, device in zip((2, 4), devices, strict=True)
        ]
        return tables.compare(ResultSet(runs))["s/run"].to_list()

    assert seconds_a_run("AMD EPYC", "AMD EPYC") == [30]
    assert np.isnan(seconds_a_run("AMD EPYC", "NVIDIA H100")[0])


def test_filters_do_not_lose_the_dense_reference_or_change_labels():
    table = tables.compare(ResultSet([*panel(), record(2, 90, epochs=9)]), tables.Question(method=["snip"]))
    assert table.Method.to_list() == ["snip (epochs=9)", "snip (epochs=60)"]
    assert table.Dense.to_list() == pytest.approx([98.1, 98.1])


def test_cells_are_short_and_say_what_is_missing():
    header, *rows = tables.cells(tables.compare(ResultSet(panel()), tables.Question(at=[2, 12])))
    assert header[-2:] == ["Area CR 2-12", "s/run"]
    by_method = {row[2]: dict(zip(header, row, strict=True)) for row in rows}
    assert by_method["grasp"]["CR@-1pt"] == ">=16"
    assert by_method["snip"]["CR 2"] == "98.10 ± 0.25"
    assert by_method["dense"]["CR 2"] == by_method["snip"]["CR 12"] == "-"


def test_cells_mark_values_of_fewer_seeds():
    runs = [*curve([(2, 98), (4, 90)]), record(2, 97, seed=1), *curve([(3, 90), (6, 80)], dataset="kmnist")]
    header, first, second = tables.cells(tables.compare(ResultSet(runs), tables.Question(at=[3, 4])))
    assert first[header.index("Area CR 3-4")] == f"{90 - 10 * np.log(4 / 3) / np.log(2) / 2:.2f}"
    assert second[header.index("CR 4")] == "90.00 (n=1)"


def test_machine_formats_hold_every_column_unrounded_and_the_neighbours_of_every_cell():
    table = tables.compare(ResultSet(panel()), tables.Question(at=[3, 8, 50]))
    rows = json.loads(tables.render(table, "json"))
    assert rows[2]["CR 3"] == table["CR 3"][2]
    assert rows[0]["CR 3"] is None
    assert rows[1]["CR@-1pt censored"] is True
    assert [(seed["seed"], seed["below"], seed["above"], len(seed["ids"])) for seed in rows[2]["CR 3 seeds"]] == [
        (seed, pytest.approx(2), pytest.approx(4), 2) for seed in range(3)
    ]
    (near,) = rows[1]["CR 50 seeds"]
    assert (rows[1]["CR 50"], near["accuracy"], near["below"], near["above"]) == (None, None, pytest.approx(16), None)
    read = list(csv.DictReader(io.StringIO(tables.render(table, "csv"))))
    assert list(read[0]) == list(table)
    assert float(read[2]["CR 3 ci95"]) == table["CR 3 ci95"][2]
    assert read[1]["CR 50"] == ""
    assert json.loads(read[2]["CR 3 seeds"]) == rows[2]["CR 3 seeds"]


@pytest.mark.slow
@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.floats(1, 1000), st.floats(10, 99), st.integers(0, 2)),
        min_size=1,
        max_size=10,
        unique_by=lambda run: run[0],
    ),
    st.floats(1.1, 5),
)
def test_no_printed_number_lies_between_runs_further_apart_than_the_gap(points, gap):
    runs = [record(ratio, accuracy, seed=seed) for ratio, accuracy, seed in points]
    table = tables.compare(
        ResultSet([dense(99), *runs]), tables.Question(at=[2, 5, 30, 300], reading="both", max_gap=gap)
    )
    (row,) = [row for row in table.to_dict("records") if row["Method"] == "snip"]
    known = {seed: sorted(ratio for ratio, _, own in points if own == seed) for seed in range(3)}
    for name in [name for name in table if name.startswith("CR") and f"{name} seeds" in table]:
        given_seeds = 0
        for each in row[f"{name} seeds"]:
            if each.get("accuracy", each.get("compression")) is None:
                continue
            given_seeds += 1
            assert each["above"] / each["below"] <= gap * 1.01 * (1 + 1e-9)  # the rule of matched.SLACK
            assert all(
                any(abs(each[end] / ratio - 1) < 1e-9 for ratio in known[each["seed"]]) for end in ("below", "above")
            )
            assert not any(
                each["below"] * (1 + 1e-9) < ratio < each["above"] / (1 + 1e-9) for ratio in known[each["seed"]]
            )
        assert row[f"{name} n"] == given_seeds
        assert bool(np.isnan(row[name])) == (given_seeds == 0)


def test_documents_formats():
    runs = [*panel(), record(2, 90, label="a_b|c", method="x", dataset="kmnist")]
    table = tables.compare(ResultSet(runs), tables.Question(at=[2], tolerances=[1], reading="relative"))
    plain, markdown, latex = (tables.render(table, name) for name in ("table", "markdown", "latex"))
    assert len(plain.splitlines()) == 5
    assert len({line.replace(r"\|", "").count("|") for line in markdown.splitlines()}) == 1
    assert r"a\_b\textbar{}c" in latex
    assert r"{largest CR within (\% of dense)}" in latex
    assert r"98.10 $\pm$ 0.25" in latex
    assert latex.count(r"\midrule") == 2  # below the header and between the data sets
    with pytest.raises(UsageError, match="choose one of table, markdown"):
        tables.render(table, "xml")


@pytest.mark.slow
def test_ten_thousand_records_of_many_curves_are_compared():
    points = [(2, 98), (5, 97), (10, 96), (30, 95), (100, 90)]
    runs = [run for lr in range(400) for seed in range(5) for run in curve(points, lr=lr, seed=seed)]
    table = tables.compare(ResultSet(runs))
    assert (len(table), set(table["Runs"]), set(table["Seeds"]), set(table["CR 30 n"])) == (400, {25}, {5}, {5})


def test_an_empty_table_keeps_its_columns():
    for table in (tables.compare(ResultSet([])), tables.versus(statistics.differences(ResultSet([]).runs, "snip"))):
        assert len(tables.cells(table)) == 1
        assert json.loads(tables.render(table, "json")) == []
        assert list(table)[:3] == ["Dataset", "Model", "Method"]


# --- versus


def rivals():
    """Three seeds of snip, of which grasp is 2, 2.1 and 2.2 points above at CR 2 and anything around it at 4."""
    runs = []
    for seed, (above, around) in enumerate([(2, -1), (2.1, 0), (2.2, 1)]):
        runs += curve([(2, 90 + seed), (4, 80)], seed=seed)
        runs += curve([(2, 90 + seed + above), (4, 80 + around)], label="grasp", method="grasp", seed=seed)
    return [*runs, *curve([(2, 95), (9, 94)], label="l1", method="l1", seed=5), dense(99)]


def differing(at=(2, 4), records=None):
    return statistics.differences(ResultSet(rivals() if records is None else records).runs, "snip", at)


def test_versus_is_a_row_a_curve_without_dense_and_the_other():
    table = tables.versus(differing())
    assert table.Method.to_list() == ["grasp", "l1"]
    assert table.Seeds.to_list() == [3, 0]
    assert table["CR 2"].to_list() == pytest.approx([2.1, np.nan], nan_ok=True)
    assert table["CR 4 n"].to_list() == [3, 0]
    assert {"CR 2 ci95", "CR 2 seeds", "Area n", "Area low", "Area high"} <= set(table)


def test_differences_are_signed_and_without_stars():
    header, grasp, l1 = tables.cells(tables.versus(differing()))
    assert header[3:] == ["Seeds", "CR 2", "CR 4", "Area CR 2-4"]
    assert grasp[4:6] == ["+2.10 ± 0.25", "+0.00 ± 2.48"]
    assert l1[3:] == ["0", "-", "-", "-"]


def test_a_difference_of_fewer_pairs_says_so():
    more = curve([(2, 90), (9, 80)], seed=3) + curve([(2, 92), (9, 80)], label="grasp", method="grasp", seed=3)
    header, grasp, _ = tables.cells(tables.versus(differing(records=[*rivals(), *more])))
    assert grasp[header.index("Seeds")] == "4"
    assert grasp[header.index("CR 4")] == "+0.00 ± 2.48 (n=3)"


def test_versus_sorts_by_falling_area():
    runs = [
        run
        for seed in range(2)
        for label, height in (("snip", 90), ("b", 80 + seed), ("a", 70), ("c", 95))
        for run in curve([(2, height), (4, height)], label=label, method=label, seed=seed)
    ]
    assert tables.versus(differing(records=runs)).Method.to_list() == ["c", "b", "a"]


def test_versus_in_every_format():
    table = tables.versus(differing())
    rows = json.loads(tables.render(table, "json"))
    assert rows[0]["CR 2 seeds"][0]["difference"] == pytest.approx(2)
    assert (rows[1]["CR 2"], rows[1]["CR 2 n"]) == (None, 0)
    read = list(csv.DictReader(io.StringIO(tables.render(table, "csv"))))
    assert list(read[0]) == list(table)
    assert "| +2.10 ± 0.25 |" in tables.render(table, "markdown")
    flipped = statistics.differences(ResultSet(rivals()).runs, "grasp", [2])
    assert r"& $-$2.10 $\pm$ 0.25 &" in tables.render(tables.versus(flipped), "latex")
    assert "lenet-300" in tables.render(table.assign(Model="lenet-300"), "latex")  # a hyphen stays one


# --- captions


def test_captions_name_the_interval_the_reading_the_gap_and_the_order():
    assert "95 % t-interval over seeds" in tables.compare_caption()
    parts = ("points below dense", "(relative)")
    shown = {
        name: tuple(part in tables.compare_caption(tables.Question(reading=name)) for part in parts)
        for name in tables.READINGS
    }
    assert shown == {"points": (True, False), "relative": (False, True), "both": (True, True)}
    assert "at most a factor of 2.5 apart" in tables.compare_caption(tables.Question(max_gap=2.5))
    assert "then by falling CR 30, those without one last" in tables.compare_caption(tables.Question(sort="CR 30"))
    assert "then by name" in tables.compare_caption(tables.Question(sort="Method"))
    assert "then by falling Area if all have one, else by name" in tables.compare_caption()
    assert "minus that of snip" in tables.versus_caption("snip")


# --- texts


def test_columns_are_flush_left_unless_said_otherwise():
    rows = [["name", "n"], ["a", "100"], ["abcdef", "7"]]
    assert aligned(rows) == "name    n\na       100\nabcdef  7"
    assert aligned(rows, left=["name"]) == "name      n\na       100\nabcdef    7"


# --- the command


@pytest.fixture
def versus(tmp_path, call):
    """`dwfbench compare --versus NAME WORDS` over the runs of `rivals`, which are also assessed at 0.001."""
    for number, run in enumerate(rivals()):
        cut = {"threshold": 1e-3, "compression": run.compression * 2, "test_accuracy": run.test_accuracy}
        Store(tmp_path).write(changed(run, id=f"{number:012x}", thresholds=[cut]), [])
    return lambda name, *words: call("compare", "--results", tmp_path, "--at", "2,4", "--versus", name, *words)


def test_the_command_prints_differences_and_what_they_mean(versus):
    result = versus("snip")
    assert result.exit_code == 0
    header, grasp, l1, blank, caption = result.stdout.splitlines()
    assert header.split()[:3] == ["Dataset", "Model", "Method"]
    assert "+2.10 ± 0.25" in grasp
    assert l1.split()[2:] == ["l1", "0", "-", "-", "-"]
    assert (blank, "paired by seed" in caption) == ("", True)
    assert "fewer than 3 seeds in common with snip: l1 (0)." in result.stderr


@pytest.mark.parametrize("format", ["markdown", "latex", "csv", "json"])
def test_the_caption_does_not_disturb_a_format_for_files(versus, format):
    result = versus("snip", "--format", format)
    assert result.exit_code == 0
    assert "paired by seed" not in result.stdout
    assert "paired by seed" in result.stderr


def test_a_filter_keeps_the_other_curve(versus):
    (row,) = json.loads(versus("snip", "--method", "l1", "--format", "json").stdout)
    assert row["Method"] == "l1"


def test_differences_are_taken_at_a_recorded_threshold(versus):
    plain, cut = (
        json.loads(versus("snip", "--format", "json", *words).stdout) for words in ([], ["--threshold", "1e-3"])
    )
    assert plain[0]["CR 2"] == pytest.approx(2.1)
    assert cut[0]["CR 2"] is None  # every CR is twice as high: the curves begin at 4
    assert cut[0]["CR 4"] == pytest.approx(2.1)


def test_distant_runs_are_said_and_not_joined(tmp_path, call):
    for number, run in enumerate([*curve([(2.3, 92), (1141, 59)]), dense(99)]):
        Store(tmp_path).write(changed(run, id=f"{number:012x}"), [])
    words = ("compare", "--results", tmp_path, "--at", "5,50", "--method", "snip")
    result = call(*words, "--format", "json")
    (row,) = json.loads(result.stdout)
    assert (row["CR 5"], row["CR 50"], row["Area"], row["CR@-10pt"]) == (None, None, None, None)
    assert "no run of snip between CR 2.3 and 1141 (seed 0)." in result.stderr
    (row,) = json.loads(call(*words, "--format", "json", "--max-gap", "500").stdout)
    assert row["CR 5"] == pytest.approx(92 - 33 * np.log(5 / 2.3) / np.log(1141 / 2.3))
    assert call(*words, "--max-gap", "0.5").exit_code == 2
    assert call(*words, "--sort", "CR 7").exit_code == 2


@pytest.mark.parametrize(
    ("name", "code", "sentence"),
    [
        ("gras", 2, "no sparse curve 'gras' to compare with; did you mean grasp?"),
        ("dense", 2, "no sparse curve 'dense'"),
        ("snip", 3, "no other sparse curve here to compare with snip"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_sentence(versus, name, code, sentence):
    result = versus(name, *(["--method", "snip"] if code == 3 else []))
    assert (result.exit_code, result.stdout) == (code, "")
    assert sentence in result.stderr


def test_the_reading_of_a_tolerance_is_one_of_three(call, tmp_path):
    result = call("compare", "--results", tmp_path, "--reading", "relativ")
    assert result.exit_code == 2
    assert "--reading must be one of points, relative, both" in result.stderr


def test_without_runs_there_is_nothing_to_compare(call, tmp_path):
    assert call("compare", "--results", tmp_path, "--versus", "snip").exit_code == 3
