"""Archives of records: what is packed comes back to the last digit, and nothing in a stranger's file is believed."""

import hashlib
import io
import itertools
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from dwfbench.runs import archive, packing, resultsets
from dwfbench.runs.decode import study_of
from dwfbench.runs.resultsets import Source, sources
from dwfbench.runs.spec import RunSpec
from dwfbench.runs.store import Store
from tests.records import changed, plain, typed
from tests.runs.test_store import killed_before

EPOCH = {
    **{"epoch": 1, "train_loss": 0.1 + 0.2, "val_accuracy": None, "compression": 2.0},
    **{"misalignment": None, "norm": None, "lr": 0.1, "seconds": 1.5, "sizes": {"zero": 3, "-7": 1, "0": 2}},
}
MEASUREMENT = {"schema": 1, "forms": {}, "latency": [], "device_name": "ABC", "threads": 1}


def record(seed=0, strength=1e-3, accuracy=0.9, status="ok", **more):
    """A record of depth 3 with the id of its settings."""
    spec = RunSpec(method="dwf", options={"depth": 3}, seed=seed, strength=strength)
    results = {
        **{"test_accuracy": accuracy, "compression": 1 / 0.3, "layers": [], "thresholds": []},
        "provenance": {"data_checksum": "0" * 16},
    }
    content = {
        **{"schema": 1, "id": spec.id, "status": status, "label": "dwf D=3", "knob": "strength"},
        **{"spec": spec.to_dict(), "seconds": 1.0},
        **(results if status == "ok" else {}),
        **more,
    }
    return typed(content)


def study(run_id, value=0.875):
    texts = {"label": "dwf D=3", "method": "dwf", "model": "lenet-300-100", "dataset": "digits", "objective": "mean"}
    trial = {"values": {"lr": 0.1}, "value": value, "runs": [run_id], "bad": 0}
    return {"id": "5eed5eed5eed", **texts, "budget": {}, "trials": [trial], "best": 0, "provenance": {}}


def fill(folder, *records):
    store = Store(folder)
    for run in records:
        store.write(run, [EPOCH])
    return folder


@pytest.fixture
def folder(tmp_path):
    """Two finished runs, one of them measured, one that diverged, and a tuning of a trial."""
    place = fill(tmp_path / "results", record(0), record(1), record(2, status="diverged"))
    (place / "runs" / record(0).id / "measure.json").write_text(json.dumps(MEASUREMENT | {"id": record(0).id}))
    fill(place / "tuning", record(100))
    Store(place / "tuning").write_study("5eed5eed5eed", study(record(100).id))
    return place


@pytest.fixture
def packed(folder, tmp_path):
    packing.pack(sources([folder]), tmp_path / "set.zip")
    return tmp_path / "set.zip"


def load(*texts):
    records, damaged = resultsets.load(sources(texts), history=True, weights=True, measurement=True)
    assert damaged == []
    return records


# ---------------------------------------------------------------- the same again


def test_an_archive_reads_as_its_folder(folder, packed):
    assert load(packed) == load(folder)
    assert load(folder)[0].history[0].train_loss == 0.3  # nine digits
    assert {run.id: run.measurement is not None for run in load(packed)} == {
        **{record(0).id: True, record(1).id: False, record(2).id: False}
    }
    assert resultsets.studies(sources([packed])) == ([study_of(study(record(100).id))], [])


def test_unpacking_gives_the_folder_back_byte_for_byte(folder, packed, tmp_path, snapshot):
    packing.unpack(Source(packed), tmp_path / "again")
    again, before = (
        {path.relative_to(place): content for path, content in snapshot(place).items()}
        for place in (tmp_path / "again", folder)
    )
    assert again.keys() == before.keys()
    by_hand = Path("runs", record(0).id, "measure.json")  # above, without the store's layout
    assert {name for name in before if before[name] != again[name]} == {by_hand}


def test_equal_records_give_equal_bytes(folder, packed, tmp_path):
    other = tmp_path / "elsewhere"
    for run in (record(2, status="diverged"), record(1), record(0)):  # in another order, at another time
        fill(other, run)
    (other / "runs" / record(0).id / "measure.json").write_text(json.dumps(MEASUREMENT | {"id": record(0).id}))
    fill(other / "tuning", record(100))
    Store(other / "tuning").write_study("5eed5eed5eed", study(record(100).id))
    packing.pack(sources([other]), tmp_path / "other.zip")
    packing.pack(sources([packed]), tmp_path / "repacked.zip")
    assert (tmp_path / "other.zip").read_bytes() == packed.read_bytes() == (tmp_path / "repacked.zip").read_bytes()


