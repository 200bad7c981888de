"""Worker processes of this machine: what a task has finished is stored, whatever becomes of the rest."""

from dataclasses import replace

import pytest

from dwfbench.execution import local, worker
from dwfbench.experiments import run as runner
from dwfbench.runs.store import Store
from tests.execution.breaking import method
from tests.experiments.test_run import CPU, Listener, content, plan

THREE = {"compression": [2, 4, 8], "finetune_epochs": 1, "epochs": 3, "batch_size": 128}


class Ordered(Store):
    """Keeps what was stored, in its order."""

    def __init__(self, folder):
        super().__init__(folder)
        self.order = []

    def write(self, record, history, state=None):
        super().write(record, history, state)
        self.order.append((record.spec.compression, record.status))


@pytest.mark.parametrize(("how", "why"), [("wait", "timed out: "), ("die", local.DIED)])
def test_what_a_task_finished_is_stored_once_and_the_rest_goes_on_the_next_time(
    digits, tmp_path, monkeypatch, forked_workers, how, why
):
    name, switch = method(tmp_path, how)
    (curve,) = plan(digits, methods=name, **THREE)
    checkpoints = tmp_path / "checkpoints"
    engine = replace(CPU, lanes=1, checkpoints=checkpoints, timeout_minutes=60)
    store, listener = Ordered(tmp_path / "broken"), Listener()
    if how == "wait":  # the clock decides nothing here
        monkeypatch.setattr(local, "patience", lambda engine: 3600 if len(store.order) < 2 else 0.5)
    outcome = runner.execute([curve], digits, store, engine, listener)
    assert store.order == [(2, "ok"), (4, "ok"), (8, "failed")]
    (failed,) = [record for record in store.load() if record.status == "failed"]
    assert failed.error.startswith(why)
    assert list(outcome.values()) == ["ok", "ok", "failed"]
    kept = {path.stem for path in checkpoints.iterdir()}
    assert [name[:7] for name in kept - {failed.id}] == ["shared-"]  # the epochs that all three begin with
    assert (failed.id in kept) == (how == "wait")

    switch.unlink()
    monkeypatch.setattr(local, "patience", lambda engine: 3600)
    runner.execute([curve], digits, store, engine, listener)
    assert store.order[3:] == [(8, "ok")]
    assert not checkpoints.exists()
    whole = Store(tmp_path / "whole")
    runner.execute([curve], digits, whole, replace(CPU, lanes=1), listener)
    assert content(store) == content(whole)


@pytest.mark.parametrize("unread", [[], [b"a message"]])
def test_a_worker_whose_command_is_killed_ends_without_a_word(digits, monkeypatch, unread):
    """Also where the command had not read what it was told, which resets the pipe."""
    monkeypatch.setattr(local.signal, "signal", lambda number, handler: None)
    command_end, worker_end = local.connection.Pipe()
    for message in unread:
        worker_end.send_bytes(message)
    command_end.close()
    local.serve(worker_end, digits, CPU, [])


def test_a_process_that_is_late_but_finishes_takes_no_other_task(digits):
    """What was asked to stop would stop at the first step of its next task."""

    class Process:
        killed = False

        def kill(self):
            self.killed = True

        def join(self, timeout=None): ...
        def terminate(self): ...

    (curve,) = plan(digits, methods="dense", epochs=1)
    process = Process()
    seat = local.Seat(digits, CPU)
    seat.pipe, theirs = local.connection.Pipe()
    seat.process, seat.task, seat.deadline = process, worker.Task(curve.method, curve.specs, 1, False), 0
    assert list(seat.hear(Listener())) == []
    assert seat.late
    local.PipeTeller(theirs).tell("done")
    assert list(seat.hear(Listener())) == []
    assert process.killed
    assert (seat.process, seat.task, seat.late) == (None, None, False)
