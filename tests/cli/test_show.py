"""A run as ``dwfbench show`` shows it."""

import json
import shlex

import pytest

from dwfbench.cli import show
from dwfbench.runs.store import Store
from tests.cli.test_app import ID
from tests.records import changed


def test_a_run_is_shown_with_all_that_is_known_of_it(trained, call, monkeypatch):
    folder = trained[0]
    record = next(each for each in Store(folder).load() if each.label == "dwf D=3" and each.status == "ok")
    monkeypatch.setenv("COLUMNS", "80")
    shown = call("show", record.id[:8], "--results", folder)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert max(map(len, shown.stdout.splitlines())) <= max(80, len(str(folder)) + 20)
    assert f"{100 * record.test_accuracy:.2f} %" in shown.stdout
    assert f"({record.nnz:,} of 28,200 weights are left)".replace("28,200", f"{record.numel:,}") in shown.stdout
    for layer in record.layers:
        assert f"{layer.nnz:,}" in next(line for line in shown.stdout.splitlines() if line.startswith(layer.name))
    headings = ["Outcome", "Settings", "History", "Its curve, 2 runs", "Layers"]
    assert [line for line in shown.stdout.splitlines() if line in headings] == headings
    assert call("show", folder / "runs" / record.id).stdout.splitlines()[2:] == shown.stdout.splitlines()[2:]


def test_the_command_of_a_run_plans_that_run(trained, call):
    folder = trained[0]
    labels = {}
    for record in Store(folder).load():
        if record.status == "ok":
            labels[record.label] = record
    for label in ("dwf D=2", "l1 (proximal)", "random (erk)", "magnitude (one-shot)", "dense"):
        command = call("show", labels[label].id, "--results", folder).stdout.splitlines()[-1]
        program, *words = shlex.split(command)
        planned = call(*words, "--results", folder, "--dry-run", "--threads", "1")
        assert program == "dwfbench"
        assert ID.findall(planned.stdout) == [labels[label].id]
        assert planned.stdout.endswith("Nothing is left to train.\n")


def test_tags_and_a_note_are_kept_with_a_run_choose_it_and_are_no_part_of_its_id(run, call, tmp_path):
    words = ("--method", "snip", "--compression", "2,4")
    run(tmp_path, "--method", "dense")
    run(tmp_path, *words, "--tag", "draft, mine", "--note", "before the fix")
    tagged = {record.id for record in Store(tmp_path).load() if record.provenance.tags == ["draft", "mine"]}
    assert tagged == set(ID.findall(run(tmp_path, *words, "--dry-run").stdout))
    for tag in ("mine", "other,draft"):
        assert set(ID.findall(call("list", "runs", "--results", tmp_path, "--tag", tag).stdout)) == tagged
    assert "  dense  " not in call("compare", "--results", tmp_path, "--tag", "draft").stdout
    assert call("compare", "--results", tmp_path, "--tag", "absent").exit_code == 3
    shown = call("show", tagged.pop(), "--results", tmp_path).stdout
    assert "draft, mine" in shown
    assert "before the fix" in shown
    assert "--tag is for `dwfbench list runs`" in call("list", "models", "--tag", "mine").stderr
    assert "--results is for `dwfbench list runs` and `list studies`" in call("list", "models", "--results", "x").stderr


def test_json_has_the_record_its_history_and_the_command(trained, call):
    record = Store(trained[0]).load()[0]
    content = json.loads(call("show", record.id, "--results", trained[0], "--format", "json").stdout)
    assert content["id"] == record.id
    assert [row["epoch"] for row in content["history"]] == [1, 2]
    assert content["command"].startswith("dwfbench run --method ")


def test_a_run_that_failed_is_shown_too_and_one_that_is_not_there_is_refused(run, call, tmp_path):
    run(tmp_path, "--method", "l1", "--strength", "1e-4", "--lr", "1e6")
    (record,) = Store(tmp_path).load()
    shown = call("show", record.id, "--results", tmp_path)
    assert "diverged" in shown.stdout
    assert record.error in shown.stdout
    for beginning, said in (("zz", "There is no run 'zz' in"), ("", "")):
        refused = call("show", beginning, "--results", tmp_path)
        assert refused.exit_code == (2 if said else 0)
        assert said in refused.stderr


def test_a_record_of_an_earlier_version_is_shown_without_what_it_lacks(trained):
    record = next(each for each in Store(trained[0]).load() if each.compression is not None)
    for lacking in ({"nnz": None}, {"numel": None}, {"macs_dense": None}, {"macs_sparse": None}):
        facts = show.outcome(changed(record, **lacking))
        assert ("weights are left" in facts["compression"]) == ("nnz" not in lacking and "numel" not in lacking)
        assert ("multiplications" in facts) == (not lacking.keys() & {"macs_dense", "macs_sparse"})


def test_paths_that_are_unknown_are_not_called_none_and_remarks_are_shown(trained):
    record = changed(
        Store(trained[0]).load()[0], notes=["paths unknown: fft"], connected=None, effective_compression=None
    )
    assert "of live paths" not in show.outcome(record)
    assert show.outcome(record)["remarks"] == "paths unknown: fft"
    assert show.outcome(changed(record, connected=False))["of live paths"] == "no path is left"


def test_a_set_in_which_nothing_ended_well_is_not_called_empty(run, call, tmp_path):
    run(tmp_path, "--method", "dense", "--lr", "1e30")
    result = call("compare", "--results", tmp_path)
    assert "No finished run in" in result.stderr
    assert "fits (1 diverged); train some" in result.stderr


@pytest.mark.parametrize("format", ["json", "csv"])
def test_a_table_of_numbers_has_no_marks(trained, call, format):
    tables = [
        call("compare", "--results", trained[0], *words, "--format", format) for words in ((), ("--best", "bold"))
    ]
    assert [table.exit_code for table in tables] == [0, 0]
    assert tables[0].stdout == tables[1].stdout
