"""Cautions as sentences, and by the curve that they concern."""

from dwfbench.analysis import cautions
from dwfbench.analysis.cautions import Caution, by_curve
from dwfbench.analysis.resultset import ResultSet
from dwfbench.show import comparison, tables
from tests.analysis.test_curves import curve, dense, record
from tests.records import changed


def test_a_caution_is_its_sentence():
    caution = Caution("mnist/lenet", "few seeds: a (1).", {"a": "few seeds (1)"})
    assert caution == "mnist/lenet: few seeds: a (1)."
    assert Caution("", "Runs left out.") == "Runs left out."


def test_cautions_are_divided_by_the_curves_that_they_concern():
    listed = [
        Caution("mnist/lenet", "holes", {"b": "a hole", "a": "two holes"}),
        "Runs left out: 1 failed.",
        Caution("mnist/lenet", "few", {"a": "few seeds"}),
        Caution("mnist/lenet", "budgets differ."),
    ]
    general, own = by_curve(listed)
    assert general == ["Runs left out: 1 failed.", "mnist/lenet: budgets differ."]
    assert list(own.items()) == [(("mnist/lenet", "a"), ["two holes", "few seeds"]), (("mnist/lenet", "b"), ["a hole"])]


def test_every_caution_of_a_comparison_names_its_curves():
    runs = [*curve([(2.3, 92), (1141, 59)]), *curve([(2, 90), (4, 80)], label="grasp", method="grasp"), dense(99)]
    made = comparison.compare(ResultSet(runs), tables.Question(at=(5, 50)))
    general, own = by_curve(made.cautions)
    assert general == []
    assert own["mnist/lenet", "snip"] == ["fewer than 3 seeds (1)", "no run between CR 2.3 and 1141 (seed 0)"]
    assert own["mnist/lenet", "dense"] == ["fewer than 3 seeds (1)"]
    against = comparison.versus(ResultSet(runs), "snip", tables.Question(at=(5, 50)))
    assert "fewer than 3 seeds in common with snip (1)" in by_curve(against.cautions)[1]["mnist/lenet", "grasp"]
    assert cautions.pair_warnings(
        ResultSet([dense(99), *runs[2:4]]).runs, ResultSet([]).runs.assign(common=0), "snip"
    ) == ["mnist/lenet: no run of snip, so nothing is compared with it."]


def test_runs_that_are_left_out_are_counted_and_those_of_tuning_are_not_called_ok():
    untested, diverged = dense(99), dense(98)
    runs = [changed(untested, id="1", test_accuracy=None), changed(diverged, id="2", status="diverged"), dense(97)]
    results = ResultSet(runs)
    assert cautions.warnings(results.runs, results.failures)[-1] == "Runs left out: 1 not tested, 1 diverged."


def test_seeds_that_have_no_run_are_named():
    runs = [run for seed in range(3) for run in curve([(2, 90), (4, 80)], seed=seed)]
    lost = [
        changed(run, id=f"{run.id}!", status="diverged") for seed in (2, 3, 4, 5) for run in curve([(8, 70)], seed=seed)
    ]
    results = ResultSet([*runs, *lost, dense(99)])
    lines = cautions.warnings(results.runs, results.failures)
    assert "mnist/lenet: seeds of which no run ended well: snip (seeds 3, 4, 5)." in lines
    assert by_curve(lines)[1]["mnist/lenet", "snip"] == ["no run ended well of seeds 3, 4, 5"]


def test_what_is_compared_is_told_where_it_was_trained_otherwise():
    other = curve([(2, 90)], label="grasp", method="grasp", batch_size=512, precision="bfloat16", image_size=8)
    runs = [changed(run, numel=numel) for run, numel in ((*curve([(2, 90)]), 200), (*other, 1_000))]
    lines = cautions.warnings(ResultSet(runs).runs)
    assert [line for line in lines if "different" in line] == [
        "mnist/lenet: runs of different precisions are compared: bfloat16, float32.",
        "mnist/lenet: runs of different batch sizes are compared: 128, 512.",
        "mnist/lenet: runs of different image sizes are compared: 8, the data's own.",
        "mnist/lenet: runs of different numbers of prunable weights are compared: 200, 1,000.",
    ]


def test_a_curve_whose_runs_end_far_from_what_was_asked_is_named():
    runs = [
        *(record(ended, 80, target=asked) for ended, asked in ((50, 5), (90, 10))),
        *curve([(4, 90)], label="l1", method="l1"),
    ]
    made = comparison.compare(ResultSet(runs), tables.Question(at=(60,)))
    assert "mnist/lenet: runs of snip end far from the CR asked for; what lies between them is chance." in made.cautions
    assert not cautions.astray(ResultSet(runs).runs, 12)


def test_numbers_between_runs_that_tuning_gave_different_settings_are_named():
    """For CR 2 and 4 a study chose one rate, for CR 8 another."""
    tuned = [
        changed(run, provenance={"tuned": {"study": "s", "values": {"lr": 0.1 if run.compression < 8 else 0.4}}})
        for seed in range(3)
        for run in curve([(2, 98), (4, 97), (8, 90)], seed=seed)
    ]
    results = ResultSet([*tuned, *curve([(2, 90), (4, 80)], label="grasp", method="grasp"), dense(99)])
    mixed = "read between runs for which tuning chose different settings"
    of_snip = f"some numbers are {mixed}: CR 4 and 8 (seeds 0, 1, 2)"
    for at, tolerances, lines in (((3, 4, 8), (1,), []), ((3, 6), (), [of_snip]), ((3,), (5,), [of_snip])):
        made = comparison.compare(results, tables.Question(at=at, tolerances=tolerances))
        assert [
            line for line in by_curve(made.cautions)[1].get(("mnist/lenet", "snip"), []) if "tuning" in line
        ] == lines
        assert [str(line) for line in made.cautions if "tuning" in line] == [
            f"mnist/lenet: some numbers of snip are {mixed}." for _ in lines
        ]
    against = comparison.versus(results, "snip", tables.Question(at=(3,)))
    assert not any("tuning" in line for line in against.cautions)
