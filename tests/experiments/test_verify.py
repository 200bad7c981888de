"""Stored runs trained again from their records: the same numbers, and a word when they are not."""

import json
import shutil
from dataclasses import replace

import pytest

from dwfbench.base import plugins
from dwfbench.base.errors import UsageError
from dwfbench.experiments import verify
from dwfbench.runs.resultsets import differing
from dwfbench.runs.store import Store
from tests.experiments.test_run import CPU, Listener
from tests.records import changed, typed


@pytest.fixture(scope="module")
def records(trained):
    return Store(trained[0]).load()


def record(accuracy, compression, seed=0, status="ok", strength=1e-3):
    spec = {"method": "dwf", "seed": seed, "strength": strength}
    results = {"status": status, "test_accuracy": accuracy, "compression": compression}
    return typed({"id": f"{seed}{strength}", "spec": spec, **results})


def test_every_record_gives_its_own_id(records):
    assert len(records) > 10
    for one in records:
        assert verify.spec_of(one).id == one.id


def test_a_run_that_two_sets_have_is_trained_once_and_compared_with_both(records, tmp_path):
    (one,) = verify.sample(records, 1, seed=1)
    both = [changed(one, id=f"{one.id}@ours"), changed(one, id=f"{one.id}@theirs", test_accuracy=one.test_accuracy / 2)]
    comparisons = verify.verify(both, both, None, Store(tmp_path), CPU, Listener())
    assert [comparison.again.id for comparison in comparisons] == [one.id, one.id]
    assert [comparison.record.id for comparison in comparisons] == [run.id for run in both]
    assert len(Store(tmp_path).load()) == 1


@pytest.mark.parametrize(
    ("changes", "said"), [({"lr": 0.123}, "give the id"), ({"warp": 9}, "does not know: warp"), ({"lr": -1}, "above 0")]
)
def test_a_record_whose_settings_are_not_its_own_is_refused(records, changes, said):
    other = changed(records[0], spec=changes)
    with pytest.raises(UsageError, match=said):
        verify.spec_of(other)


def test_runs_come_out_again(records, tmp_path):
    chosen = verify.sample(records, 3, seed=1)
    found = verify.verify(records, chosen, None, Store(tmp_path), CPU, Listener())
    assert [one.record.id for one in found] == [one.id for one in chosen]
    for one in found:
        assert one.agrees
        assert one.again.test_loss == pytest.approx(one.record.test_loss, rel=1e-3)  # lanes round differently
        assert one.again.spec == one.record.spec


def test_a_run_of_a_group_comes_out_as_in_the_group(records, tmp_path, run):
    words = ("--method", "l1", "--epochs", "3", "--results", tmp_path / "then")
    run(*words, "--strength", "1e-4,1e-3")
    run(*words, "--strength", "3e-4")
    stored = Store(tmp_path / "then").load()
    assert sorted(one.provenance.lanes for one in stored) == [1, 2, 2]
    for number, one in enumerate(stored):
        (compared,) = verify.verify(stored, [one], None, Store(tmp_path / str(number)), CPU, Listener())
        assert not differing(one, compared.again)
    for compared in verify.verify(stored, stored, None, Store(tmp_path / "all"), CPU, Listener()):
        assert not differing(compared.record, compared.again)


def test_other_data_of_one_of_two_sets_are_refused(records, tmp_path):
    one = records[0]
    ours = changed(one, id=f"{one.id}@ours", provenance={"data_checksum": "0" * 16})
    both = [ours, changed(one, id=f"{one.id}@theirs")]
    with pytest.raises(UsageError, match=f"{one.id}@ours: their checksum differs"):
        verify.verify(both, both, None, Store(tmp_path), CPU, Listener())


def test_other_data_are_refused(records, tmp_path):
    one = records[0]
    other = changed(one, provenance={"data_checksum": "0" * 16})
    with pytest.raises(UsageError, match="checksum differs"):
        verify.verify([other], [other], None, Store(tmp_path), replace(CPU), Listener())


def test_the_sample_is_of_good_runs_and_depends_on_its_seed():
    runs = [record(0.5, 2, seed) for seed in range(30)] + [record(None, None, 99, "diverged")]
    drawn = [tuple(one.spec.seed for one in verify.sample(runs, 5, seed)) for seed in range(9)]
    assert len(set(drawn)) > 1
    assert drawn[0] == tuple(one.spec.seed for one in verify.sample(runs[::-1], 5, 0))
    assert 99 not in {seed for seeds in drawn for seed in seeds}
    assert len(verify.sample(runs, 1000, 0)) == 30


