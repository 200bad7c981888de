"""Results of tasks, wherever an engine trains them: in this process, in worker processes or on a Ray cluster."""

from collections.abc import Iterator

from dwfbench.data import dataset as data
from dwfbench.execution import local
from dwfbench.execution.worker import Engine, Machine, Outcome, Outcomes, Progress, Result, Task, Worker, failures


def results(tasks: list[Task], dataset: data.Dataset, engine: Engine, progress: Progress) -> Iterator[Result]:
    """The results of all tasks, wherever the engine says, as they come; of a task without any, failures."""
    outcomes: Outcomes = alone
    if engine.cluster is not None:
        from dwfbench.execution import ray as cluster  # Ray is an extra

        outcomes = cluster.outcomes
    elif (engine.jobs > 1 and len(tasks) > 1) or engine.timeout_minutes is not None:
        outcomes = local.outcomes
    for task, outcome in outcomes(tasks, dataset, engine, progress):
        yield from failures(task, dataset, engine, outcome) if isinstance(outcome, str) else outcome


def alone(tasks: list[Task], dataset: data.Dataset, engine: Engine, progress: Progress) -> Iterator[Outcome]:
    """What became of the tasks in this process, run by run."""
    worker = Worker(dataset, engine)
    for task in tasks:
        for result in worker.train(task, progress):
            yield task, [result]


def machine(engine: Engine) -> Machine:
    """The machine that trains, or one of the cluster."""
    if engine.cluster is None:
        return Machine.of(engine.device)

    from dwfbench.execution import nodes  # Ray is an extra

    return nodes.machine(engine.cluster)
