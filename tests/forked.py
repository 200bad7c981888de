"""Processes that have nothing to import: forked from one that imported once what commands import, which takes seconds.

In all else they are processes of their own: with a session, signals and an exit code, and they can be killed.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["dwfbench.cli.train", "dwfbench.execution.local", "torch._dynamo", "sklearn.datasets"])


def main(words: list[str], folder: str, place: str, environment: dict[str, str]) -> None:
    """``dwfbench WORDS`` as the console script begins it; what it says goes into files in ``folder``."""
    os.setsid()
    os.chdir(place)
    os.environ.update(environment)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT), number)
    multiprocessing.process._parent_process = None  # it is nobody's worker
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whatever the server of forks inherited from the test that began it
    sys.argv = ["dwfbench", *words]
    from dwfbench.__main__ import main

    main()


class Forked:
    """``dwfbench WORDS`` in a forked process, with what tests use of ``subprocess.Popen``. It cannot have --jobs 2."""

    def __init__(self, *words: object):
        self.folder = tempfile.TemporaryDirectory()
        given = ([str(word) for word in words], self.folder.name, os.getcwd(), dict(os.environ))
        self.process = CONTEXT.Process(target=main, args=given, daemon=True)
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    returncode = property(poll)

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("dwfbench", timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, ...]:
        """What it said: stdout and stderr."""
        self.wait(timeout)
        texts = (Path(self.folder.name, name) for name in ("stdout", "stderr"))
        return tuple(text.read_text() if text.exists() else "" for text in texts)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
