"""How many processors there are to use, and how threads wait for each other on them."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SLEEPING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""The environment in which OpenMP's threads sleep while they wait: any runtime's variable, and what Intel's reads."""

BUSY = 0.5
"""The load per usable processor from which other work tells in times."""


def cores() -> int:
    """The processors that this process may use, at least 1: those of its affinity, or its container's quota if less.

    A quota of one and a half counts as two. The variable LOKY_MAX_CPU_COUNT lowers the number further.
    """
    from joblib import cpu_count  # here, as it imports numpy, for which the command line's help does not wait

    return cpu_count()


def load() -> float | None:
    """How many processes ran or waited for a processor, on average over the last minute; None where nobody counts."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows; a container without /proc
        return None


def let_threads_sleep() -> None:
    """Have OpenMP's threads sleep while they wait, unless the user has said how they wait; before torch is imported.

    For this process and all that it starts. Threads that spin keep their processors from whoever else needs one, be it
    the thread that they wait for.
    """
    if not SLEEPING.keys() & os.environ.keys():
        os.environ.update(SLEEPING)


def spinning() -> str | None:
    """The setting of this environment that lets OpenMP's threads spin while they wait: "OMP_WAIT_POLICY=ACTIVE"."""
    if os.environ.get("GOMP_SPINCOUNT", "0") != "0":
        return f"GOMP_SPINCOUNT={os.environ['GOMP_SPINCOUNT']}"
    for name, sleeps in SLEEPING.items():
        if os.environ.get(name, sleeps).upper() != sleeps:
            return f"{name}={os.environ[name]}"
    return None if SLEEPING.keys() & os.environ.keys() else "OMP_WAIT_POLICY unset"


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """A process that is started within hears no interrupt, not even in its first moments; who starts it does, later."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent() -> None:
    """From now on, this process ends with the one that started it, even when that is killed."""
    from multiprocessing import parent_process  # what only reads results starts no processes

    parent = parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
