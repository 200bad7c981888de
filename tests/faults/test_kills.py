"""SIGKILL at any moment of a sweep: no record is lost or changed, and the sweep ends as if it never was killed."""

import itertools
import os
import random
import signal
import sys
import time
from contextlib import suppress
from subprocess import TimeoutExpired

import pytest

from tests.conftest import wait_for
from tests.faults.commands import SMALL, begin, ended, members, results, stored, temporaries
from tests.forked import Forked
from tests.words import once

SWEEP = """
methods = ["dwf", "magnitude", "dense"]
epochs = 6
[method.dwf]
depth = 2
strength = [0.001, 0.002, 0.004]
[method.magnitude]
compression = [2, 4, 8]
"""
RUNS = 7  # of a seed


class Sweep:
    """One sweep, in folders below ``tmp_path``; ``whole`` is what it stores when nothing disturbs it."""

    def __init__(self, tmp_path, jobs, seeds=2, start=begin):
        (tmp_path / "sweep.toml").write_text(SWEEP)
        threads = ("--threads", jobs, "--jobs", jobs, "--lanes", "1")
        self.words = once("run", "--config", tmp_path / "sweep.toml", "--seeds", seeds, *SMALL, *threads)
        self.words += ["--checkpoint-minutes", "0.0005"]
        self.tmp_path, self.start, self.number = tmp_path, start, 0
        self.next()
        started = time.monotonic()
        assert self.command().code == 0
        self.seconds = time.monotonic() - started
        self.whole = results(self.folder)
        assert len(self.whole) == RUNS * seeds
        self.next()

    def next(self):
        """A fresh folder."""
        self.number += 1
        self.folder = self.tmp_path / f"results-{self.number}"

    def begin(self):
        return self.start(*self.words, "--results", self.folder)

    def command(self):
        return ended(self.begin())

    def check_whole(self):
        """The folder of a finished sweep."""
        assert results(self.folder) == self.whole
        assert not temporaries(self.folder)
        assert not (self.folder / "checkpoints").exists()
        assert not (self.folder / "failed").exists()


def appearances(count, seen):
    """A condition that holds when ``seen()``, a set of names, has had so many names that it did not have before."""
    known, new = set(seen()), set()

    def enough():
        nonlocal known
        now = set(seen())
        new.update(now - known)
        return len(new) >= count

    return enough


def moment(kind, sweep, process, chance):
    """Wait for a random moment of a kind; False when the command ended before."""
    folder = sweep.folder
    if kind == "anywhere":
        try:
            process.wait(chance.uniform(0, sweep.seconds))
        except TimeoutExpired:
            return True
        return False

    def writing():  # inode numbers tell one temporary file from the next of the same name
        place = {"checkpoint": "checkpoints/.*.tmp", "record": "runs/.*.tmp"}[kind]
        found = []
        with suppress(FileNotFoundError):  # the command removes its files and empty folders meanwhile
            for path in folder.glob(place):
                found.append((path.name, path.stat().st_ino, path.stat().st_mtime_ns))
        return found

    def records():
        return [path.parent.name for path in folder.glob("runs/[0-9a-f]*/run.json")]

    seen, most = (records, 4) if kind == "after a record" else (writing, {"checkpoint": 25, "record": 12}[kind])
    return wait_for(appearances(chance.randint(1, most), seen), process)


def campaign(sweep, kinds, kills, chance, call):
    """Kill so many times, at moments of each kind in turn; a sweep that ends before is looked at, and another begun."""
    done, halves, kinds = 0, 0, itertools.cycle(kinds)
    while done < kills:
        before = stored(sweep.folder)
        process = sweep.begin()
        if moment(next(kinds), sweep, process, chance):
            if chance.random() < 0.5:  # the command alone, whose workers have to notice
                process.kill()
            else:  # everything, as when the power fails
                os.killpg(process.pid, signal.SIGKILL)
            done += 1
            ended(process)
            halves += bool(temporaries(sweep.folder))
        else:
            assert ended(process).code == 0
            sweep.check_whole()
            sweep.next()
            continue
        after = stored(sweep.folder)
        assert {path: after.get(path) for path in before} == before
        shown = call("compare", "--results", sweep.folder)
        assert shown.exit_code == (0 if after else 3 if sweep.folder.exists() else 2), shown.stderr
        assert "not a readable record" not in shown.stderr
    assert sweep.command().code == 0
    sweep.check_whole()
    return halves


