"""Records on disk: whole or not there, never executed, and a good one is never lost."""

import errno
import itertools
import json
import os
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from msgspec import structs

from dwfbench.base import files
from dwfbench.base.errors import UsageError
from dwfbench.runs.store import Store
from tests.records import changed, typed

ID = "0123456789ab"
EPOCH = {
    **{"epoch": 1, "train_loss": 0.5, "val_accuracy": None, "compression": 2.0},
    **{"misalignment": None, "norm": None, "lr": 0.1, "seconds": 1.5},
}
SIZES = {"zero": 3, "-7": 1, "-6.75": 0, "0": 2}


def content(status="ok", run_id=ID, **more):
    """A record as its file has it."""
    spec = {"method": "dense", "options": {}, "model": "lenet-300-100", "dataset": "digits", "seed": 0}
    results = {"compression": 1.0, "layers": [], "thresholds": [], "provenance": {"data_checksum": "0" * 16}}
    return {
        **{"schema": 1, "id": run_id, "status": status, "label": "dense", "knob": None, "spec": spec, "seconds": 1.0},
        **(results if status == "ok" else {}),
        **more,
    }


def record(status="ok", run_id=ID, **more):
    return typed(content(status, run_id, **more))


@pytest.fixture
def place(tmp_path):
    found = Store(tmp_path / "results")
    found.prepare()
    return found


def test_the_sizes_of_weights_have_a_file_of_their_own(place):
    place.write(record(), [EPOCH | {"sizes": SIZES}])
    assert place.load(history=True, weights=True) == [
        record(history=[EPOCH], weights=[{"epoch": 1, "sizes": SIZES}]),
    ]
    place.write(record(), [EPOCH])  # a run of an earlier version has none
    assert place.load(weights=True) == [record(weights=[])]


def test_a_written_record_is_read_with_its_history(place):
    place.write(record(test_accuracy=0.9), [EPOCH])
    assert place.load(history=True) == [record(test_accuracy=0.9, history=[EPOCH])]
    assert place.status(ID) == "ok"


def test_a_penalty_may_be_negative(place):
    """As a sum of logarithms is: the whole history was unreadable."""
    place.write(record(), [EPOCH | {"norm": -1.5}])
    (found,) = place.load(history=True)
    assert found.history[0].norm == -1.5


def test_a_record_that_nobody_could_read_is_not_written(place):
    """A method may count 3.5 passes: its run was said to have ended well, and was in no table."""
    with pytest.raises(UsageError, match=f"The run {ID} of dense cannot be stored: its extra_passes is damaged"):
        place.write(structs.replace(record(), extra_passes=3.5), [EPOCH])
    assert place.load() == place.damaged == []


def test_a_history_tells_one_zero_of_many_weights(place):
    place.write(record(), [EPOCH | {"compression": 25_000_000 / 24_999_999}])
    (found,) = place.load(history=True)
    assert found.history[0].compression == pytest.approx(1 + 4e-8, abs=1e-9)


def test_infinity_and_nan_are_stored_as_null(place):
    cut = {"threshold": 0.1, "compression": float("inf"), "test_accuracy": 0.1}
    place.write(record(test_loss=float("nan"), thresholds=[cut]), [])
    (found,) = place.load()
    assert found.test_loss is None
    assert found.thresholds == changed(found, thresholds=[cut | {"compression": None}]).thresholds


def test_the_network_is_stored_only_if_asked_and_as_safetensors(place):
    from safetensors.torch import load_file

    place.write(record(), [], {"weight": torch.arange(6.0).view(2, 3).T})
    place.write(record(run_id="f" * 12), [])
    network = place.folder / "runs" / ID / "model.safetensors"
    assert torch.equal(load_file(network)["weight"], torch.arange(6.0).view(2, 3).T)
    assert not (place.folder / "runs" / ("f" * 12) / "model.safetensors").exists()


def test_a_failed_attempt_never_replaces_a_good_record(place):
    place.write(record(test_accuracy=0.9), [])
    place.write(record("failed", error="out of memory"), [])
    assert place.status(ID) == "ok"
    assert place.load() == [record(test_accuracy=0.9)]


def test_a_failure_is_a_record_until_the_run_succeeds(place):
    place.write(record("diverged", error="NaN"), [])
    assert [found.status for found in place.load()] == ["diverged"]
    place.write(record(), [])
    assert [found.status for found in place.load()] == ["ok"]


@pytest.mark.parametrize("before", [None, 0.9])
@pytest.mark.parametrize("file", ["history.csv", "run.json"])
def test_a_disk_that_is_full_leaves_no_half_record_and_the_old_one(place, monkeypatch, before, file):
    if before:
        place.write(record(test_accuracy=before), [])
    real = files.flushed

    def full(path, content):
        if path.name == file:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    monkeypatch.setattr(files, "flushed", full)
    with pytest.raises(UsageError, match="No space left on device"):
        place.write(record(test_accuracy=0.1), [EPOCH])
    assert place.load() == ([record(test_accuracy=before)] if before else [])
    assert place.damaged == []
    assert not list(place.folder.rglob("*.tmp"))


