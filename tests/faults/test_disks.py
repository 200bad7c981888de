"""Disks that are full, folders that cannot be written, and homes that cannot."""

import os
import subprocess
from pathlib import Path

import pytest

from dwfbench.runs.store import Store
from tests.conftest import wait_for
from tests.faults.commands import SMALL, begin, dwfbench, ended, results, stored, temporaries
from tests.words import once

SWEEP = ("--method", "dwf", "--depth", "2", "--strength", "0.001,0.002,0.003,0.004", "--epochs", "10", "--lanes", "1")
SHORT = ("run", "--method", "dense", "--epochs", "2", *SMALL)
MORTAL = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
"""Before a command: root's right to write everywhere is taken from it."""


class Disk:
    """A file system of 4 MB."""

    def __init__(self, folder: Path):
        self.folder, self.ballast = folder, folder / "ballast"

    def mount(self, *options: str) -> None:
        done = subprocess.run(["mount", *options, self.folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")

    def fill(self, leave: int = 0) -> None:
        """Until so many bytes are left."""
        state = os.statvfs(self.folder)
        with open(self.ballast, "ab") as file:
            file.write(bytes(max(0, state.f_bavail * state.f_bsize - leave)))

    def clear(self) -> None:
        self.ballast.unlink()


@pytest.fixture
def disk(tmp_path):
    made = Disk(tmp_path / "disk")
    made.folder.mkdir()
    made.mount("-t", "tmpfs", "-o", "size=4m", "tmpfs")
    yield made
    subprocess.run(["umount", made.folder], check=True)


@pytest.fixture(scope="module")
def whole(call, tmp_path_factory):
    """What the sweep stores when there is room."""
    folder = tmp_path_factory.mktemp("whole")
    assert call("run", *SWEEP, *SMALL, "--results", folder).exit_code == 0
    return results(folder)


# ---------------------------------------------------------------- full


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.faults)])
def test_a_disk_that_fills_up_while_records_are_written_loses_none(disk, whole, call, monkeypatch, jobs):
    folder = disk.folder / "results"
    words = once("run", *SWEEP, *SMALL, "--threads", jobs, "--jobs", jobs, "--results", folder)
    write = Store.write

    def fills(store, *content):
        """The disk is full as soon as a record is there."""
        write(store, *content)
        disk.fill()

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", fills)
        done = call(*words)
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr
    assert "make room or choose another place" in done.stderr
    before = stored(folder)
    assert 0 < len(results(folder)) < len(whole)
    assert not temporaries(folder)
    assert call("compare", "--results", folder).exit_code == 0
    disk.clear()
    assert call(*words).exit_code == 0
    assert results(folder) == whole
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.faults
@pytest.mark.parametrize("room", [0, 10_000])
def test_a_disk_that_is_full_from_the_start_is_said_before_any_training(disk, room):
    folder = disk.folder / "results"
    disk.fill(room)
    done = dwfbench(*SHORT, "--results", folder)
    assert done.code == 2
    assert f"{folder} cannot be written (No space left on device)" in done.stderr
    assert not [path for path in folder.rglob("*") if path.is_file()]
    disk.clear()
    assert dwfbench(*SHORT, "--results", folder).code == 0


@pytest.mark.faults
def test_a_disk_without_room_for_checkpoints_costs_the_checkpoints_alone(disk, whole):
    folder = disk.folder / "results"
    disk.fill(500_000)  # a checkpoint has 800 kB
    done = dwfbench("run", *SWEEP, *SMALL, "--checkpoint-minutes", "0.005", "--results", folder)
    assert done.code == 0
    assert "No checkpoint could be written" in done.stderr
    assert results(folder) == whole
    assert not temporaries(folder)


@pytest.mark.faults
def test_a_full_disk_leaves_no_half_of_a_figure_or_report(disk):
    folder = disk.folder / "results"
    assert dwfbench(*SHORT, "--results", folder).code == 0
    disk.fill()
    before = set(folder.rglob("*"))
    for command in ("plot", "report"):
        done = dwfbench(command, "--results", folder)
        assert (done.code, done.stdout) == (2, "")
        assert "No space left on device" in done.stderr
    assert dwfbench("compare", "--results", folder).code == 0
    assert set(folder.rglob("*")) == before


# ---------------------------------------------------------------- not to be written


@pytest.mark.faults
def test_a_folder_that_is_read_only_can_be_read_and_is_refused_before_training(disk, tmp_path):
    folder = disk.folder / "results"
    assert dwfbench(*SHORT, "--results", folder).code == 0
    before = stored(folder)
    disk.mount("-o", "remount,ro")
    more = dwfbench(*SHORT, "--seeds", "2", "--results", folder)
    assert more.code == 2
    assert f"{folder} cannot be written (Read-only file system)" in more.stderr
    for command, name in (("plot", "accuracy.png"), ("report", "report.html")):
        done = dwfbench(command, "--results", folder)
        assert done.code == 2
        assert str(folder / name) in done.stderr
        assert "(Read-only file system)" in done.stderr
        assert dwfbench(command, "--results", folder, "-o", tmp_path / name).code == 0
        assert (tmp_path / name).stat().st_size > 1000
    assert dwfbench("compare", "--results", folder).code == 0
    assert stored(folder) == before
    disk.mount("-o", "remount,rw")
    assert dwfbench(*SHORT, "--seeds", "2", "--results", folder).code == 0
    assert before.items() <= stored(folder).items()


