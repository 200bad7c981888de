"""Code of others that raises anything, ends the process, prints or hangs: it is named, and what is finished is kept."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dwfbench.runs.store import Store
from tests.conftest import wait_for
from tests.faults.commands import SMALL, begin, dwfbench, ended
from tests.forked import Forked

WAYS = {
    "an error": ("raise ValueError('boom\\x1b[2J')", "ValueError: boom\\x1b[2J"),
    "an exit": ("sys.exit(0)", "SystemExit: 0"),
    "an exit at once": ("os._exit(0)", "SystemExit: os._exit(0)"),
    "an interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "what is no error and says nothing": ("raise Odd", "Odd"),
}
CODE = """
import os
import sys

from torch import nn

from dwfbench.method import Method

PLACE = {place!r}


class Odd(BaseException):
    def __str__(self):
        raise ValueError


def fail(place, much=True):
    print("printed by others")
    if place == PLACE and much:
        {how}


fail("import")


class Mine(Method):
    knob = "compression"

    def check(self, spec, data):
        fail("plan")

    def scores(self, moment):
        return {{name: weight.abs() for name, weight in moment.weights.items()}}

    def target(self, moment):
        fail("training", moment.compression == 4)
        return moment.compression


class Net(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))
        fail("network")

    def forward(self, images):
        fail("steps", self.training)
        return super().forward(images)
"""


@pytest.fixture
def words(tmp_path):
    """A command that trains code of others, which fails at a place in a way."""

    def words(place, way):
        file = tmp_path / "own.py"
        file.write_text(CODE.format(place=place, how=WAYS[way][0]))
        code = ("--method", f"{file}:Mine", "--model", f"{file}:Net", "--compression", "2,4")
        return ("run", *code, "--epochs", "2", *SMALL, "--lanes", "1", "--results", tmp_path / "results")

    return words


def named(way):
    """What is said of a failure: what was raised, and where."""
    return f"{WAYS[way][1]} (line "


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("place", "code"), [("import", 2), ("plan", 1), ("network", 2)])
def test_before_training_the_command_says_whose_failure_it_is(words, call, place, code, way):
    done = call(*words(place, way))
    assert (done.exit_code, done.stdout) == (code, "")
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert named(way) in said
    assert "of own.py)" in said
    assert said.isprintable()


@pytest.mark.parametrize("way", WAYS)
def test_in_training_the_run_failed_and_the_others_are_stored(words, call, tmp_path, way):
    done = call(*words("training", way))
    assert done.exit_code == 1
    assert "printed" not in done.stdout
    records = {record.spec.compression: record for record in Store(tmp_path / "results").load()}
    assert [records[compression].status for compression in (2, 4)] == ["ok", "failed"]
    assert records[4].error.startswith(named(way))
    assert records[4].error.endswith("of own.py)")


@pytest.mark.long
def test_worker_processes_survive_code_of_others(words, tmp_path, monkeypatch):
    """The first run that fails exits at once, and the second one raises an interrupt."""
    ways = ("an exit at once", "an interrupt")
    how = f"if os.path.exists({str(tmp_path / 'exited')!r}):\n            {WAYS[ways[1]][0]}\n        "
    how += f"os.mkdir({str(tmp_path / 'exited')!r})\n        {WAYS[ways[0]][0]}"
    monkeypatch.setitem(WAYS, "both", (how, ""))
    done = dwfbench(*words("training", "both"), "--threads", "2", "--jobs", "2", "--seeds", "2")
    assert done.code == 1, done.stderr
    assert "printed by others" in done.stderr
    assert "printed by others" not in done.stdout
    records = Store(tmp_path / "results").load()
    assert sorted((record.spec.compression, record.status) for record in records) == [
        *[(2, "ok")] * 2,
        *[(4, "failed")] * 2,
    ]
    failures = [record.error for record in records if record.status == "failed"]
    assert all(any(named(way) in error for error in failures) for way in ways), failures


@pytest.mark.faults
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise RuntimeError('not here')", "RuntimeError: not here (line 5 of own.py)"),
        ("os.kill(os.getpid(), 9)", "the worker process died twice"),
        ("ctypes.CDLL(None)._exit(3)", "was ended twice by code of others, with exit code 3"),
    ],
)
def test_code_that_fails_in_workers_alone_is_named(words, tmp_path, code, why):
    command = words("none", "an error")
    file = tmp_path / "own.py"
    head = f"import ctypes, os\nfrom multiprocessing import parent_process\n\nif parent_process():\n    {code}\n"
    file.write_text(head + file.read_text())
    done = dwfbench(*command, "--threads", "2", "--jobs", "2", "--seeds", "2")
    assert done.code in (1, 2)
    assert why in done.stderr + "".join(record.error or "" for record in Store(tmp_path / "results").load())


@pytest.mark.parametrize("place", ["import", "steps"])
def test_code_that_hangs_is_named_when_it_is_interrupted(words, tmp_path, monkeypatch, place):
    # Not by `open`: what closes a file that nobody keeps swallows an interrupt that comes just then.
    how = f"os.mkdir({str(tmp_path / 'hangs')!r}); __import__('time').sleep(600)"
    monkeypatch.setitem(WAYS, "hanging", (how, ""))
    process = Forked(*words(place, "hanging"))
    assert wait_for((tmp_path / "hangs").exists, process)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:  # as users do it; the first may wait for a step's end
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
    done = ended(process, 30)
    assert done.code == 130
    assert "Interrupted in code of others, line " in done.stderr
    assert "of own.py; finished runs are kept" in done.stderr


# ---------------------------------------------------------------- what is printed

LOUD = """
import os
import subprocess

