"""Threads that sleep while they wait for each other, as in `dwfbench run`, against threads that spin and against one.

    python -m benchmarks.waiting

Steps of LeNet-300-100 on all cores: alone, and beside as many processes as there are cores that never rest. Each way of
waiting has a process of its own, as OpenMP reads it from the environment when torch is imported, and so has the one
thread with which `dwfbench run` trains a network this small; they train in turn.

At the end a whole command, its start included, on two cores beside six such processes, of which a fair share for its
one thread is 3.5 times as long as alone. What else runs on the machine would count in such a ratio, so it is put
together of what that does not change: the processor time of the command alone, and the share of a core that the six
got while it ran beside them.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory

from benchmarks.timing import Measured, Options, Ratio, Row, interleaved, main
from dwfbench.base.machine import SLEEPING, cores

READ = {"OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"}  # none of it from the user
WAYS = {"spin": {}, "sleep": SLEEPING}
STEPS = 20  # a measurement: with spinning threads on a busy machine, seconds
BUSY_COUNT = 6
RUN = ("run", "--method", "dense", "--dataset", "digits", "--compile", "off", "--checkpoint-minutes", "0")
BUSY = "import time\nend = time.monotonic() + 1800\nwhile time.monotonic() < end: pass"


def rows(options: Options) -> Iterator[Row]:
    threads, mode = options.threads or cores(), "eager" if options.quick else "compiled"
    with ExitStack() as processes:
        calls = {way: processes.enter_context(training(threads, options.quick, way)) for way in WAYS}
        calls["one"] = processes.enter_context(training(1, options.quick, "sleep"))
        for beside in (0, cores()):
            for _ in range(beside):
                processes.enter_context(busy())
            times = interleaved(calls, options.rounds, warm_up=1, least=0)
            surroundings = f"beside {beside} busy processes" if beside else "alone"
            name = f"lenet-300-100, {mode}, {threads} threads, {surroundings}: step with"
            yield Row.of(f"{name} spinning / sleeping threads", per_step(times["spin"], times["sleep"]))
            yield Row.of(f"{name} sleeping threads / with one", per_step(times["sleep"], times["one"]))
    yield beside_six(options)


def beside_six(options: Options) -> Row:
    """How many times as long as alone `dwfbench run`, as a user has it, takes at the most beside six busy processes.

    A command that takes T beside them, of which each gets the share s of a core, would take T s / (2 / 7) if nothing
    else ran and each of the seven got as much of the two; alone it takes about C, its processor time, as it has one
    thread.
    """
    name = f"dwfbench run, two cores, beside {BUSY_COUNT} busy processes: at most so many times as long as alone"
    if cores() < 2 or not hasattr(os, "sched_setaffinity"):
        return Row.missing(name, "no two cores, or no Linux", target="<= 8")
    slowdowns, shares = [], []
    with TemporaryDirectory() as folder:
        for _ in range(min(options.rounds, 3)):
            _, alone = timed(command(options.quick, folder))
            busy_processes = [Started([sys.executable, "-c", BUSY]) for _ in range(1 if options.quick else BUSY_COUNT)]
            try:
                seconds, _ = timed(command(options.quick, folder))
            finally:
                for process in busy_processes:
                    process.kill()
                times = [timed(process) for process in busy_processes]
            share = sum(used / lasted for lasted, used in times) / len(times)
            slowdowns.append(seconds * share / (2 / 7) / alone)
            shares.append(share)
    return Row.of(name, Measured.of(slowdowns), target="<= 8", note=f"a busy process had {min(shares):.2f} of a core")


class Started(subprocess.Popen):
    """A process on two of the cores, and when it began."""

    def __init__(self, words: list[str], env: dict[str, str] | None = None):
        self.began, silent = time.perf_counter(), subprocess.DEVNULL
        super().__init__(words, preexec_fn=on_two_cores, stdout=silent, stderr=silent, env=env)


def command(quick: bool, folder: str) -> Started:
    """A command that trains LeNet-300-100, begun; it stores below a folder."""
    environment = {name: value for name, value in os.environ.items() if name not in READ}
    words = [*RUN, "--epochs", "2" if quick else "150", "--results", f"{folder}/{time.monotonic_ns()}"]
    return Started([sys.executable, "-m", "dwfbench", *words], env=environment)


def timed(process: Started) -> tuple[float, float]:
    """The seconds of a process from its beginning to its end, and those of processors that it and its children used."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1, -signal.SIGKILL):  # few epochs are no better than chance
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
    return time.perf_counter() - process.began, used.ru_utime + used.ru_stime


def on_two_cores() -> None:
    """In a process before it begins."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


def per_step(*sides: list[float]) -> Measured:
    return Ratio.between(*([seconds / STEPS for seconds in side] for side in sides))


@contextmanager
def training(threads: int, quick: bool, way: str) -> Iterator:
    """A call that has a process train for STEPS steps whose threads wait in this way."""
    environment = {name: value for name, value in os.environ.items() if name not in READ} | WAYS[way]
    command = [sys.executable, "-m", "benchmarks.waiting", "serve", str(threads), str(int(quick))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, text=True, bufsize=1, stdin=pipe, stdout=pipe) as process:
        orders, answers = process.stdin, process.stdout
        assert orders is not None
        assert answers is not None

        def call() -> None:
            print("train", file=orders, flush=True)
            if not answers.readline():
                raise RuntimeError("the process that trains has ended")

        yield call
        orders.close()


@contextmanager
def busy() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def serve(threads: int, quick: bool) -> None:
    """Train for STEPS steps whenever a line is read."""
    from benchmarks.workload import DENSE, Workload

    work = Workload(Options(threads=threads, device="cpu"), DENSE, compile=not quick)
    for _ in sys.stdin:
        for _ in range(STEPS):
            work.step()
        print("done", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), sys.argv[3] == "1")
    else:
        main(rows, __doc__)
