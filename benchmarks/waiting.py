"""Threads that sleep while they wait for each other, as `dwfbench run` has them, against threads that spin.

    python -m benchmarks.waiting

Steps of LeNet-300-100 on all cores: alone, and beside as many processes as there are cores that never rest. Each way of
waiting has a process of its own, as OpenMP reads it from the environment when torch is imported; they train in turn.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.timing import Measured, Options, Ratio, Row, interleaved, main
from dwfbench.base.machine import SLEEPING, cores

READ = {"OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"}  # none of it from the user
WAYS = {"spin": {}, "sleep": SLEEPING}
STEPS = 20  # a measurement: with spinning threads on a busy machine, seconds
BUSY = "import time\nend = time.monotonic() + 1800\nwhile time.monotonic() < end: pass"


def rows(options: Options) -> Iterator[Row]:
    threads, how = options.threads or cores(), "eager" if options.quick else "compiled"
    with ExitStack() as processes:
        calls = {way: processes.enter_context(training(threads, options.quick, way)) for way in WAYS}
        for beside in (0, cores()):
            for _ in range(beside):
                processes.enter_context(busy())
            found = interleaved(calls, options.rounds, warm_up=1, least=0)
            where = f"beside {beside} busy processes" if beside else "alone"
            name = f"lenet-300-100, {how}, {threads} threads, {where}: step with spinning / sleeping threads"
            yield Row.of(name, per_step(found["spin"], found["sleep"]))


def per_step(spin: list[float], sleep: list[float]) -> Measured:
    return Ratio.of([one / STEPS for one in spin], [one / STEPS for one in sleep])


@contextmanager
def training(threads: int, quick: bool, way: str) -> Iterator:
    """A call that has a process train for STEPS steps whose threads wait in this way."""
    environment = {name: value for name, value in os.environ.items() if name not in READ} | WAYS[way]
    command = [sys.executable, "-m", "benchmarks.waiting", "serve", str(threads), str(int(quick))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, bufsize=1, **pipes) as process:

        def call() -> None:
            print("train", file=process.stdin, flush=True)
            if not process.stdout.readline():
                raise RuntimeError("the process that trains has ended")

        yield call
        process.stdin.close()


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
