"""The sentences that end a comparison, and the table of claims."""

from dwfbench.analysis import statistics
from dwfbench.analysis.resultset import ResultSet
from dwfbench.runs.store import Store
from dwfbench.show import verdicts
from tests.analysis.test_curves import curve, dense, record
from tests.records import changed

# --- the end of compare


def rivals():
    """Three seeds: a is 2, 2.1 and 2.2 points above b at CR 2, anything around it at CR 4, and ends there."""
    runs = []
    for seed, (above, around) in enumerate([(2, -1), (2.1, 0), (2.2, 1.3)]):
        runs += curve([(2, 90 + seed), (4, 80), (8, 70)], label="b", method="b", seed=seed)
        runs += curve([(2, 90 + seed + above), (4, 80 + around)], label="a", method="a", seed=seed)
    return [*runs, dense(99)]


def closing(runs, at):
    return verdicts.closing(statistics.best(ResultSet(runs).runs, at))


def test_the_best_by_range_and_what_is_not_decided():
    best, open_ = closing(rivals(), [2, 4, 8, 16])
    assert best == (
        "mnist/lenet, 60 epochs: best is a at CR 2 to 4 (+2.10 ± 0.25 over b, +0.10 ± 2.86 over b); b at CR 8 (alone)."
    )
    assert open_.startswith("mnist/lenet, 60 epochs: not decided (the 95 % interval")
    assert open_.endswith("second pair) at CR 4 against b; at CR 16 at all.")


def test_what_is_all_decided_and_what_is_unknown_is_said():
    assert closing(rivals(), [2])[1] == "mnist/lenet, 60 epochs: the best is told apart from all others at every ratio."
    assert closing(rivals(), [90])[0] == "mnist/lenet, 60 epochs: no curve has a value at these ratios."


def test_budgets_are_named_and_apart():
    runs = [record(2, 90), record(2, 91, epochs=9, method="grasp", label="grasp")]
    lines = closing(runs, [2])
    assert [line.split(": ")[0] for line in lines] == ["mnist/lenet, 9 epochs"] * 2 + ["mnist/lenet, 60 epochs"] * 2


def test_compare_ends_with_them(tmp_path, call):
    for number, run in enumerate(rivals()):
        Store(tmp_path).write(changed(run, id=f"{number:012x}"), [])
    words = ("compare", "--results", tmp_path, "--at", "2,4")
    assert call(*words).stdout.splitlines()[-2:] == closing(rivals(), [2, 4])
    result = call(*words, "--format", "csv")
    assert "best is" not in result.stdout
    assert "best is a at CR 2 to 4" in result.stderr
    assert "best is b at CR 2" in call(*words, "--method", "b").stdout
