"""Training that is stopped and taken up again: the numbers of training that never stopped."""

import errno
import json
import math
import os
import random
import signal
import time
from dataclasses import replace

import pytest
import torch
from msgspec import structs
from safetensors.torch import load, save
from torch import nn

from dwfbench.methods.registry import create
from dwfbench.methods.stage import shared_epochs
from dwfbench.runs.store import Store
from dwfbench.training import checkpoint, loop
from dwfbench.training.checkpoint import Checkpoints, Folder, stop
from dwfbench.training.group import Group
from tests.conftest import wait_for
from tests.forked import Forked
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
@pytest.mark.parametrize("steps", [1, 8])
def test_resumed_equals_uninterrupted_bit_for_bit(case, steps, tmp_path):
    """From every step on, also the last of an epoch; and on through the ends of epochs, each from another step."""
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


@pytest.mark.parametrize("case", ["dwf", "augmented", "changing masks", "rewound"])
def test_the_rest_of_a_group_goes_on_from_the_checkpoint_of_the_whole(case, tmp_path):
    """Of which some runs were stored before a kill, or which had more lanes."""
    specs, shape = CASES[case]
    specs = [*specs, replace(specs[0], seed=7), replace(specs[0], seed=8)]
    data = tiny_data(**shape)
    whole = {lane.spec.id: lane for lane in train(specs, data)}
    with pytest.raises(KeyboardInterrupt):
        train(specs, data, tmp_path, 11)
    stop.asked = False
    for left in ([specs[-1]], [specs[-2], specs[0]]):
        counter = StopsAt(tmp_path, 1000, [])
        trainer = loop.Trainer(left[0], create(left[0].method, dict(left[0].options)), data, checkpoints=counter)
        for lane in trainer.train(left):
            for name, value in whole[lane.spec.id].state.items():
                torch.testing.assert_close(lane.state[name], value, rtol=1e-4, atol=1e-6)
            assert len(lane.history) == lane.spec.epochs
        if case != "rewound":  # which has two groups after another
            assert 1000 - counter.left == 3 * 7 - 11


def test_the_rest_of_a_group_took_its_part_of_the_seconds_of_the_whole():
    specs = [spec("dwf", strength=1e-3, seed=seed) for seed in range(4)]
    group = loop.Trainer(specs[0], create("dwf", {}), tiny_data()).start(specs, "four")
    group.since -= 400
    rest = Group.unpack("one", specs[:1], *group.pack(), [0], torch.device("cpu"))
    assert time.perf_counter() - rest.since == pytest.approx(100, abs=20)


@pytest.mark.parametrize("steps", [-3, 3])
def test_epochs_that_runs_share_are_not_trained_again_where_a_seed_is_complete(steps, tmp_path):
    """Stopped before their end, and in what follows them."""
    specs = [spec("magnitude", compression=ratio, epochs=6, seed=seed) for seed in range(3) for ratio in (2.0, 4.0)]
    data, epoch = tiny_data(), 7
    shared = epoch * shared_epochs(create("magnitude", {}).stages(6))
    assert 0 < shared < 6 * epoch
    with pytest.raises(KeyboardInterrupt):
        train(specs, data, tmp_path, shared + steps)
    stop.asked = False
    counter = StopsAt(tmp_path, 1000, [])
    lanes = list(loop.Trainer(specs[0], create("magnitude", {}), data, checkpoints=counter).train(specs[2:]))
    assert len(lanes) == 4
    assert 1000 - counter.left == 6 * epoch - (shared + steps)


def test_only_a_checkpoint_of_the_same_data_and_version_is_a_groups(tmp_path):
    specs, data = CASES["dwf"][0], tiny_data()
    with pytest.raises(KeyboardInterrupt):
        train(specs, data, tmp_path, 11)
    stop.asked = False
    kept = Checkpoints(Folder(tmp_path), 60, lambda sentence: None)
    trainer = loop.Trainer(specs[0], create("dwf", {"depth": 3}), data, checkpoints=kept)
    expected = trainer.identity(specs[1:])
    assert kept.load("absent", expected)[2] == [1]
    for changes in (
        {"data": "other"},
        {"version": "0"},
        {"schema": 0},
        {"runs": ["another"]},
        {"runs": [*expected.runs, "another"]},
    ):
        assert kept.load("absent", structs.replace(expected, **changes)) is None
    Folder(tmp_path).forget({"another"})
    assert kept.load("absent", expected) is not None
    Folder(tmp_path).forget(set(expected.runs))
    assert kept.load("absent", expected) is None, "so --force begins anew"