@pytest.mark.faults
def test_a_folder_of_somebody_else_is_refused_before_training(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    folder.chmod(0o555)
    done = dwfbench(*SHORT, "--results", folder, before=MORTAL)
    assert done.code == 2
    assert f"{folder} cannot be written (Permission denied)" in done.stderr
    assert not list(folder.iterdir())


@pytest.mark.faults
def test_a_folder_that_loses_its_permission_during_training_keeps_what_it_has(tmp_path, whole):
    folder = tmp_path / "results"
    words = ("run", *SWEEP, *SMALL, "--results", folder)
    process = begin(*words, before=MORTAL)
    assert wait_for(lambda: list(folder.glob("runs/*/run.json")), process)
    (folder / "runs").chmod(0o555)
    done = ended(process)
    assert done.code == 2
    assert "Permission denied" in done.stderr
    before = stored(folder)
    assert 0 < len(results(folder)) < len(whole)
    (folder / "runs").chmod(0o755)
    assert dwfbench(*words, before=MORTAL).code == 0
    assert results(folder) == whole
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.faults
@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_checkpoints_of_somebody_else_cost_the_checkpoints_alone(tmp_path, whole, mode):
    folder = tmp_path / "results"
    words = ("run", *SWEEP, *SMALL, "--checkpoint-minutes", "0.005", "--results", folder)
    (folder / "checkpoints").mkdir(parents=True)
    process = begin(*words, before=MORTAL)
    assert wait_for(lambda: list(folder.glob("checkpoints/*.safetensors")), process)
    process.kill()
    ended(process)
    (folder / "checkpoints").chmod(mode)
    try:
        done = dwfbench(*words, before=MORTAL)
    finally:
        (folder / "checkpoints").chmod(0o755)
    assert done.code == 0, done.stderr
    assert f"No checkpoint could be written to {folder / 'checkpoints'} (Permission denied)" in done.stderr
    assert results(folder) == whole


# ---------------------------------------------------------------- homes


HOMES = {
    "absent": {"HOME": "/proc/nonexistent"},
    "read-only": {"HOME": "home"},
    "unset": {"HOME": None},
}


@pytest.mark.faults
@pytest.mark.parametrize("home", HOMES)
def test_without_a_home_to_write_to_every_command_works(tmp_path, home):
    folder, home_folder = tmp_path / "results", tmp_path / "home"
    home_folder.mkdir(mode=0o555)
    bare = {**HOMES[home], "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None, "MPLCONFIGDIR": None, "DWFBENCH_DATA": None}
    if home == "read-only":
        bare["HOME"] = str(home_folder)
    everything = [
        (*SHORT, "--save-model"),
        (*SHORT, "--method", "dwf", "--strength", "0.001", "--compile", "on"),
        ("compare",),
        ("plot",),
        ("report",),
    ]
    for words in everything:
        done = dwfbench(*words, "--results", folder, env=bare, cwd=tmp_path, before=MORTAL)
        assert done.code == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"results", "home"}
    assert not list(home_folder.iterdir())
    (run,) = [record["id"] for record in results(folder).values() if record["spec"]["method"] == "dense"]
    words = ("export", run, "--to", tmp_path / "exported", "--forms", "dense,sparse,compact", "--results", folder)
    done = dwfbench(*words, env=bare, cwd=tmp_path, before=MORTAL)
    assert done.code == 0, done.stderr


@pytest.mark.faults
def test_own_images_are_read_without_a_home_for_their_cache(tmp_path):
    from PIL import Image

    for part, count in (("train", 100), ("test", 20)):
        for label in ("one", "two"):
            (tmp_path / "images" / part / label).mkdir(parents=True)
            for number in range(count):
                picture = Image.effect_noise((200, 200), 50 + 50 * (label == "two"))
                picture.save(tmp_path / "images" / part / label / f"{number}.png")
    words = (
        "run",
        "--dataset",
        tmp_path / "images",
        "--image-size",
        "16",
        "--epochs",
        "2",
        *SMALL,
        "--method",
        "dense",
    )
    home = {"HOME": "/proc/nonexistent", "XDG_CACHE_HOME": None}
    done = dwfbench(*words, "--batch-size", "32", "--results", tmp_path / "results", env=home, before=MORTAL)
    assert len(results(tmp_path / "results")) == 1, done.stderr
    assert "Error" not in done.stderr
