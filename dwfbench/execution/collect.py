"""Results of tasks, wherever an engine trains them: in this process, in worker processes or on a Ray cluster."""

from collections.abc import Iterator

from dwfbench.data import dataset as data
from dwfbench.execution import local
from dwfbench.execution.listener import Progress
from dwfbench.execution.worker import (
    Engine,
    Machine,
    Outcomes,
    Result,
    Task,
    Unfinished,
    Worker,
    failures,
)


def results(tasks: list[Task], dataset: data.Dataset, engine: Engine, progress: Progress) -> Iterator[Result]:
    """The results of all runs, wherever the engine says, as they come; failures of those that came to nothing."""
    outcomes: Outcomes = alone
    if engine.cluster is not None:
        from dwfbench.execution import ray as cluster  # Ray is an extra

        outcomes = cluster.outcomes
    elif (engine.jobs > 1 and len(tasks) > 1) or engine.timeout_minutes is not None:
        outcomes = local.outcomes
    for outcome in outcomes(tasks, dataset, engine, progress):
        if isinstance(outcome, Unfinished):
            yield from failures(outcome.task, dataset, engine, outcome.why)
        else:
            yield outcome


def alone(tasks: list[Task], dataset: data.Dataset, engine: Engine, progress: Progress) -> Iterator[Result]:
    """What became of the runs in this process."""
    worker = Worker(dataset, engine)
    for task in tasks:
        yield from worker.train(task, progress)


def machine(engine: Engine) -> Machine:
    """The machine that trains, or one of the cluster."""
    if engine.cluster is None:
        return Machine.of(engine.device)

    from dwfbench.execution import nodes  # Ray is an extra

    return nodes.machine(engine.cluster)