def interrupted(tmp_path, one, data):
    """The file of a run that was stopped after ten steps."""
    with pytest.raises(KeyboardInterrupt):
        train([one], data, tmp_path, 10)
    stop.asked = False
    return tmp_path / f"{one.id}.safetensors"


def no_facts(content):
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    del header["__metadata__"]
    return content[:8] + json.dumps(header).encode().ljust(length) + content[8 + length :]


def flipped(content, place):
    """One bit in another state."""
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES = {
    "truncated": lambda content: content[:-100],
    "empty": lambda content: b"",
    "noise": lambda content: os.urandom(500),
    "no facts": no_facts,
    "a bit of a weight": lambda content: flipped(content, len(content) - 9),
    "a bit of the facts": lambda content: flipped(content, content.index(b"overhead_seconds")),
}


def resumed(one, data, path, words):
    """The run starts over, with a sentence that has the words, and ends as if nothing had been there."""
    notes = []
    (lane,) = train([one], data, path.parent, notes=notes)
    (whole,) = train([one], data)
    assert len(notes) == 1
    assert words in notes[0]
    assert "starts over" in notes[0]
    assert str(path) in notes[0]
    assert all(torch.equal(lane.state[name], value) for name, value in whole.state.items())


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_is_damaged_starts_over_with_a_sentence(tmp_path, damage):
    one, data = spec("dwf", strength=1e-3), tiny_data()
    path = interrupted(tmp_path, one, data)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    resumed(one, data, path, "not a readable checkpoint")


def test_a_folder_in_the_place_of_a_checkpoint_starts_over_with_a_sentence(tmp_path):
    one, data = spec("dwf", strength=1e-3), tiny_data()
    path = interrupted(tmp_path, one, data)
    path.unlink()
    path.mkdir()
    resumed(one, data, path, "not a readable checkpoint")