def test_the_table_beside_an_archive_has_a_row_a_run(folder, packed):
    head, *rows = (line.split(",") for line in packed.with_suffix(".csv").read_text().splitlines())
    assert [row[0] for row in rows] == ["runs"] * 3 + ["tuning"]
    ids = [row[head.index("id")] for row in rows]
    assert ids[:3] == sorted(record(seed).id for seed in range(3))
    assert ids[3] == record(100).id
    one = dict(zip(head, rows[ids.index(record(1).id)], strict=True))
    assert (one["seed"], one["value"], one["test_accuracy"], one["status"]) == ("1", "0.001", "0.9", "ok")


def test_older_histories_may_lack_columns(tmp_path):
    folder = fill(tmp_path / "results", record(0), record(1))
    older = folder / "runs" / record(0).id / "history.csv"
    older.write_text("epoch,train_loss,val_accuracy,compression,misalignment,lr,seconds\n1,0.5,,2,,0.1,1.5\n")
    packing.pack(sources([folder]), tmp_path / "set.zip")
    rows = {run.id: plain(run)["history"] for run in load(tmp_path / "set.zip")}
    assert rows[record(0).id] == [{"epoch": 1, "train_loss": 0.5, "val_accuracy": None, "compression": 2.0,
                                      "misalignment": None, "norm": None, "lr": 0.1, "seconds": 1.5}]  # fmt: skip


def test_a_damaged_table_is_not_left_out_without_a_word(tmp_path):
    folder = fill(tmp_path / "results", record(0), record(1))
    for name in ("history.csv", "weights.csv"):
        (folder / "runs" / record(0).id / name).write_text("epoch,epoch\n1,2\n")
    _, damaged = packing.pack(sources([folder]), tmp_path / "set.zip")
    assert [re.search(rf"{record(0).id}/(\w+).csv is not a readable table", line)[1] for line in damaged] == [
        *("history", "weights")
    ]


# ---------------------------------------------------------------- several sets


def test_the_same_run_in_two_sets_counts_once(tmp_path):
    first = fill(tmp_path / "first", record(0), record(1))
    second = fill(tmp_path / "second", record(1, seconds=9.0), record(2))
    merged = load(first, second)
    assert sorted(run.spec.seed for run in merged) == [0, 1, 2]
    assert all(run.set is None for run in merged)
    (shared,) = (run for run in merged if run.spec.seed == 1)
    assert shared.seconds == 1.0  # the first one's


def test_labels_tell_curves_apart_that_differ_only_in_where_they_come_from(tmp_path):

    first = fill(tmp_path / "first", record(0), record(1))
    second = fill(tmp_path / "second", record(2), record(3))
    merged = load(f"ours={first}", f"theirs={second}")
    frame = ResultSet(merged).runs
    assert sorted(zip(frame["label"], frame["seed"], strict=True)) == [
        *(("dwf D=3 (set=ours)", seed) for seed in (0, 1)),
        *(("dwf D=3 (set=theirs)", seed) for seed in (2, 3)),
    ]
    assert set(ResultSet(load(f"ours={first}", f"copy={first}")).runs["label"]) == {"dwf D=3"}
    assert set(ResultSet(load(first, second)).runs["label"]) == {"dwf D=3"}


def test_sets_that_disagree_about_a_run_are_told_apart_without_labels(tmp_path):

    first = fill(tmp_path / "first", record(0), record(1))
    second = fill(tmp_path / "second", record(0), record(1, accuracy=0.8))
    frame = ResultSet(load(first, second)).runs
    assert sorted(zip(frame["label"], frame["seed"], frame["accuracy"], strict=True)) == [
        ("dwf D=3 (set=first)", 0, 90.0),
        ("dwf D=3 (set=first)", 1, 90.0),
        ("dwf D=3 (set=second)", 0, 90.0),
        ("dwf D=3 (set=second)", 1, 80.0),
    ]


def test_a_failure_gives_way_to_a_result_and_a_divergence_does_not(tmp_path):
    failed = fill(tmp_path / "failed", record(0, status="failed"))
    diverged = fill(tmp_path / "diverged", record(0, status="diverged"))
    good = fill(tmp_path / "good", record(0))
    assert [run.status for run in load(failed, good)] == ["ok"]
    assert sorted(run.status for run in load(diverged, good)) == ["diverged", "ok"]


