"""A disk that fails: calls that end in EIO, by a library that is loaded before the C library's; and folders that go."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.faults.commands import SMALL, begin, dwfbench, ended, results, stored, temporaries

SWEEP = ("run", "--method", "dwf", "--depth", "2", "--strength", "0.001,0.002,0.003,0.004", "--epochs", "10",
         "--lanes", "1", *SMALL, "--checkpoint-minutes", "0.005")  # fmt: skip
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
failing = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


@pytest.fixture(scope="module")
def whole(call, tmp_path_factory):
    """What the sweep stores when nothing fails."""
    folder = tmp_path_factory.mktemp("whole")
    assert call(*SWEEP, "--results", folder).exit_code == 0
    return results(folder)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    made = tmp_path_factory.mktemp("library") / "failing.so"
    source = Path(__file__).with_name("failing.c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-w", "-o", made, source, "-ldl"], check=True)
    return made


@pytest.fixture
def faulty(library, tmp_path):
    """The environment in which a call fails for paths that contain a text, and the file that has it fail."""

    def faulty(call, where):
        switch = tmp_path / "switch"
        return {"LD_PRELOAD": str(library), "CALL": call, "WHERE": where, "SWITCH": str(switch)}, switch

    return faulty


@failing
@pytest.mark.parametrize(
    "failing_call",
    ["write", *(pytest.param(name, marks=pytest.mark.faults) for name in ("fsync", "rename", "mkdir", "open"))],
)
def test_a_disk_that_fails_while_records_are_written_loses_none(faulty, whole, tmp_path, call, failing_call):
    folder = tmp_path / "results"
    env, switch = faulty(failing_call, "/runs/")
    process = begin(*SWEEP, "--results", folder, env=env)
    assert wait_for(lambda: stored(folder), process)
    switch.touch()
    done = ended(process)
    assert done.code == 2, done.stderr
    assert "Input/output error" in done.stderr
    assert done.stderr.count("Error: ") == 1
    before = stored(folder)
    assert 0 < len(results(folder)) < len(whole)
    switch.unlink()
    assert call(*SWEEP, "--results", folder).exit_code == 0
    assert results(folder) == whole
    assert before.items() <= stored(folder).items()
    assert not temporaries(folder)


@failing
@pytest.mark.faults
@pytest.mark.parametrize("failing_call", ["write", "fsync", "rename", "mkdir", "open", "unlink"])
def test_a_disk_that_fails_for_checkpoints_costs_the_checkpoints_alone(faulty, whole, tmp_path, failing_call):
    env, switch = faulty(failing_call, "checkpoints")
    switch.touch()
    done = dwfbench(*SWEEP, "--results", tmp_path / "results", env=env)
    assert done.code == 0, done.stderr
    assert "No checkpoint could be written" in done.stderr
    assert results(tmp_path / "results") == whole


@failing
@pytest.mark.faults
@pytest.mark.parametrize("failing_call", ["read", "open"])
@pytest.mark.parametrize("name", ["run.json", "history.csv"])
def test_a_record_that_the_disk_does_not_give_is_named_and_the_others_are_shown(faulty, tmp_path, failing_call, name):
    folder = tmp_path / "results"
    assert dwfbench(*SWEEP, "--results", folder).code == 0
    run = min(path.parent.name for path in folder.glob("runs/*/run.json"))
    env, switch = faulty(failing_call, f"/runs/{run}/{name}")
    switch.touch()
    for words in (("compare",), ("report", "-o", tmp_path / "report.html")):
        done = dwfbench(*words, "--results", folder, env=env)
        assert done.code == 0, done.stderr
        asked = name == "run.json" or words[0] == "report"
        assert (f"{run}/{name} is not a readable" in done.stderr) == asked
        assert ("Input/output error" in done.stderr) == asked


@pytest.mark.faults
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("way", ["moved", "removed", "exchanged"])
def test_a_results_folder_that_vanishes_is_said_and_not_made_anew(whole, tmp_path, way, jobs):
    folder, away = tmp_path / "results", tmp_path / "away"
    process = begin(*SWEEP, "--threads", jobs, "--jobs", jobs, "--results", folder)
    assert wait_for(lambda: stored(folder), process)
    folder.rename(away)
    if way == "removed":
        shutil.rmtree(away)
    if way == "exchanged":  # as by an unmounted disk, whose place is a folder still
        (folder / "runs").mkdir(parents=True)
    done = ended(process)
    assert done.code == 2, done.stderr
    assert "is no longer the folder that it was when training began" in done.stderr
    assert not stored(folder)
    if folder.exists():
        shutil.rmtree(folder)
    if way != "removed":
        before = stored(away)
        away.rename(folder)
        assert len(before) > 0
    assert dwfbench(*SWEEP, "--results", folder).code == 0
    assert results(folder) == whole
