"""Several commands on one results folder at once: every run is trained once."""

import re
import time

import pytest

from tests.conftest import wait_for, wait_for_checkpoint
from tests.faults.commands import SMALL, begin, dwfbench, ended, results, stored
from tests.forked import Forked
from tests.words import once

SWEEP = ("--method", "l1,magnitude", "--compression", "2,4,8", "--max-runs", "12", "--epochs", "10", "--lanes", "1")
LISTED = ("--method", "dwf", "--depth", "2", "--strength", "0.001,0.002,0.003,0.004", "--epochs", "30", "--lanes", "1")
TRAINED = re.compile(r"^.*: test [\d.]+ % at CR ", re.MULTILINE)
WAITING = "Another command is training"


def words(folder, jobs=1, sweep=LISTED):
    return once("run", *sweep, *SMALL, "--threads", jobs, "--jobs", jobs, "--results", folder)


def trained(done):
    """The runs that a command says that it trained."""
    return [line.partition(": test")[0] for line in TRAINED.findall(done.stderr)]


@pytest.mark.parametrize(
    ("commands", "jobs", "sweep"),
    [(2, 1, LISTED)]
    + [pytest.param(*case, marks=pytest.mark.faults) for case in [(2, 2, LISTED), (3, 1, SWEEP), (2, 2, SWEEP)]],
)
def test_commands_at_the_same_time_train_each_run_once(tmp_path, call, commands, jobs, sweep):
    start = Forked if jobs == 1 else begin
    processes = [start(*words(tmp_path / "together", jobs, sweep)) for _ in range(commands)]
    done = [ended(process) for process in processes]
    assert [one.code for one in done] == [0] * commands, [one.stderr for one in done]
    names = [name for one in done for name in trained(one)]
    assert len(names) == len(set(names)) == len(results(tmp_path / "together"))
    assert sum(WAITING in one.stderr for one in done) >= commands - 1
    assert call(*words(tmp_path / "alone", 1, sweep)).exit_code == 0
    assert results(tmp_path / "together") == results(tmp_path / "alone")
    assert not (tmp_path / "together" / "checkpoints").exists()


@pytest.mark.faults
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_command_takes_over_what_a_killed_one_did_not_finish(tmp_path, jobs):
    folder = tmp_path / "results"
    first = begin(*words(folder, jobs), "--checkpoint-minutes", "0.001")
    wait_for_checkpoint(first, folder)
    second = begin(*words(folder, jobs))
    time.sleep(4)  # about when it begins to wait
    first.kill()
    ended(first)
    before = stored(folder)
    already = len(results(folder))
    done = ended(second)
    assert done.code == 0, done.stderr
    assert len(trained(done)) == 4 - already
    assert before.items() <= stored(folder).items()
    assert dwfbench(*words(tmp_path / "alone")).code == 0
    assert results(folder) == results(tmp_path / "alone")
    assert not (folder / "checkpoints").exists()


@pytest.mark.faults
def test_a_command_that_is_interrupted_while_it_waits_ends_at_once(tmp_path):
    import signal

    folder = tmp_path / "results"
    first = begin(*words(folder, sweep=(*LISTED, "--epochs", "300")))
    assert wait_for(lambda: (folder / ".claims").exists(), first)
    time.sleep(1)
    second = begin(*words(folder, sweep=(*LISTED, "--epochs", "300")))
    time.sleep(8)
    second.send_signal(signal.SIGINT)
    done = ended(second, 60)
    assert done.code == 130
    assert WAITING in done.stderr
    assert trained(done) == []
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    assert ended(first).code == 130


@pytest.mark.faults
def test_two_studies_of_the_same_method_end_with_the_same_winner(tmp_path):
    study = ("--method", "l1", "--trials", "2", "--compression", "2,4", "--widen", "0", "--epochs", "4", *SMALL[:2])
    rest = ("--compile", "off", "--threads", "1", "--device", "cpu", "--results", tmp_path / "together")
    processes = [begin("tune", *study, *rest) for _ in range(2)]
    done = [ended(process) for process in processes]
    assert [one.code for one in done] == [0, 0], [one.stderr for one in done]
    assert done[0].stdout == done[1].stdout
