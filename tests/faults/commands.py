"""What the fault tests share: commands in a session of their own, and what a results folder holds."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from dwfbench.methods.registry import create
from dwfbench.runs.spec import RunSpec
from dwfbench.runs.store import Store
from tests.records import plain
from tests.words import once

SMALL = ("--batch-size", "128", "--lr", "0.1", "--compile", "off", "--threads", "1", "--device", "cpu")
TIMES = ("seconds", "overhead_seconds", "peak_memory_bytes", "provenance")


class Ended(NamedTuple):
    code: int
    stdout: str
    stderr: str


def begin(*words: object, before: tuple[str, ...] = (), script: tuple[str, ...] = (), **more) -> subprocess.Popen:
    """Start ``dwfbench WORDS`` by its console script, with the words ``before`` it, or another ``script``.

    Its processes are a session, so that none can hide. ``env`` are changes to the environment, None to remove.
    """
    script = script or (str(Path(sys.executable).with_name("dwfbench")),)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more.pop("env", {})}
    return subprocess.Popen(
        [*before, *script, *once(*words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in environment.items() if value is not None},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells' background jobs have it ignored
        **more,
    )


def ended(process: subprocess.Popen, timeout: float = 300) -> Ended:
    """Wait for a command and for all that it started: a process that outlives it fails the test, and is killed."""
    try:
        stdout, stderr = process.communicate(timeout=timeout)
        deadline = time.monotonic() + 30
        while (left := members(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left, f"processes {left} outlived the command"
    finally:
        for left in members(process.pid):
            os.kill(left, signal.SIGKILL)
    assert "Traceback" not in stderr, stderr
    return Ended(process.returncode, stdout, stderr)


def dwfbench(*words: object, timeout: float = 300, **more) -> Ended:
    return ended(begin(*words, **more), timeout)


def members(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdecimal() else ()
        except OSError:  # it ended meanwhile
            continue
        if fields and int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def stored(folder: Path) -> dict[Path, bytes]:
    """Every file of the runs that are stored as ``ok``, by path."""
    runs = [path.parent for path in folder.glob("runs/[!.]*/run.json")]
    return {file: file.read_bytes() for run in runs for file in run.iterdir() if not file.name.startswith(".")}


def temporaries(folder: Path) -> list[Path]:
    """Half-written files."""
    return list(folder.rglob(".*.tmp"))


def results(folder: Path) -> dict[str, dict]:
    """What records and histories say, by run, without times."""
    found, store = {}, Store(folder)
    for record in store.load(history=True, weights=True):
        content = plain(record)
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in content["history"]]
        found[record.id] = {key: value for key, value in content.items() if key not in TIMES} | {"history": rows}
    assert store.damaged == []
    return found


def trained_by(record: dict, **changed: object) -> dict:
    """A record as another machine or version would have left it: fields of its provenance replaced."""
    return {**record, "provenance": {**record["provenance"], **changed}}


def renamed(record: dict, **settings: object) -> dict:
    """The record of a run with other settings, under that run's id."""
    spec = {**record["spec"], **settings}
    options = create(spec["method"], spec["options"]).changed()
    return {**record, "spec": spec, "id": RunSpec(**{**spec, "options": options}).id}