@pytest.mark.long
def test_a_sweep_killed_four_times_ends_as_if_never_killed(tmp_path, call):
    kinds = ("anywhere", "checkpoint", "after a record", "record")
    campaign(Sweep(tmp_path, jobs=1, seeds=1, start=Forked), kinds, 4, random.Random(0), call)


@pytest.mark.faults
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("kind", "kills"), [("anywhere", 30), ("checkpoint", 25), ("record", 25), ("after a record", 20)]
)
def test_a_sweep_killed_at_200_moments_ends_as_if_never_killed(tmp_path, call, kind, kills, jobs):
    halves = campaign(Sweep(tmp_path, jobs), [kind], kills, random.Random(f"{kind} {jobs}"), call)
    print(f"{kills} kills, {halves} of them left a half-written file")


@pytest.mark.faults
def test_a_sweep_whose_workers_are_killed_trains_everything_all_the_same(tmp_path):
    sweep, chance = Sweep(tmp_path, jobs=2), random.Random(0)
    for _ in range(5):
        process = sweep.begin()
        assert wait_for(appearances(chance.randint(1, 6), lambda: sweep.folder.glob("runs/*/run.json")), process)
        workers = [pid for pid in members(process.pid) if pid != process.pid]
        os.kill(chance.choice(workers), signal.SIGKILL)
        done = ended(process)
        assert done.code == 0, done.stderr
        sweep.check_whole()
        sweep.next()


@pytest.mark.faults
def test_compiled_training_killed_at_any_time_ends_as_if_never_killed(tmp_path):
    """While steps are compiled, too, whose code is kept on disk for the next command."""
    words = ("run", "--method", "dwf", "--depth", "2", "--strength", "0.001,0.002", "--epochs", "40", "--lanes", "1")
    words += (*SMALL, "--compile", "on", "--checkpoint-minutes", "0.002")
    env = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "whole-code")}
    started = time.monotonic()
    assert ended(begin(*words, "--results", tmp_path / "whole", env=env)).code == 0
    seconds, chance = time.monotonic() - started, random.Random(0)
    env = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "code")}  # nothing is compiled yet
    for _ in range(6):
        process = begin(*words, "--results", tmp_path / "results", env=env)
        with suppress(TimeoutExpired):
            process.wait(chance.uniform(0.2, 0.9) * seconds)
        with suppress(ProcessLookupError):  # it was quicker than the first one, and is through
            os.killpg(process.pid, signal.SIGKILL)
        ended(process)
    assert ended(begin(*words, "--results", tmp_path / "results", env=env)).code == 0
    assert results(tmp_path / "results") == results(tmp_path / "whole")


DECODES = """
import time
from pathlib import Path

from dwfbench.data.readers import decoding


def work(mark):
    Path(mark).touch()
    time.sleep(600)


if __name__ == "__main__":
    decoding.ALONE_SECONDS, decoding._processes = -1, lambda: 2
    list(decoding._in_parallel(work, iter(["mark-1", "mark-2"])))
"""


def test_processes_that_decode_images_end_with_a_command_that_is_killed(tmp_path):
    (tmp_path / "decodes.py").write_text(DECODES)
    process = begin(cwd=tmp_path, script=(sys.executable, "decodes.py"))
    assert wait_for(lambda: len(list(tmp_path.glob("mark-*"))) == 2, process)
    assert len(members(process.pid)) >= 3
    process.kill()
    ended(process)
