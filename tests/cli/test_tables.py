"""The tables with which commands end."""

from dwfbench.cli.tables import curve_table
from tests.analysis.test_curves import record
from tests.records import changed


def test_runs_of_several_budgets_and_rates_are_told_apart():
    runs = [record(2, 90), record(2, 90, epochs=9), record(2, 90, lr=0.7)]
    runs = [changed(run, id=f"run-{number}") for number, run in enumerate(runs)]
    header, *lines = curve_table(runs).splitlines()
    assert header.split()[-1] == "epochs"
    assert len({line.replace(line.split()[0], "", 1) for line in lines}) == 3
    assert "model" not in header
    alone, line = curve_table(runs[:1]).splitlines()
    assert "epochs" not in alone
    assert runs[0].label in line
