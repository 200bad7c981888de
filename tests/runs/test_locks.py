"""Claims on runs, taken by real processes: locks belong to a process."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from dwfbench.execution.worker import Engine
from dwfbench.experiments import plan
from dwfbench.experiments import run as runner
from dwfbench.methods.registry import create
from dwfbench.runs import locks
from dwfbench.runs.locks import Claims
from dwfbench.runs.store import Store
from tests.records import changed

OTHER = """
import sys
from pathlib import Path
from dwfbench.runs.locks import Claims
with Claims(Path(sys.argv[1])) as claims:
    print(len(claims.take(sys.argv[2:])), flush=True)
    sys.stdin.read()
"""
CPU = Engine(torch.device("cpu"), threads=1, compile=False)
IDS = ["000000000000", "00000000000a", "ffffffffffff"]


class Listener:
    """Keeps the notes, and acts on them."""

    def __init__(self, act=lambda text: None):
        self.notes, self.act = [], act

    def curve(self, *_):
        pass

    compiling = epoch = run = curve

    def note(self, text):
        self.notes.append(text)
        self.act(text)


@pytest.fixture
def other():
    """Another process that claims runs in a folder, and how many it got."""
    started = []

    def other(folder, *run_ids):
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER, folder, *run_ids], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process, int(process.stdout.readline())

    yield other
    for process in started:
        process.kill()
        process.communicate()


def test_a_claim_holds_against_other_processes_until_it_is_given_back(other, tmp_path):
    with Claims(tmp_path) as mine:
        assert mine.take(IDS[:2]) == set(IDS[:2])
        assert mine.take(IDS[:2]) == set(IDS[:2])
        assert other(tmp_path, *IDS)[1] == 1
        assert mine.take(IDS) == set(IDS[:2])
        mine.give_back(IDS[0])
        assert other(tmp_path, *IDS)[1] == 1
    assert other(tmp_path, IDS[1])[1] == 1


def test_a_process_that_is_killed_leaves_no_claim(other, tmp_path):
    process, got = other(tmp_path, *IDS)
    assert got == 3
    with Claims(tmp_path) as mine:
        assert mine.take(IDS) == set()
        process.kill()
        process.wait()
        assert mine.take(IDS) == set(IDS)


def test_without_locks_every_claim_is_granted(monkeypatch, tmp_path):
    monkeypatch.setattr(locks, "fcntl", None)
    with Claims(tmp_path) as mine:
        assert mine.take(IDS) == set(IDS)
        mine.give_back(IDS[0])


@pytest.fixture
def curve(digits):
    request = plan.Request(
        create("snip", {}), {"compression": [2, 4], "epochs": 1, "batch_size": 128, "model": "lenet-300-100"}
    )
    return plan.curve(request, digits)


def test_what_another_command_left_behind_is_trained_after_waiting(digits, other, tmp_path, curve):
    first, second = (one.id for one in curve.specs)
    process, _ = other(tmp_path, second)
    listener = Listener(act=lambda text: process.kill())  # once it waits
    outcome = runner.execute([curve], digits, Store(tmp_path), CPU, listener)
    assert list(outcome.items()) == [(first, "ok"), (second, "ok")]
    assert [note for note in listener.notes if "Another command is training 1 of these runs" in note]


def test_what_another_command_has_stored_meanwhile_is_not_trained_again(digits, other, tmp_path, curve):
    first, second = (one.id for one in curve.specs)
    elsewhere, here = Store(tmp_path / "elsewhere"), Store(tmp_path / "here")
    runner.execute([replace(curve, specs=curve.specs[1:])], digits, elsewhere, CPU, Listener())
    record = changed(elsewhere.read(second), status="diverged", error="elsewhere")
    process, _ = other(here.folder, second)

    def end(text):
        here.write(record, [])
        process.kill()

    outcome = runner.execute([curve], digits, here, CPU, Listener(end))
    assert set(outcome) == {first, second}, "and the exit code follows what the other made of it"
    assert here.read(second).error == "elsewhere"
