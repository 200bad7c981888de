"""Commands within a time limit: each gets what is left, ends there, and keeps what it has stored."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

GRACE = 20.0
"""Seconds that a command asked to stop has for a checkpoint; a killed one has lost nothing that was stored."""


class Clock:
    """The time left, in seconds, of a number of minutes that began with it."""

    def __init__(self, minutes: float):
        self.end = time.monotonic() + 60 * minutes

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.end - time.monotonic())


def run(
    words: Sequence[str | Path],
    seconds: float,
    log: Path,
    meanwhile: Callable[[], None] = lambda: None,
    every: float = 60.0,
    grace: float = GRACE,
) -> int | None:
    """The exit code of a command, or None if it was stopped after ``seconds``.

    What it says is shown and appended to ``log``. ``meanwhile`` is called ``every`` so many seconds. At the limit it is
    interrupted, and after ``grace`` seconds killed with all that it started.
    """
    end, due = time.monotonic() + seconds, time.monotonic() + every
    process = subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    reader = threading.Thread(target=copy, args=(process, log), daemon=True)
    reader.start()
    try:
        while process.poll() is None and time.monotonic() < end:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, min(end, due) - time.monotonic()))
            if time.monotonic() >= due:
                meanwhile()
                due = time.monotonic() + every
        if stopped := process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(grace)
    finally:
        with suppress(ProcessLookupError):  # its group may be there when it is not
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(5)
    return None if stopped else process.returncode


def copy(process: subprocess.Popen, log: Path) -> None:
    with log.open("a", encoding="utf-8") as file:
        for line in process.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
            file.write(line)
            file.flush()
