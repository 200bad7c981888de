"""The sentences that end a comparison, and the table of claims."""

import csv
import io
import json

import pytest

from dwfbench.analysis import claims, statistics
from dwfbench.analysis.resultset import ResultSet
from dwfbench.runs.claims import Claim
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


OPEN = (
    "mnist/lenet, 60 epochs: not decided "
    "(the 95 % interval of the paired difference reaches 0, or there is no second pair): "
)


def test_the_best_is_surely_above_all_others_and_the_rest_is_not_decided():
    best, open_ = closing(rivals(), [2, 4, 8, 16])
    assert best == "mnist/lenet, 60 epochs: best is a at CR 2 (+2.10 ± 0.25 over b); only b has a value at CR 8."
    assert open_ == f"{OPEN}at CR 4 a against b (+0.10 ± 2.86); at CR 16 anything."


def test_ratios_between_which_nothing_is_decided_are_not_said_to_be_a_range():
    runs = [*rivals(), *(record(16, 60 + above, label=name, method=name, seed=seed) for seed in range(3)
                         for name, above in (("a", 1 + seed / 10), ("b", 0)))]  # fmt: skip
    best, open_ = closing(runs, [2, 4, 16])
    assert "best is a at CR 2, 16 (+2.10 ± 0.25 over b, +1.10 ± 0.25 over b)." in best
    assert open_ == f"{OPEN}at CR 4 a against b (+0.10 ± 2.86)."


def test_what_is_all_decided_and_what_is_unknown_is_said():
    assert closing(rivals(), [2])[1] == "mnist/lenet, 60 epochs: nothing is left undecided at these ratios."
    assert closing(rivals(), [8])[1] == "mnist/lenet, 60 epochs: there is no second value to compare with."
    assert closing(rivals(), [90])[0] == "mnist/lenet, 60 epochs: no curve has a value at these ratios."
    assert closing(rivals(), [90])[1] == f"{OPEN}at CR 90 anything."


def test_curves_without_a_seed_in_common_have_no_difference():
    runs = [record(2, 90), record(2, 91, seed=1, method="grasp", label="grasp")]
    best, open_ = closing(runs, [2])
    assert best == "mnist/lenet, 60 epochs: no curve is surely the best at any of these ratios."
    assert open_ == f"{OPEN}at CR 2 grasp against snip (no seed in common)."


def test_what_is_behind_is_not_the_best():
    """Three seeds of snip are below the one seed of grasp: neither is the best."""
    runs = [*(record(2, 90 + seed, seed=seed) for seed in range(3)), record(2, 99, method="grasp", label="grasp")]
    best, open_ = closing(runs, [2])
    assert best == "mnist/lenet, 60 epochs: no curve is surely the best at any of these ratios."
    assert open_ == f"{OPEN}at CR 2 snip against grasp (-9.00)."


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
    assert "best is a at CR 2 (" in result.stderr
    assert "only b has a value at CR 2, 4." in call(*words, "--method", "b").stdout


# --- claims


def claimed(**fields):
    named = {"name": "c", "sentence": "A is above B.", "source": "us", "expected": "above", "smallest": 0.5}
    sides = {"first": {"method": "a"}, "second": {"method": "b"}, "quantity": "accuracy", "at": [2]}
    return Claim(**(named | sides | fields))


def judged(*asked, runs=None):
    results = ResultSet(rivals() if runs is None else runs)
    return claims.verdicts(results.records, results.runs, asked)


def test_a_verdict_is_a_row_of_short_texts():
    header, supported, undecided, one, unknown = verdicts.cells(
        judged(
            claimed(),
            claimed(at=[4]),
            claimed(quantity="compression", at=[], tolerance=10, smallest=2),
            claimed(first={"method": "x"}),
        )
    )
    assert header[3:5] == ["Claim", "Verdict"]
    assert header[11:] == ["To decide", "Sentence", "Reason", "Source"]
    assert supported[:12] == [
        *("mnist", "lenet", "60", "c", "supported", "a", "b", "accuracy at CR 2"),
        *("+2.10 [+1.85, +2.35] points", "0.5 or more", "3", "-"),
    ]
    assert undecided[4] == "undecided"
    assert undecided[11] == str(judged(claimed(at=[4])).needed[0])
    assert (one[7], one[9]) == ("CR within 10 points of dense", "2 or more")
    assert unknown[:12] == [
        "-",
        "-",
        "-",
        "c",
        "not run",
        "x",
        "b",
        "accuracy at CR 2",
        "-",
        "0.5 or more",
        "0",
        "-",
    ]


def test_how_many_seeds_would_decide_is_said_where_it_is_known():
    few = [run for run in rivals() if run.spec.seed == 0]
    assert verdicts.cells(judged(claimed(), runs=few))[1][11] == "2 or more"
    level = [
        run
        for seed, above in enumerate((0.39, 0.49, 0.59))
        for run in (
            record(2, 90 + above, seed=seed, method="a", label="a"),
            record(2, 90, seed=seed, method="b", label="b"),
        )
    ]
    assert verdicts.cells(judged(claimed(smallest=0.4905), runs=level))[1][11] == "over 1000"


