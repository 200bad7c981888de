"""A method whose run of the highest compression dies or waits for ever, while a file says which: not part of what a run
is."""

import time
from collections.abc import Callable
from pathlib import Path

METHOD = """
import os
import signal
import time
from multiprocessing import parent_process
from pathlib import Path

from baselines.magnitude import Magnitude
from dwfbench.training.checkpoint import stop

HOW = Path({how!r})


class Breaks(Magnitude):
    name = "breaks"

    def target(self, moment):
        if moment.compression == 8 and HOW.exists():
            if HOW.read_text() == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            while not stop.asked:
                time.sleep(0.1)
        return moment.compression
"""


def method(folder: Path, how: str) -> tuple[str, Path]:
    """The method, written into a folder, and the file that has it ``wait``, until it is asked to stop, or ``die``."""
    switch = folder / "how"
    switch.write_text(how)
    (folder / "breaks.py").write_text(METHOD.format(how=str(switch)))
    return f"{folder / 'breaks.py'}:Breaks", switch


class Hurried:
    """In the place of ``time``: a clock that stands until a condition holds, and then is an hour later at each look."""

    def __init__(self, condition: Callable[[], bool]):
        self.condition, self.now = condition, time.monotonic()

    def monotonic(self) -> float:
        self.now += 3600 * self.condition()
        return self.now
