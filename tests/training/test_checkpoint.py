"""Training that is stopped and taken up again: the numbers of training that never stopped."""

import errno
import json
import math
import os
import random
import signal
import time

import pytest
import torch
from torch import nn

from dwfbench.methods.registry import create
from dwfbench.runs.store import Store
from dwfbench.training import checkpoint, loop
from dwfbench.training.checkpoint import Checkpoints, Folder, stop
from tests.conftest import wait_for_checkpoint
from tests.records import plain
from tests.training.test_loop import NORM, NORM8, spec, tiny_data


class DropNet(nn.Sequential):
    hidden = 8

    def __init__(self, shape, classes):
        first, last = nn.Linear(math.prod(shape), self.hidden), nn.Linear(self.hidden, classes)
        super().__init__(nn.Flatten(), first, nn.Dropout(0.5), last)


class StopsAt(Checkpoints):
    """Asks to stop after so many steps."""

    def __init__(self, folder, steps, notes):
        super().__init__(Folder(folder), 60, notes.append)
        self.left = steps

    def due(self):
        self.left -= 1
        stop.asked = self.left == 0
        return super().due()


@pytest.fixture(autouse=True)
def nothing_asked():
    yield
    stop.asked = False


def train(specs, data, folder=None, steps=math.inf, notes=None):
    first = specs[0]
    kept = None if folder is None else StopsAt(folder, steps, [] if notes is None else notes)
    trainer = loop.Trainer(first, create(first.method, dict(first.options)), data, checkpoints=kept)
    return list(trainer.train(specs))


CASES = {
    "dwf": (
        [spec("dwf", strength=s, model=NORM, options={"depth": 3}, seed=i) for i, s in enumerate((1e-3, 1e-2))],
        {},
    ),
    "masks": ([spec("snip", compression=4.0, momentum=0.0)], {}),
    "dropout": ([spec(model=f"{__name__}:DropNet")], {}),
    "augmented": ([spec(model=NORM8, augment="paper")], {"shape": (1, 8, 8)}),
    "shared": ([spec("magnitude", compression=c, epochs=6) for c in (2.0, 4.0, 8.0)], {}),
    "changing masks": ([spec("rigl", compression=c, options={"every": 3}) for c in (2.0, 6.0)], {}),
    "rewound": ([spec("imp", compression=c, options={"rounds": 2, "rewind_to": 1}, epochs=7) for c in (2.0, 8.0)], {}),
    "overflow": ([spec("dwf", strength=1e-3), spec("dwf", strength=1e-3, lr=1e4)], {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("steps", [1, 7, 8, 17, 30])
def test_resumed_equals_uninterrupted_bit_for_bit(case, steps, tmp_path):
    specs, shape = CASES[case]
    data = tiny_data(**shape)
    whole = {lane.spec.id: lane for lane in train(specs, data)}
    lanes, attempts = None, 0
    while lanes is None:
        attempts += 1
        try:
            lanes = train(specs, data, tmp_path, steps)
        except KeyboardInterrupt:
            assert list(tmp_path.glob("*.safetensors"))
        stop.asked = False
    if case not in ("shared", "rewound"):  # there, runs that were done are done again, because nothing stores them here
        assert attempts == 3 * 7 // steps + 1  # three epochs of seven steps
    for lane in lanes:
        other = whole[lane.spec.id]
        assert (lane.status, lane.error) == (other.status, other.error)
        assert all(torch.equal(lane.state[name], value) for name, value in other.state.items())
        times = ("seconds",)
        for mine, theirs in zip(lane.history, other.history, strict=True):
            assert {k: v for k, v in mine.items() if k not in times} == {
                k: v for k, v in theirs.items() if k not in times
            }


def interrupted(tmp_path, one, data):
    """The file of a run that was stopped after ten steps."""
    with pytest.raises(KeyboardInterrupt):
        train([one], data, tmp_path, 10)
    stop.asked = False
    return tmp_path / f"{one.id}.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "empty", "noise", "schema", "runs", "data", "no facts", "a folder"])
def test_a_checkpoint_that_is_damaged_or_of_another_run_is_refused_in_a_sentence(tmp_path, damage):
    one, data, notes = spec("dwf", strength=1e-3), tiny_data(), []
    path = interrupted(tmp_path, one, data)
    content = path.read_bytes()
    other = {"schema": ('"schema\\": 2', '"schema\\": 1'), "runs": ("0.001", "0.002"), "data": ("0" * 16, "1" * 16)}
    if damage in other:
        old, new = (text.replace('"', '\\"', 1).encode() for text in other[damage])
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, new))
    elif damage == "no facts":
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        del header["__metadata__"]
        text = json.dumps(header).encode().ljust(length)
        path.write_bytes(content[:8] + text + content[8 + length :])
    elif damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"truncated": content[:-100], "empty": b"", "noise": os.urandom(500)}[damage])
    (lane,) = train([one], data, tmp_path, notes=notes)
    (whole,) = train([one], data)
    assert len(notes) == 1
    assert "starts over" in notes[0]
    assert str(path) in notes[0]
    assert all(torch.equal(lane.state[name], value) for name, value in whole.state.items())