def test_two_seeds_with_one_difference_may_be_decided_by_a_third():
    """They say nothing of the spread, so that nobody knows it to be more than 1000."""
    alike = [
        record(2, height, seed=seed, method=label, label=label)
        for seed in (0, 1)
        for label, height in (("a", 92), ("b", 90))
    ]
    row = verdicts.cells(judged(claimed(), runs=alike))[1]
    assert (row[4], row[10], row[11]) == ("undecided", "2", "3 or more")


def test_a_verdict_on_runs_of_other_settings_says_so():
    """A study chose another rate of a for the targets 2 and 4, between which it is read at 3."""
    runs = [
        changed(run, provenance={"tuned": {"study": "s", "values": {"lr": run.compression / 10}}})
        if run.label == "a" else run
        for run in rivals()
    ]  # fmt: skip
    table = judged(claimed(at=[2]), claimed(name="d", at=[3]), runs=runs)
    assert table.reason.to_list() == [
        "",
        "a is read between runs for which tuning chose lr=0.2 and lr=0.4 (seeds 0, 1, 2)",
    ]


def test_ratios_and_the_other_expectations_have_their_words():
    runs = [changed(run, seconds=3.0 if run.label == "a" else 2.0) for run in rivals()]
    asked = claimed(quantity="seconds", at=[], expected="at most", smallest=1.25)
    assert verdicts.cells(judged(asked, runs=runs))[1][8:10] == ["1.5 [1.5, 1.5] times", "at most 1.25"]
    assert verdicts.cells(judged(claimed(expected="equal")))[1][9] == "within 0.5"


def test_notes_have_the_sentence_its_source_what_lacks_and_the_runs():
    table = judged(claimed(), claimed(name="d", at=[16]))
    test, first, runs, second, lack = verdicts.notes(table)
    assert "95 % paired t-interval" in test
    assert first == "c: A is above B. (us)"
    assert runs == f"  mnist/lenet, 60 epochs: supported: runs {', '.join(table.ids[0])}."
    assert len(table.ids[0]) == 6
    assert second.startswith("d: ")
    where = "  mnist/lenet, 60 epochs: not run: "
    assert lack == f"{where}no run of a above CR 4 (seeds 0, 1, 2); no run of b above CR 8 (seeds 0, 1, 2)."


@pytest.fixture
def folder(tmp_path):
    for number, run in enumerate(rivals()):
        Store(tmp_path / "results").write(changed(run, id=f"{number:012x}"), [])
    (tmp_path / "results" / "claims.toml").write_text(
        '[[claim]]\nname = "mine"\nsentence = "A is above B."\nsource = "us"\nfirst = { method = "a" }\n'
        'second = { method = "b" }\nquantity = "accuracy"\nat = [2]\nexpected = "above"\nsmallest = 0.5\n'
    )
    return tmp_path / "results"


@pytest.mark.parametrize("format", ["table", "markdown", "latex", "csv", "json"])
def test_the_command_prints_every_claim_in_every_format(folder, call, format):
    result = call("claims", "--results", folder, "--format", format)
    assert result.exit_code == 0
    for word in ("mine", "supported", "above-synflow", "not run"):
        assert word in result.stdout
    assert "A is above B. (us)" in (result.stdout if format == "table" else result.stderr)
    if format == "json":
        (row,) = [row for row in json.loads(result.stdout) if row["claim"] == "mine"]
        assert (row["n"], row["needed"], len(row["ids"]), row["effect"]) == (3, None, 6, pytest.approx(2.1))
    if format == "csv":
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
        assert [len(json.loads(row["ids"])) for row in rows if row["claim"] == "mine"] == [6]


@pytest.mark.parametrize(("format", "header"), [("markdown", "Claim | Seeds | To decide"), ("csv", "claim,n,needed")])
@pytest.mark.parametrize("columns", ["Claim,Seeds,To decide", "claim,n,needed"])
def test_a_column_has_its_name_of_the_other_formats_in_each(folder, call, format, header, columns):
    result = call("claims", "--results", folder, "--format", format, "--columns", columns)
    assert result.exit_code == 0
    assert header in " ".join(result.stdout.splitlines()[0].split())


def test_claims_of_an_archive_and_of_nothing(folder, call, tmp_path):
    assert call("pack", folder, "-o", tmp_path / "set.zip").exit_code == 0
    assert "mine" in call("claims", "--results", tmp_path / "set.zip").stdout
    assert call("claims", "--results", folder, "--dataset", "kmnist").exit_code == 3
    (folder / "claims.toml").write_text("[[claim]]\nname = 3\n")
    result = call("claims", "--results", folder)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "holds no claims" in result.stderr
    assert call("compare", "--results", folder).exit_code == 0