def test_a_set_has_the_dense_reference_of_its_own(tmp_path):
    from dwfbench.analysis import cautions, curves

    def dense(accuracy):
        spec = RunSpec(method="dense")
        return changed(record(accuracy=accuracy), id=spec.id, label="dense", knob=None, spec=spec.to_dict())

    def synflow():
        spec = RunSpec(method="synflow", compression=4.0)
        return changed(record(), id=spec.id, label="synflow", knob="compression", spec=spec.to_dict())

    first = fill(tmp_path / "first", record(0, accuracy=0.85), dense(0.9), synflow())
    second = fill(tmp_path / "second", record(0, accuracy=0.75), dense(0.8))
    third = fill(tmp_path / "third", dense(0.9), record(1, strength=5e-3))
    frame = ResultSet(load(f"a={first}", f"b={second}", f"c={third}")).runs
    references = curves.dense_reference(frame[frame["method"] != "dense"], frame)
    assert dict(zip(references["label"], references["dense"], strict=True)) == {
        "dwf D=3 (set=a)": pytest.approx(90.0),
        "dwf D=3 (set=b)": pytest.approx(80.0),
        "dwf D=3 (set=c)": pytest.approx(90.0),  # whose dense run is the first set's, too
        "synflow": pytest.approx(90.0),  # which the first set has alone
    }
    assert not any("several dense settings" in line for line in cautions.warnings(frame))
    assert any("several dense settings" in line for line in cautions.warnings(frame.assign(sources=[()] * len(frame))))


def tuned_run(run):
    return changed(run, provenance={"tuned": {"study": "5eed5eed5eed", "trials": 3, "values": {"lr": run.spec.lr}}})


def test_a_run_that_one_set_tuned_and_another_was_given_is_of_both_curves(tmp_path):
    given = fill(tmp_path / "given", record(0), record(1))
    tuned = fill(tmp_path / "tuned", tuned_run(record(1)), tuned_run(record(2)))
    merged = load(fill(tmp_path / "both", record(0), tuned_run(record(2))), fill(tmp_path / "by hand", record(2)))
    assert len(ResultSet(merged).runs) == len(merged) == 3
    for order in ([given, tuned], [tuned, given]):
        frame = ResultSet(load(*order)).runs
        assert frame.groupby("label")["seed"].agg(list).map(sorted).to_list() == [[0, 1], [1, 2]]
        assert frame["id"].is_unique
    with pytest.raises(UsageError, match=rf"{record(1).id} of .* is of another curve.*a study chose its settings"):
        packing.pack(sources([given, tuned]), tmp_path / "set.zip")
    packing.pack(sources([given, tuned]), tmp_path / "set.zip", keep_both=True)
    frame = ResultSet(load(tmp_path / "set.zip")).runs
    assert frame.groupby("label")["seed"].agg(list).map(sorted).to_list() == [[0, 1], [1, 2]]


def test_a_folder_whose_runs_were_adopted_is_packed_over_its_archive(tmp_path):
    before, live = (
        fill(tmp_path / "before", record(0)),
        fill(tmp_path / "live", tuned_run(record(0)), record(2, accuracy=0.5)),
    )
    for order in ([before, live], [live, before]):
        parts, _ = packing.pack(sources(order), tmp_path / "set.zip")
        assert list(parts) == [""]
        assert load(tmp_path / "set.zip")[0].provenance.tuned is not None
        (tmp_path / "set.zip").unlink()
        (tmp_path / "set.csv").unlink()
    failed = fill(tmp_path / "failed", record(0, status="failed"))
    assert [run.status for run in load(failed, fill(tmp_path / "ok", tuned_run(record(0))))] == ["ok"]
    packing.pack(sources([failed, tmp_path / "ok"]), tmp_path / "set.zip")
    assert [run.status for run in load(tmp_path / "set.zip")] == ["ok"]


def test_names_of_sets_are_all_different():
    assert resultsets._distinct(["a", "a", "a-2", "b"]) == ["a-1", "a-3", "a-2", "b"]


def test_a_tested_run_goes_before_one_that_never_was(tmp_path):
    untested, tested = fill(tmp_path / "a", record(0, accuracy=None)), fill(tmp_path / "b", record(0))
    for order in ([untested, tested], [tested, untested]):
        assert [run.test_accuracy for run in load(*order)] == [0.9]
        packing.pack(sources(order), tmp_path / "set.zip")
        assert [run.test_accuracy for run in load(tmp_path / "set.zip")] == [0.9]
        (tmp_path / "set.zip").unlink()
        (tmp_path / "set.csv").unlink()