EDITS = {
    "schema": (lambda facts, tensors: facts["identity"].update(schema=2), "another schema"),
    "runs": (lambda facts, tensors: facts["identity"].update(runs=["another"]), "another runs"),
    "data": (lambda facts, tensors: facts["identity"].update(data="another"), "another data"),
    "version": (lambda facts, tensors: facts["identity"].update(version="0.0.1"), "another version"),
    "epoch": (lambda facts, tensors: facts["group"].update(epoch=-1), "not a readable"),
    "seconds": (lambda facts, tensors: facts["group"]["lanes"][0].update(seconds="long"), "not a readable"),
    "row": (lambda facts, tensors: facts["group"]["lanes"][0].update(history=[{"epoch": 1}]), "not a readable"),
    "unknown": (lambda facts, tensors: facts["group"].update(more=1), "not a readable"),
    "order": (lambda facts, tensors: tensors.pop("strength"), "not a readable"),
    "lanes": (lambda facts, tensors: facts["group"].update(lanes=[]), "does not fit"),
    "stage": (lambda facts, tensors: facts["group"].update(stage=7), "does not fit"),
    "generator": (lambda facts, tensors: tensors.update({"global": torch.zeros(3)}), "does not fit"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_whole_checkpoint_of_something_else_starts_over_with_a_sentence(tmp_path, edit):
    one, data = spec("dwf", strength=1e-3), tiny_data()
    path = interrupted(tmp_path, one, data)
    content = path.read_bytes()
    facts, tensors = json.loads(checkpoint.header_of(content)[0]), load(content)
    change, words = EDITS[edit]
    change(facts, tensors)
    text = json.dumps(facts)
    path.write_bytes(save(tensors, metadata={"checkpoint": text, "digest": checkpoint.digest(tensors, text)}))
    resumed(one, data, path, words)


def test_no_bit_of_a_checkpoint_can_change_without_its_being_noticed(tmp_path):
    one, data = spec("dwf", strength=1e-3), tiny_data()
    content = interrupted(tmp_path, one, data).read_bytes()
    tensors, facts = checkpoint.opened(content)
    length, unnoticed = 8 + int.from_bytes(content[:8], "little"), 0
    places = [*range(length), *random.Random(0).sample(range(length, len(content)), 200)]
    for place in places:
        try:
            others, other_facts = checkpoint.opened(flipped(content, place))
        except checkpoint.UNREADABLE:
            continue
        unnoticed += 1
        assert other_facts == facts
        assert all(torch.equal(others[name], value) for name, value in tensors.items())
    assert unnoticed <= 8  # the spaces that fill the header up


def test_a_checkpoint_of_another_network_of_the_same_name_is_refused(tmp_path, monkeypatch):
    one, data, notes = spec(model=f"{__name__}:DropNet"), tiny_data(), []
    interrupted(tmp_path, one, data)
    monkeypatch.setattr(DropNet, "hidden", 9)
    (lane,) = train([one], data, tmp_path, notes=notes)
    assert len(lane.history) == 3
    assert "another network" in notes[0]


class Later(nn.Sequential):
    more = ""

    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(math.prod(shape), classes))
        if self.more == "parameter":
            self.shift = nn.Parameter(torch.zeros(classes))
        elif self.more == "buffer":
            self.register_buffer("shift", torch.zeros(classes))

    def forward(self, images):
        return super().forward(images) + getattr(self, "shift", 0)


@pytest.mark.parametrize(("before", "after"), [("", "parameter"), ("", "buffer"), ("buffer", ""), ("parameter", "")])
def test_a_checkpoint_of_a_network_with_other_tensors_is_refused(tmp_path, monkeypatch, before, after):
    one, data, notes = spec(model=f"{__name__}:Later"), tiny_data(), []
    monkeypatch.setattr(Later, "more", before)
    interrupted(tmp_path, one, data)
    monkeypatch.setattr(Later, "more", after)
    (lane,) = train([one], data, tmp_path, notes=notes)
    assert ("another network" in notes[0], "shift" in lane.state) == (True, bool(after))


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

# The second run trains for seconds after its first checkpoint: on a busy machine, too, it is then found in training.
LONG = (
    *("run", "--method", "dwf[epochs=4,strength=0.001],dwf[epochs=80,strength=0.002]", "--batch-size", "32"),
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
def uninterrupted(call, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert call(*LONG, "--threads", "1", "--results", folder).exit_code == 0
    return results(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_an_interrupted_command_keeps_its_runs_and_is_resumed_where_it_was(
    start, call, uninterrupted, tmp_path, snapshot, number, jobs
):
    begin = Forked if jobs == 1 else start
    process = begin(*LONG, "--threads", jobs, "--jobs", jobs, "--results", tmp_path, "--checkpoint-minutes", "0.002")
    of_first = set()

    def first_is_stored():
        of_first.update(tmp_path.glob("checkpoints/*.safetensors"))
        return any(tmp_path.glob("runs/[0-9a-f]*/run.json"))

    def second_has_checkpoint():
        return any(path not in of_first for path in tmp_path.glob("checkpoints/*.safetensors"))

    if jobs == 1:  # the second run is next
        assert wait_for(first_is_stored, process), process.communicate()
    assert wait_for(second_has_checkpoint, process, 300), process.communicate()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert "Interrupted" in stderr
    kept = results(tmp_path)
    assert len(kept) < 2
    assert len(kept) >= (jobs == 1)
    assert list((tmp_path / "checkpoints").glob("*.safetensors"))
    before = snapshot(tmp_path / "runs")
    again = call(*LONG, "--threads", "1", "--results", tmp_path)
    assert again.exit_code == 0
    assert again.stderr.count(" % at CR") == 2 - len(kept)
    assert before.items() <= snapshot(tmp_path / "runs").items()
    assert results(tmp_path) == uninterrupted
    assert not (tmp_path / "checkpoints").exists()