def test_a_checkpoint_of_another_network_of_the_same_name_is_refused(tmp_path, monkeypatch):
    one, data, notes = spec(model=f"{__name__}:DropNet"), tiny_data(), []
    interrupted(tmp_path, one, data)
    monkeypatch.setattr(DropNet, "hidden", 9)
    (lane,) = train([one], data, tmp_path, notes=notes)
    assert len(lane.history) == 3
    assert "another network" in notes[0]


def test_a_full_disk_costs_the_checkpoint_and_not_the_training(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "replace", full)
    notes = []
    kept = Checkpoints(Folder(tmp_path / "checkpoints"), 0, notes.append)
    one = spec("dwf", strength=1e-3)
    trainer = loop.Trainer(one, create("dwf", {}), tiny_data(), checkpoints=kept)
    (lane,) = trainer.train([one])
    assert lane.status == "ok"
    assert "No space left" in notes[0]


# ---------------------------------------------------------------- whole commands, really stopped

LONG = (
    *("run", "--method", "dwf", "--strength", "0.001,0.002", "--epochs", "30", "--batch-size", "32"),
    *("--lr", "0.05", "--compile", "off", "--lanes", "1", "--device", "cpu"),
)


def results(folder):
    """What the records and histories of a folder say, without times."""
    found = {}
    for record in Store(folder).load(history=True):
        content = plain(record)
        history = [{k: v for k, v in row.items() if k != "seconds"} for row in content["history"]]
        timing = ("seconds", "overhead_seconds", "peak_memory_bytes", "provenance")
        found[record.id] = {k: v for k, v in content.items() if k not in timing} | {"history": history}
    return found


@pytest.fixture(scope="module")
def uninterrupted(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    process = start(*LONG, "--threads", "1", "--results", folder)
    process.communicate(timeout=300)
    assert process.returncode == 0
    return results(folder)


@pytest.mark.slow
def test_a_command_killed_at_random_moments_loses_no_record_and_ends_as_if_never_killed(start, uninterrupted, tmp_path):
    moments, seen = random.Random(0), 0
    words = (*LONG, "--threads", "1", "--results", tmp_path, "--checkpoint-minutes", "0.002")
    for last in (False, False, True):
        process = start(*words)
        if not last:
            wait_for_checkpoint(process, tmp_path)
            time.sleep(moments.uniform(0.0, 1.0))
            process.kill()
        process.communicate(timeout=300)
        now = len(list((tmp_path / "runs").glob("*/run.json")))
        assert now >= seen
        seen = now
    assert process.returncode == 0
    assert results(tmp_path) == uninterrupted
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_an_interrupted_command_is_resumed_where_it_was(start, uninterrupted, tmp_path, number, jobs):
    words = (*LONG, "--threads", jobs, "--jobs", jobs, "--results", tmp_path)
    process = start(*words, "--checkpoint-minutes", "0.01")
    wait_for_checkpoint(process, tmp_path)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert list((tmp_path / "checkpoints").glob("*.safetensors"))
    process = start(*words)
    process.communicate(timeout=300)
    assert process.returncode == 0
    assert results(tmp_path) == uninterrupted
    assert not (tmp_path / "checkpoints").exists()
