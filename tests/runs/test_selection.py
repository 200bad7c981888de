"""Runs that a command reads: chosen by names and tags, recounted, and chosen again by flags."""

import pytest

from dwfbench.base.errors import UsageError
from dwfbench.runs.selection import Selection, counted_at, filter_records, whole_id
from tests.analysis.test_curves import dense, record
from tests.records import changed


def test_a_folder_is_found_by_its_name():
    runs = [record(2, 90, dataset="flowers@0123456789ab"), record(2, 90, dataset="mnist")]
    assert filter_records(runs, dataset=["flowers"]) == runs[:1]


def test_filters_take_lists():
    runs = [record(2, 90), record(2, 90, method="grasp", label="grasp"), record(2, 90, dataset="kmnist")]
    assert len(filter_records(runs, dataset=["mnist"])) == 2
    assert len(filter_records(runs, dataset=["mnist"], method=["grasp"])) == 1
    assert len(filter_records(runs)) == 3


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["dwf[depth=3]"], [1]),
        (["dwf[depth=2,3]", "dense"], [0, 1, 4]),
        (["dwf[depth=2]", "dwf[depth=3]"], [0, 1]),
        (["dwf[depth=2.0,lr=0.1]"], [0]),
        (["dwf[depth=2,lr=0.3]"], []),
        (["dwf[lr-drops=60,120]"], [1]),
        (["l1[proximal=yes]"], [2]),
        (["l1[proximal=false]"], [3]),
        (["l1[proximal=perhaps]"], []),
        (["dwf[depth=three]", "dwf[width=2]", "l1[precision=bf16]"], [3]),
        (["M"], [5]),
        (["M[kind=Odd]"], [5]),
    ],
)
def test_a_method_is_chosen_by_its_settings_too(names, places):
    def run(method, **settings):
        return record(2, 90, method=method, label=method, **settings)

    runs = [
        run("dwf", options={"depth": 2}, lr=0.1),
        run("dwf", options={"depth": 3}, lr=0.1, lr_drops="60,120"),
        run("l1", options={"proximal": True}),
        run("l1", options={"proximal": False}, precision="bfloat16"),
        run("dense"),
        run("M@0123456789ab", options={"kind": "odd"}),
    ]
    assert filter_records(runs, method=names) == [runs[place] for place in places]


def test_settings_that_no_run_could_have_are_refused():
    for name, said in {"dwf[lr=fast]": "lr must be a number", "dwf[depth]": "takes name=value"}.items():
        with pytest.raises(UsageError, match=said):
            filter_records([record(2, 90, method="dwf", label="dwf")], method=[name])


def test_runs_are_recounted_at_a_recorded_threshold():
    cuts = [
        {"threshold": 1.19e-7, "compression": 2.0, "test_accuracy": 0.9, "nnz": 5},
        {"threshold": 1e-3, "compression": 50.0, "test_accuracy": 0.8, "nnz": 1},
    ]
    good, bad = changed(record(2.0, 90.0), thresholds=cuts), record(None, None, status="failed")
    whole, gone = dense(95), changed(record(9, 50), thresholds=[cuts[1] | {"compression": None}])
    assert counted_at([whole], 1e-3) == [whole]
    assert counted_at([gone], 1e-3)[0].status == "emptied"
    again = counted_at([good, bad], 1e-3)
    assert [(run.compression, run.test_accuracy) for run in again] == [(50.0, 0.8), (None, None)]
    assert good.compression == 2.0
    with pytest.raises(UsageError, match=r"only at 1\.19e-07, 0\.001"):
        counted_at([good], 1e-4)


def test_a_beginning_of_several_ids():
    ids = ["abc222222222", "abc111111111"]
    assert whole_id("abc1", ids, "r") == "abc111111111"
    with pytest.raises(UsageError, match=r"2 runs \(abc111111111, abc222222222\)"):
        whole_id("abc", ids, "r")
    with pytest.raises(UsageError, match="There is no run 'b' in r;"):
        whole_id("b", ids, "r")


def test_a_selection_is_said_by_the_flags_that_make_it():
    chosen = Selection(("r", "b=x.zip"), ["mnist"], None, ["dwf", "l1"], 1e-3, ["last"])
    words = "--results r --results b=x.zip --dataset mnist --method dwf,l1 --tag last"
    assert " ".join(chosen.words()) == f"{words} --threshold 0.001"
    assert " ".join(chosen.words(threshold=False)) == words
    assert chosen.words(method=False)[-4:] == ["--tag", "last", "--threshold", "0.001"]
