"""What a Ray cluster costs: a group that has nothing to train, and two workers against one.

    python -m benchmarks.cluster

The cluster is real, with nodes of one CPU each, but all its nodes are on this machine. Needs the extra `ray`.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from benchmarks.timing import Measured, Options, Ratio, Row, main

GROUPS = 10_000
RUNS, EPOCHS = 4, 200
OVERHEAD = "10,000 groups with nothing to train: milliseconds a group"
SPEEDUP = f"{RUNS} runs of lenet-300-100, one thread each: 1 worker / 2 workers"


def rows(options: Options) -> list[Row]:
    if find_spec("ray") is None:
        return [Row.missing(OVERHEAD, "no Ray", unit="ms"), Row.missing(SPEEDUP, "no Ray", target=">= 1.8")]

    from dataclasses import replace

    import torch

    from dwfbench.data import dataset as data
    from dwfbench.execution import ray as cluster
    from dwfbench.execution.worker import Cluster, Engine, Task
    from dwfbench.experiments import plan, run
    from dwfbench.methods.registry import create

    dataset = data.load("digits")
    settings = {"model": "lenet-300-100", "epochs": 2 if options.quick else EPOCHS, "batch_size": 16, "lr": 0.05}
    settings["strength"] = [1e-4 * (1 + number) for number in range(RUNS)]
    curve = plan.curve(plan.Request(create("spred", {}), settings), dataset)
    engine = Engine(torch.device("cpu"), threads=1, lanes=1, compile=False)
    empty = [Task(curve.method, (), 1, False)] * (100 if options.quick else GROUPS)

    def seconds(address: str, tasks: list[Task]) -> float:
        """Of all tasks, by workers that have started."""
        clustered = replace(engine, cluster=Cluster(address, 1, 0))
        list(cluster.outcomes(empty[:20], dataset, clustered, Silence()))
        start = time.perf_counter()
        list(cluster.outcomes(tasks, dataset, clustered, Silence()))
        return time.perf_counter() - start

    tasks = run.divide(curve, list(curve.specs), dataset, engine)
    times: dict[str, list[float]] = {"empty": [], "one": [], "two": []}
    for _ in range(1 if options.quick else min(options.rounds, 3)):
        with joined(1) as address:
            times["one"].append(seconds(address, tasks))
        with joined(2) as address:
            times["two"].append(seconds(address, tasks))
            times["empty"].append(1000 * seconds(address, empty) / len(empty))
    return [
        Row.of(OVERHEAD, Measured.of(times["empty"]), unit="ms"),
        Row.of(SPEEDUP, Ratio.between(times["one"], times["two"]), target=">= 1.8"),
    ]


class Silence:
    """Progress that nobody watches."""

    def curve(self, *_) -> None: ...

    def compiling(self, *_) -> None: ...

    def epoch(self, *_) -> None: ...

    def run(self, *_) -> None: ...

    def note(self, text: str) -> None: ...


@contextmanager
def joined(workers: int) -> Iterator[str]:
    """A cluster of so many nodes, with this process as its driver."""
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112

    import ray
    from ray.cluster_utils import Cluster

    from dwfbench.execution.nodes import join
    from dwfbench.execution.ray import desk_of

    ray_cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(workers):
            ray_cluster.add_node(num_cpus=1)
        join(ray_cluster.address)
        yield ray_cluster.address
    finally:
        ray.shutdown()
        desk_of.cache_clear()
        ray_cluster.shutdown()


if __name__ == "__main__":
    main(rows, __doc__)