print("printed")
os.write(1, b"written\\n")
subprocess.run(["echo", "echoed"])


def net(shape, classes):
    "A network."
"""


@pytest.mark.parametrize("words", [("list", "models", "--format", "json"), ("list", "models", "--json"),
                                   ("doctor", "--format", "json")])  # fmt: skip
def test_whatever_a_plug_in_prints_json_stays_json(tmp_path, words):
    facts = tmp_path / "loud-1.dist-info"
    facts.mkdir()
    (tmp_path / "loud.py").write_text(LOUD)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[dwfbench.models]\nloud = loud:net\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = dwfbench(*words, env={"PYTHONPATH": path})
    assert json.loads(done.stdout)
    for text in ("printed\n", "written\n", "echoed\n"):
        assert text in done.stderr


# ---------------------------------------------------------------- interrupts and streams


@pytest.mark.parametrize("module", ["typer", "torch"])
def test_an_interrupt_while_the_command_starts_is_one_sentence(tmp_path, module):
    """The module that is imported first, or last, interrupts."""
    (tmp_path / f"{module}.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    process = begin("run", script=(sys.executable, "-m", "dwfbench"), env={"PYTHONPATH": path})
    done = ended(process, 60)
    assert (done.code, done.stdout) == (130, "")
    assert done.stderr.startswith("Interrupted")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [("list", "recipes", "--format", "json"), ("--version",), ("run", "--help")])
def test_a_full_stdout_is_said(words):
    with open("/dev/full", "w") as full:
        script = Path(sys.executable).with_name("dwfbench")
        done = subprocess.run([script, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.faults
def test_a_full_stderr_ends_no_training(tmp_path):
    script = Path(sys.executable).with_name("dwfbench")
    words = ("run", "--method", "dense", "--epochs", "10", *SMALL, "--results", tmp_path)
    with open("/dev/full", "w") as full:
        done = subprocess.run([script, *words], stdout=subprocess.PIPE, stderr=full, text=True, timeout=300)
    assert done.returncode == 0
    assert "dense" in done.stdout
    (record,) = Store(tmp_path).load()
    assert record.status == "ok"