def test_what_is_allowed_grows_with_the_spread_of_the_other_seeds():
    def setting(strength, *numbers):
        return [record(*pair, seed, strength=strength) for seed, pair in enumerate(numbers)]

    near, far = setting(1, (0.9, 10), (0.902, 10.1)), setting(2, (0.7, 100), (0.51, 100), (0.53, 110))
    wild, lie = setting(3, (0.7, 100), (0.5, 100), (0.6, 400)), setting(4, (0.9, 10), (0.1, 500))
    runs = [*near, *far, *wild, *lie]
    assert verify.allowed(near[0], runs) == (1.0, 1.1)
    assert verify.allowed(far[0], runs) == pytest.approx((6, 1.1**3))
    assert verify.allowed(wild[0], runs) == (10.0, 2.0)
    assert [verify.allowed(run, runs) for run in lie] == [(1.0, 1.1)] * 2, "an invented number allows itself nothing"


@pytest.mark.parametrize(
    ("again", "agrees"),
    [
        (record(0.91, 10), True),
        (record(0.889, 10), False),
        (record(0.9, 11), True),
        (record(0.9, 11.2), False),
        (record(0.9, 9), False),
        (record(None, None, status="diverged"), False),
    ],
)
def test_a_repetition_agrees_within_what_is_allowed(again, agrees):
    assert verify.Comparison(record(0.9, 10), again, 1.0, 1.1).agrees is agrees


def test_runs_of_a_method_of_a_file_are_verified_where_the_file_is_given(run, call, tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_taken", {})
    file = tmp_path / "own.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\nfrom dwfbench.method import Method\n"
        "@dataclass(frozen=True)\nclass Own(Method):\n    knob: ClassVar = None\n"
        "    summary: ClassVar[str] = 'as dense'\n    source: ClassVar[str] = 'ours'\n"
    )
    results = tmp_path / "results"
    assert run(results, "--method", f"{file}:Own").exit_code == 0
    assert run(results, "--method", "dense").exit_code == 0
    (own,) = (one for one in Store(results).load() if one.spec.method.startswith("Own@"))
    monkeypatch.setattr(plugins, "_taken", {})
    words = ("verify", "--results", results, "--threads", "1")
    without = call(*words)
    said = f"1 runs of methods that are not installed are left out ({own.spec.method}); --method file.py:Class verifies"
    assert said in without.stderr
    assert (without.exit_code, own.id in without.stdout) == (0, False)
    untrained = call("export", own.id, "--results", results, "--to", tmp_path / "x")
    assert (
        "kept no weights; this trains it again and keeps them: dwfbench run --method path/to/file.py:Own"
        in untrained.stderr
    )
    with_file = call(*words, "--method", f"{file}:Own")
    assert (with_file.exit_code, own.id in with_file.stdout) == (0, True), with_file.stderr


def test_runs_of_a_package_that_is_gone_do_not_keep_others_from_being_verified(call, trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "copy")
    dense = next(record.id for record in Store(tmp_path / "copy").load() if record.spec.method == "dense")
    path = tmp_path / "copy" / "runs" / dense / "run.json"
    content = json.loads(path.read_text())
    content["spec"]["method"] = "hoyer"
    path.write_text(json.dumps(content))
    result = call("verify", "--results", tmp_path / "copy", "--runs", "1", "--threads", "1")
    assert "1 runs of methods that are not installed are left out (hoyer); " in result.stderr
    assert (result.exit_code, result.stdout.count("agrees")) == (0, 1), result.stderr


def test_the_command_tells_a_run_that_differs(call, trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "copy")
    words = ("verify", "--results", tmp_path / "copy", "--runs", "1", "--threads", "1")
    good = call(*words)
    assert (good.exit_code, good.stdout.count("agrees")) == (0, 1), good.stderr
    name = good.stdout.split()[-1]
    path = tmp_path / "copy" / "runs" / name / "run.json"
    edited = json.loads(path.read_text())
    edited["test_accuracy"] = 0.01
    path.write_text(json.dumps(edited))
    bad = call(*words)
    assert (bad.exit_code, bad.stdout.count("DIFFERS")) == (1, 1)
    assert json.loads(path.read_text()) == edited, "verify leaves what is stored alone"
    assert call("verify", "--results", tmp_path, "--threads", "1").exit_code == 3