def test_studies_that_disagree_are_named(tmp_path):
    for name, value in (("a", 0.875), ("b", 0.5)):
        Store(tmp_path / name / "tuning").write_study("5eed5eed5eed", study("0" * 12, value))
    found, (sentence,) = resultsets.studies(sources([tmp_path / "a", tmp_path / "b"]))
    assert [one.trials[0].value for one in found] == [0.875]
    assert "b has other trials than the same study elsewhere" in sentence


# ---------------------------------------------------------------- merging by pack


def test_runs_of_two_sources_make_no_curve(tmp_path):
    """They disagree about one run: each keeps its curve whole, in the archive and in the folder made of it."""
    first = fill(tmp_path / "first", record(0, strength=1e-3), record(0, strength=2e-3))
    second = fill(tmp_path / "second", *(record(0, strength=s, accuracy=0.8) for s in (2e-3, 3e-3)))
    by_sources = ResultSet(load(first, f"theirs={second}")).runs.groupby("label")["knob_value"].agg(list)
    packing.pack(sources([first, f"theirs={second}"]), tmp_path / "set.zip", keep_both=True)
    packing.unpack(Source(tmp_path / "set.zip"), tmp_path / "again")
    for place in (tmp_path / "set.zip", tmp_path / "again"):
        curves = ResultSet(load(place)).runs.groupby("label")["knob_value"].agg(list)
        assert curves.map(sorted).to_list() == by_sources.map(sorted).to_list() == [[1e-3, 2e-3], [2e-3, 3e-3]]
    packing.pack(sources([tmp_path / "again"]), tmp_path / "twice.zip")
    assert len(load(tmp_path / "twice.zip")) == len(load(tmp_path / "set.zip")) == 4


def test_packing_merges(tmp_path):
    first = fill(tmp_path / "first", record(0), record(1, status="failed"))
    second = fill(tmp_path / "second", record(0, seconds=9.0), record(1))
    packing.pack(sources([first]), tmp_path / "set.zip")
    packing.pack(sources([tmp_path / "set.zip", second]), tmp_path / "set.zip")
    assert {run.spec.seed: run.status for run in load(tmp_path / "set.zip")} == {0: "ok", 1: "ok"}


def test_a_disagreement_is_refused_by_name_or_kept_with_its_label(tmp_path):
    first = fill(tmp_path / "first", record(0), record(1))
    second = fill(tmp_path / "second", record(0), record(1, accuracy=0.8))
    with pytest.raises(UsageError, match=rf"{record(1).id}.*test_accuracy 0\.9 and 0\.8.*--keep-both"):
        packing.pack(sources([first, second]), tmp_path / "set.zip")
    assert not (tmp_path / "set.zip").exists()
    packing.pack(sources([first, f"theirs={second}"]), tmp_path / "set.zip", keep_both=True)
    accuracies = {run.id: run.test_accuracy for run in load(tmp_path / "set.zip") if run.spec.seed == 1}
    assert accuracies == {f"{record(1).id}@set": 0.9, f"{record(1).id}@theirs": 0.8}
    packing.unpack(Source(tmp_path / "set.zip"), tmp_path / "again")
    assert Store(tmp_path / "again" / "sets" / "theirs").read(record(1).id).test_accuracy == 0.8


def test_a_third_result_is_not_lost_behind_a_label_that_has_another(tmp_path):
    first, second, third = (
        fill(tmp_path / name, record(0, accuracy=a)) for name, a in (("a", 0.9), ("b", 0.8), ("c", 0.7))
    )
    packing.pack(sources([first, f"theirs={second}"]), tmp_path / "set.zip", keep_both=True)
    before = (tmp_path / "set.zip").read_bytes()
    with pytest.raises(UsageError, match=r"test_accuracy 0\.8 and 0\.7.*give another label"):
        packing.pack(sources([tmp_path / "set.zip", f"theirs={third}"]), tmp_path / "set.zip", keep_both=True)
    assert (tmp_path / "set.zip").read_bytes() == before
    packing.pack(sources([tmp_path / "set.zip", f"others={third}"]), tmp_path / "set.zip", keep_both=True)
    assert sorted(run.test_accuracy for run in load(tmp_path / "set.zip")) == [0.7, 0.8, 0.9]