def test_a_run_that_is_trained_again_keeps_nothing_of_before(place):
    place.write(record(), [EPOCH | {"sizes": SIZES}], {"weight": torch.ones(2)})
    folder = place.folder / "runs" / ID
    (folder / "measure.json").write_text("{}")
    place.write(record(test_accuracy=0.5), [EPOCH])
    assert sorted(path.name for path in folder.iterdir()) == ["history.csv", "run.json"]
    assert place.load(history=True) == [record(test_accuracy=0.5, history=[EPOCH])]


CALLS = ("mkdir", "fsync", "rename", "unlink", "rmdir")
"""What a file system sees of a record that is written: between any two of these the process may be killed."""


def killed_before(number, act):
    """Whether a process that does this was killed before its so many-th call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other threads of pytest are not needed in the child
        process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
    try:
        calls = itertools.count(1)

        def mortal(real):
            return lambda *args, **options: os._exit(9) if next(calls) == number else real(*args, **options)

        for name in CALLS:
            setattr(os, name, mortal(getattr(os, name)))
        act()
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_kill_at_any_moment_leaves_a_run_of_one_training(tmp_path):
    old, new = (record(test_accuracy=value, history=[EPOCH | {"lr": value}]) for value in (0.25, 0.5))
    seen, number = [], 1
    while True:
        place = Store(tmp_path / str(number))
        place.prepare()
        place.write(record(test_accuracy=0.25), [EPOCH | {"lr": 0.25}])
        killed = killed_before(number, lambda to=place: to.write(record(test_accuracy=0.5), [EPOCH | {"lr": 0.5}]))
        found = place.load(history=True)
        assert found in ([old], [], [new])
        place.prepare()
        (left,) = place.load(history=True)
        assert left in ((new,) if found != [old] else (old,))
        assert [path.name for path in (place.folder / "runs").iterdir()] == [ID]
        assert place.damaged == []
        seen.append(found)
        if not killed:
            break
        number += 1
    assert [seen.count(state) for state in ([old], [])] == [seen.index([]), 1]
    assert seen[-1] == [new]


def test_what_others_are_writing_is_left_alone(place):
    runs = place.folder / "runs"
    others = [f".{ID}.{files.HOST}-{os.getppid()}.tmp", f".{ID}.elsewhere-1.tmp", f".{ID}.tmp", ".notes"]
    for name in (*others, f".{ID}.{files.HOST}-{2**22 + 1}.tmp"):  # no process has that number
        (runs / name).mkdir()
        (runs / name / "history.csv").write_text("epoch")
    place.prepare()
    assert sorted(path.name for path in runs.iterdir()) == sorted(others)
    assert place.load() == []


@pytest.mark.parametrize(
    "damaged",
    [
        json.dumps(content()).encode()[:-5],
        b"",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"[" * 100_000,
        json.dumps(content(run_id="f" * 12)).encode(),
        json.dumps(content(spec=[])).encode(),
        json.dumps(content(status=["ok"])).encode(),
        json.dumps({"schema": 1, "id": ID, "status": "ok"}).encode(),
    ],
    ids=["truncated", "empty", "not UTF-8", "list", "nested", "another id", "spec", "status", "fields missing"],
)
def test_a_damaged_record_is_named_and_skipped(place, damaged):
    place.write(record(run_id="f" * 12), [])
    place.write(record(), [])
    path = place.folder / "runs" / ID / "run.json"
    path.write_bytes(damaged)
    assert [found.id for found in place.load()] == ["f" * 12]
    (sentence,) = place.damaged
    assert str(path) in sentence
    assert place.status(ID) is None
    place.write(record(), [])
    assert place.status(ID) == "ok"


def test_a_damaged_history_costs_the_history_only(place):
    place.write(record(), [EPOCH])
    (place.folder / "runs" / ID / "history.csv").write_text("epoch,lr\nx,y\n")
    assert place.load(history=True) == [record(history=[])]
    assert place.damaged == [
        f"{place.folder}/runs/{ID}/history.csv is not a readable table; the run counts without it."
    ]


class Trap:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_reading_executes_nothing(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place.write(record(), [])
    for name in ("run.json", "model.pt", "history.pkl"):
        (place.folder / "runs" / ID / name).write_bytes(pickle.dumps(Trap()))
    assert place.load(history=True) == []
    assert not Path("executed").exists()


def test_other_folders_are_not_runs(place):
    (place.folder / "runs" / "notes").mkdir()
    (place.folder / "runs" / "notes" / "run.json").write_text("{}")
    assert (place.load(), place.damaged) == ([], [])


def test_a_results_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(UsageError, match="writes into a folder"):
        Store(tmp_path / "results").prepare()


def test_a_read_only_results_folder_is_refused_before_any_training(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files, "flushed", refuse)
    with pytest.raises(UsageError, match="Read-only file system"):
        Store(tmp_path).prepare()
