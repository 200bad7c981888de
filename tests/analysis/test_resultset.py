"""A result set: labelled once, chosen from without other labels, opened from folders and archives."""

import builtins
import math

import pandas as pd
import pytest

import dwfbench
from dwfbench.analysis import frames
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from dwfbench.runs.packing import pack
from dwfbench.runs.resultsets import Source
from dwfbench.show import report, tables
from tests.analysis.test_curves import panel
from tests.runs.test_archive import fill
from tests.runs.test_archive import record as stored
from tests.show.test_report import HERE, METHODS, record, records


@pytest.mark.slow
def test_a_page_and_a_table_label_the_runs_once(monkeypatch):
    labelled, times = frames.labelled, []
    monkeypatch.setattr(frames, "labelled", lambda runs: times.append(len(runs)) or labelled(runs))
    results = ResultSet(records())
    tables.compare(results, tables.Question(method=["dwf"]))
    report.render(results, HERE)
    assert times == [len(results.records)]


def test_what_is_chosen_keeps_the_labels_that_it_has_among_all():
    name, label, *knob = METHODS[1]
    others = [record("other", label, *knob, seed, 2.0) for seed in range(2)]
    results = ResultSet([*records(), *others, record("other", label, *knob, 9, 2.0, status="failed")])
    chosen = results.only(method=[name], model=["lenet"])
    assert set(chosen.runs["label"]) == {
        "dwf D=2 (method=dwf, group=none, finetune_epochs=0, finetune_lr=0.1, product_decay=0.0)",
        "dwf D=3",
    }
    assert set(chosen.records) == set(chosen.runs["id"])
    assert list(results.only(method=["other"]).failures["label"]) == ["dwf D=2 (method=other)"]
    assert ResultSet(chosen.records.values()).runs["label"].str.contains("method").sum() == 0
    assert results.only(dataset=["digits"]).runs.empty
    pd.testing.assert_frame_equal(results.only().runs, results.runs)


def test_counted_at_a_threshold_the_runs_have_its_numbers():
    cut = [{"threshold": 1e-3, "nnz": 1, "compression": 40.0, "test_accuracy": 0.5}]
    found = ResultSet(records(methods=METHODS[1:2], thresholds=cut)).counted_at(1e-3).runs
    assert set(found["compression"]) == {40}
    assert set(found["accuracy"]) == {50}


def test_folders_and_archives_are_opened_with_their_histories(tmp_path):
    folder = fill(tmp_path / "results", stored(0), stored(1), stored(2, status="diverged"))
    pack([Source(folder)], tmp_path / "theirs.zip")
    results = dwfbench.open(folder, f"theirs={tmp_path / 'theirs.zip'}")
    assert (len(results.runs), len(results.failures), len(results.history)) == (2, 1, 2)
    (folder / "runs" / stored(1).id / "run.json").write_text("{")
    with pytest.warns(UserWarning, match=stored(1).id):
        assert len(dwfbench.open(folder).runs) == 1
    with pytest.raises(UsageError):
        dwfbench.open(tmp_path / "none.zip")


def test_a_notebook_asks_the_results():
    results = ResultSet(panel())
    assert results.at([4]).set_index("label").accuracy["snip"] == pytest.approx(94)
    assert math.isnan(results.at([3], max_gap=1.5).set_index("label").accuracy["snip"])
    found = results.versus("grasp", [4]).set_index(["label", "quantity"])
    assert found.difference["snip", "accuracy"] == pytest.approx(94 - 97.9)
    assert results.curves().groupby("label")["compression"].max()["snip"] == pytest.approx(8)
    assert set(results.claims().verdict) == {"not run"}
    with pytest.raises(UsageError, match="no sparse curve"):
        results.versus("l1")


def test_open_is_named_but_hides_nothing():
    names: dict = {}
    exec("from dwfbench import *", names)
    assert "open" in dir(dwfbench)
    assert names.get("open", builtins.open) is builtins.open