def test_an_archive_that_is_there_is_not_replaced_by_other_records(packed, tmp_path):
    other = fill(tmp_path / "other", record(7))
    before = packed.read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        packing.pack(sources([other]), packed)
    with pytest.raises(UsageError, match=r"called SET\.zip"):
        packing.pack(sources([other]), tmp_path / "set.tar")
    assert packed.read_bytes() == before
    (tmp_path / "mine.csv").write_text("my own,table\n")
    with pytest.raises(UsageError, match=r"mine\.csv.*is another file"):
        packing.pack(sources([other]), tmp_path / "mine.zip")
    assert (tmp_path / "mine.csv").read_text() == "my own,table\n"
    assert not (tmp_path / "mine.zip").exists()


def test_sources_without_a_run_make_no_archive(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(UsageError, match=r"nothing to pack in .*pictures: no run and no tuning"):
        packing.pack(sources([str(tmp_path / "pictures")]), tmp_path / "set.zip")
    assert not list(tmp_path.glob("set.*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_an_unpacking_that_is_killed_is_finished_by_the_next_and_leaves_nothing_else(packed, tmp_path):
    packing.unpack(Source(packed), tmp_path / "whole")
    names = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*")}
    for number in itertools.count(1, 3):
        there = tmp_path / str(number)
        killed = killed_before(number, lambda to=there: packing.unpack(Source(packed), to))
        assert Store(there).load() == [run for run in Store(tmp_path / "whole").load() if Store(there).read(run.id)]
        packing.unpack(Source(packed), there)
        assert {path.relative_to(there) for path in there.rglob("*")} == names
        if not killed:
            break
    assert number > 10


def test_unpacking_into_a_folder_adds_what_is_missing_and_changes_nothing(packed, tmp_path, snapshot):
    there = fill(tmp_path / "there", record(1, seconds=5.0), record(8))
    before = snapshot(there)
    packing.unpack(Source(packed), there)
    after = snapshot(there)
    assert {name: after[name] for name in before} == before
    assert Store(there).read(record(0).id).status == "ok"
    other = fill(tmp_path / "other", record(0, accuracy=0.1))
    before = snapshot(other)
    with pytest.raises(UsageError, match=rf"{record(0).id}.*another result"):
        packing.unpack(Source(packed), other)
    assert snapshot(other) == before


# ---------------------------------------------------------------- strangers' files


def rewritten(path, change):
    """The archive with its members changed by a function, checksums as they were."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in members.items():
            new.writestr(name, content)
    return path


def manifest(members, **changes):
    members["manifest.json"] = json.dumps(json.loads(members["manifest.json"]) | changes).encode()


DAMAGES = {
    "a changed number": lambda m: m.update({"records.jsonl": m["records.jsonl"].replace(b"0.9", b"0.8")}),
    "a member that is missing": lambda m: m.pop("records.jsonl"),
    "no manifest": lambda m: m.pop("manifest.json"),
    "another format": lambda m: manifest(m, format="other"),
    "a later version": lambda m: manifest(m, version=2),
    "checksums that are none": lambda m: manifest(m, sha256=[1]),
    "a nested manifest": lambda m: m.update({"manifest.json": b"[" * 100_000}),
    "a bomb": lambda m: m.update({"records.jsonl": b" " * (archive.SMALL + 1)}),
    "a line without end": lambda m: m.update({"records.jsonl": bytes(range(1, 9)) * (5 << 20)}),
}


@pytest.mark.parametrize("change", DAMAGES.values(), ids=DAMAGES)
def test_damaged_archives_are_refused_in_a_sentence(packed, change):
    with pytest.raises(UsageError, match=r"^.{10,400}$") as raised:
        resultsets.load(sources([rewritten(packed, change)]), history=True)
    assert "set.zip" in str(raised.value)


def test_what_another_version_stored_is_not_replaced(folder, packed, tmp_path, snapshot):
    """Neither in a folder that an archive is unpacked into, nor in an archive that is added to."""
    newer = tmp_path / "newer"
    shutil.copytree(folder, newer)
    path = newer / "runs" / record(0).id / "run.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    before = snapshot(newer)
    with pytest.raises(UsageError, match=r"schema 99"):
        packing.unpack(Source(packed), newer)
    assert snapshot(newer) == before

    def change(members):
        members["records.jsonl"] = members["records.jsonl"].replace(b'"schema": 1', b'"schema": 99', 1)
        sums = json.loads(members["manifest.json"])["sha256"]
        manifest(members, sha256=sums | {"records.jsonl": hashlib.sha256(members["records.jsonl"]).hexdigest()})

    archive = rewritten(packed, change)
    content = archive.read_bytes()
    with pytest.raises(UsageError, match=r"would lose what cannot be read in it; .*schema 99"):
        packing.pack(sources([archive, folder]), archive)
    assert archive.read_bytes() == content


def test_cut_files_are_refused(packed, tmp_path):
    whole = packed.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        packed.write_bytes(whole[:length])
        with pytest.raises(UsageError, match="is no archive of results, or is damaged"):
            resultsets.load(sources([packed]))


def test_a_record_that_is_none_is_named_and_left_out(packed):
    def change(members):
        lines = members["records.jsonl"].splitlines()
        damaged = [lines[0], b'{"id": "../../../../etc", "schema": 1}', b"[]", b'{"schema": 2}', lines[0]]
        members["records.jsonl"] = b"\n".join(damaged) + b"\n"
        sums = json.loads(members["manifest.json"])["sha256"]
        manifest(members, sha256=sums | {"records.jsonl": hashlib.sha256(members["records.jsonl"]).hexdigest()})

    records, damaged = resultsets.load(sources([rewritten(packed, change)]))
    assert [run.id for run in records] == [min(record(seed).id for seed in range(3))]
    assert len(damaged) >= 4
    assert not any("etc" in sentence for sentence in damaged)


def test_the_same_name_twice_is_refused(packed):
    with zipfile.ZipFile(packed, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("records.jsonl", b"")
    with pytest.raises(UsageError, match="list of members"):
        resultsets.load(sources([packed]))


def test_a_size_that_lies_is_not_believed(packed):
    """The size in the zip's directory says 10 bytes, the member has more: nothing beyond is read."""
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        size = file.getinfo("records.jsonl").file_size.to_bytes(4, "little")
    place = content.rfind(size)  # that of the directory, which readers believe
    content[place : place + 4] = (10).to_bytes(4, "little")
    packed.write_bytes(content)
    with pytest.raises(UsageError, match="is damaged"):
        resultsets.load(sources([packed]))


# ---------------------------------------------------------------- sources and commands


def test_labels_and_paths(tmp_path):
    (tmp_path / "a=b").mkdir()
    assert Source.of(tmp_path / "a=b") == Source(tmp_path / "a=b")
    assert Source.of(f"mine={tmp_path}") == Source(tmp_path, "mine")
    for text, sentence in (
        (f"{tmp_path}/none", "no results folder or archive"),
        (f"mine={tmp_path}/none", "no results folder or archive"),
        (f"a/b={tmp_path}", "is no label"),
    ):
        with pytest.raises(UsageError, match=sentence):
            Source.of(text)
    with pytest.raises(UsageError, match="label mine"):
        sources([f"mine={tmp_path}", f"mine={tmp_path / 'a=b'}"])


@pytest.mark.slow
def test_commands_read_archives_as_folders(folder, packed, call, tmp_path):
    assert call("compare", "--results", packed).stdout == call("compare", "--results", folder).stdout != ""
    assert call("list", "runs", "--results", packed).stdout == call("list", "runs", "--results", folder).stdout
    assert call("plot", "--results", packed).stdout.strip() == str(tmp_path / "set" / "accuracy.png")
    assert (tmp_path / "set" / "accuracy.png").stat().st_size > 0
    assert call("report", "--results", packed).exit_code == 0
    assert "5eed5eed5eed" in (tmp_path / "set" / "report.html").read_text()


def test_training_into_an_archive_is_refused(packed, call):
    before = packed.read_bytes()
    refused = call("run", "--method", "dense", "--epochs", "1", "--results", packed, "--device", "cpu")
    assert refused.exit_code == 2
    assert "dwfbench unpack" in refused.stderr
    assert packed.read_bytes() == before
    assert call("measure", "abc", "--results", packed).exit_code == 2


def test_the_commands_pack_and_unpack(folder, call, tmp_path):
    done = call("pack", folder, "-o", tmp_path / "x.zip")
    assert done.exit_code == 0
    assert "3 runs (1 of them diverged or failed), 1 tuning studies with 1 runs" in done.stdout
    assert call("unpack", tmp_path / "x.zip", "--to", tmp_path / "again").exit_code == 0
    assert call("compare", "--results", tmp_path / "again").stdout == call("compare", "--results", folder).stdout
    assert call("unpack", folder, "--to", tmp_path / "y").exit_code == 2
    two = call("compare", "--results", f"a={folder}", "--results", f"b={fill(tmp_path / 'b', record(5))}")
    assert "dwf D=3 (set=a)" in two.stdout
    assert "dwf D=3 (set=b)" in two.stdout
