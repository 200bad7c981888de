"""A comparison with its cautions and closing sentences, as the command prints them and a page shows them."""

import pytest

from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from dwfbench.show import comparison, tables
from dwfbench.show.comparison import Asked
from tests.analysis.test_curves import curve, dense, record


def runs():
    """Three seeds of snip; of grasp, seed 0 has a hole and seed 2 nothing; a run of snip at chance."""
    found = [run for seed in range(3) for run in curve([(2, 98), (4, 96)], seed=seed)]
    found += curve([(2, 97), (40, 90)], label="grasp", method="grasp")
    found += curve([(2, 97.5), (4, 97)], label="grasp", method="grasp", seed=1)
    return [*found, record(300, 10, seed=2), *(dense(98, seed=seed) for seed in range(3))]


def test_a_comparison_has_its_table_caption_cautions_and_end():
    made = comparison.compare(ResultSet(runs()), Asked(at=[2, 4]))
    assert made.table.equals(tables.compare(ResultSet(runs()), [2, 4]))
    assert made.caption == tables.compare_caption()
    assert made.cautions == [
        "mnist/lenet: fewer than 3 seeds, differences may be chance: grasp (2).",
        "mnist/lenet: no better than chance: snip at CR 300 (seed 2).",
        "mnist/lenet: no run of grasp between CR 2 and 40 (seed 0).",
        "mnist/lenet: no run of snip between CR 4 and 300 (seed 2).",
    ]
    assert made.closing[0].startswith("mnist/lenet, 60 epochs: best is snip at CR 2 to 4 (")


def test_a_comparison_with_a_curve_names_the_holes_of_both():
    made = comparison.versus(ResultSet(runs()), "grasp", Asked(at=[3]))
    assert made.table.Method.to_list() == ["snip"]
    assert (made.table["CR 3 n"][0], made.closing) == (1, [])
    assert made.cautions[-2:] == [
        "mnist/lenet: fewer than 3 seeds in common with grasp: snip (2).",
        "mnist/lenet: no run of grasp between CR 2 and 40 (seed 0).",
    ]
    assert comparison.versus(ResultSet(runs()), "grasp", Asked(method=["grasp"])).table.empty


def test_chance_in_areas_is_among_the_cautions():
    made = comparison.compare(ResultSet(runs()), Asked(at=[2, 4], span=(2, 8), method=["grasp"]))
    assert made.cautions[-1] == "mnist/lenet: chance accuracy counts in the area of grasp above CR 4."
    wide = comparison.compare(ResultSet(runs()), Asked(at=[2, 4], span=(2, 8), max_gap=100))
    assert not any("no run of" in line for line in wide.cautions)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UsageError, match="no sparse curve"):
        comparison.versus(ResultSet(runs()), "l1", Asked())
    with pytest.raises(UsageError, match="range"):
        comparison.compare(ResultSet(runs()), Asked(span=(8, 2)))
