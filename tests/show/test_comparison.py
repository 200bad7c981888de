"""A comparison with its cautions and closing sentences, as the command prints them and a page shows them."""

import pytest

from dwfbench.analysis.axes import AXES
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from dwfbench.show import comparison, tables
from dwfbench.show.comparison import Question
from tests.analysis.test_curves import curve, dense, record
from tests.records import changed


def runs():
    """Three seeds of snip; of grasp, seed 0 has a hole and seed 2 nothing; a run of snip at chance."""
    found = [run for seed in range(3) for run in curve([(2, 98), (4, 96)], seed=seed)]
    found += curve([(2, 97), (40, 90)], label="grasp", method="grasp")
    found += curve([(2, 97.5), (4, 97)], label="grasp", method="grasp", seed=1)
    return [*found, record(300, 10, seed=2), *(dense(98, seed=seed) for seed in range(3))]


def test_a_comparison_has_its_table_caption_cautions_and_end():
    made = comparison.compare(ResultSet(runs()), Question(at=[2, 4]))
    assert made.table.equals(tables.compare(ResultSet(runs()), tables.Question(at=[2, 4])))
    assert made.caption == tables.compare_caption()
    assert made.cautions == [
        "mnist/lenet: fewer than 3 seeds, differences may be chance: grasp (2).",
        "mnist/lenet: no better than chance: snip at CR 300 (seed 2).",
        "mnist/lenet: no run of grasp between CR 2 and 40 (seed 0).",
        "mnist/lenet: no run of snip between CR 4 and 300 (seed 2).",
    ]
    assert made.closing[0] == "mnist/lenet, 60 epochs: no curve is surely the best at any of these ratios."


def test_a_comparison_with_a_curve_names_the_holes_of_both():
    made = comparison.versus(ResultSet(runs()), "grasp", Question(at=[3]))
    assert made.table.Method.to_list() == ["snip"]
    assert (made.table["CR 3 n"][0], made.closing) == (1, [])
    assert made.cautions[-2:] == [
        "mnist/lenet: fewer than 3 seeds in common with grasp: snip (2).",
        "mnist/lenet: no run of grasp between CR 2 and 40 (seed 0).",
    ]
    assert comparison.versus(ResultSet(runs()), "grasp", Question(method=["grasp"])).table.empty


def test_cautions_are_on_what_the_table_shows():
    lost = changed(record(5, 90, seed=7), status="failed", error="gone")
    results = ResultSet([*runs(), lost])
    assert "Runs left out: 1 failed." in comparison.compare(results, Question(at=[2, 4])).cautions
    shown = comparison.compare(results, Question(at=[2, 4], method=["grasp"]))
    beside = comparison.versus(results, "snip", Question(at=[2, 4], method=["grasp"]))
    assert not any("snip" in line or "left out" in line for line in shown.cautions)
    assert any("snip at CR 300" in line for line in beside.cautions)
    assert "Runs left out: 1 failed." in beside.cautions


def test_chance_in_areas_is_among_the_cautions():
    made = comparison.compare(ResultSet(runs()), Question(at=[2, 4], span=(2, 8), method=["grasp"]))
    assert made.cautions[-1] == "mnist/lenet: chance accuracy counts in the area of grasp above CR 4."
    wide = comparison.compare(ResultSet(runs()), Question(at=[2, 4], span=(2, 8), max_gap=100))
    assert not any("no run of" in line for line in wide.cautions)


@pytest.mark.parametrize(("score", "named"), [("r2", "r2"), ("", "score")])
def test_what_is_compared_is_called_by_its_name_and_of_several_data_sets_a_score(score, named):
    other = [changed(run, spec={"dataset": "sines"}, score=score or None) for run in runs()]
    found = [changed(run, score="r2") for run in runs() if score] + other
    question = Question(at=[2, 4], span=(2, 8), method=["grasp"])
    mixed = found if score else [*found, *(changed(run, score="mape", id=f"{run.id}-") for run in runs())]
    for made in (comparison.compare(ResultSet(mixed), question), comparison.versus(ResultSet(mixed), "snip", question)):
        assert made.score == named
        latex = tables.render(made.table, "latex", score=made.score)
        for text in (made.caption, *made.cautions, latex):
            assert "ccuracy" not in text
        assert f"{named} " in made.caption.replace("R2", "r2").replace("Score", "score")


def moved():
    """Three seeds of two methods whose effective CR is twice their CR, and whose MACs fall by its root; of one run of
    snip neither is known."""
    at = {2: 95, 4: 90, 8: 85}
    found = [
        changed(record(ratio, height - above, seed=seed, label=label, method=label),
                effective_compression=2 * ratio, macs_dense=100, macs_sparse=int(100 / ratio**0.5))
        for seed in range(3) for label, above in (("snip", 0), ("grasp", 1)) for ratio, height in at.items()
    ]  # fmt: skip
    unknown = changed(record(16, 80), effective_compression=None, macs_dense=None)
    return [*found, unknown, *(dense(98, seed=seed) for seed in range(3))]


@pytest.mark.parametrize(
    ("axis", "at", "heights"),
    [("effective", [4, 16], [95, 85]), ("macs", [100 / 70, 2, 100 / 35], [95, 90, 85])],
)
def test_methods_are_compared_along_an_axis_of_curves(axis, at, heights):
    made = comparison.compare(ResultSet(moved()), Question(at=at, axis=axis))
    rows = made.table.set_index("Method")
    assert rows["Axis"].to_dict() == {"dense": axis, "grasp": axis, "snip": axis}
    assert rows.loc["snip", [f"CR {ratio:g}" for ratio in at]].to_list() == pytest.approx(heights)
    assert rows.loc["grasp", [f"CR {ratio:g}" for ratio in at]].to_list() == pytest.approx([h - 1 for h in heights])
    assert rows.loc["dense", "Dense"] == pytest.approx(98)
    assert made.cautions[0].startswith(f"CR stands for {AXES[axis]} here")
    assert made.cautions[1] == f"Runs left out, as their {AXES[axis]} is not known or infinite: 1."
    assert tables.cells(made.table)[0][3] == "Axis"
    against = comparison.versus(ResultSet(moved()), "grasp", Question(at=at, axis=axis))
    assert (against.table["Axis"][0], against.table[f"CR {at[0]:g}"][0]) == (axis, pytest.approx(1))


def test_along_the_compression_ratio_nothing_changes():
    results = ResultSet(moved())
    assert "Axis" not in comparison.compare(results, Question()).table
    assert results.along("compression").runs.equals(results.runs)


@pytest.mark.parametrize(
    ("axis", "why"), [("bytes", "few runs are measured"), ("training-cost", "about as long at every compression")]
)
def test_other_axes_are_drawn_and_not_compared(axis, why):
    with pytest.raises(UsageError, match=why):
        comparison.compare(ResultSet(moved()), Question(axis=axis))


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UsageError, match="no sparse curve"):
        comparison.versus(ResultSet(runs()), "l1", Question())
    for wrong in ({"span": (8, 2)}, {"at": [0.5]}, {"tolerances": [101]}, {"max_gap": 0.9}):
        with pytest.raises(UsageError, match=r"^--[\w-]+ takes "):
            Question(**wrong)
