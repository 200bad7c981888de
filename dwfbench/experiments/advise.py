"""What is said before training: of a network by ``dwf.suggest``, of budgets that do not do, of processors left idle."""

from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.data.dataset import Dataset
from dwfbench.dwf import suggest
from dwfbench.dwf.suggest import Suggestion
from dwfbench.execution.worker import Engine
from dwfbench.experiments import plan
from dwfbench.experiments.plan import Curve, Request
from dwfbench.methods.dwf import Dwf
from dwfbench.models import weights as trained
from dwfbench.training import loop

HIGH_FOR_ADAM = 0.03
"""Learning rates above it are told to be too large for Adam, whose steps are about as large as the rate."""


def suggestion(request: Request, dataset: Dataset) -> Suggestion:
    """Of DWF with the request's options and settings. Raises UsageError for groups, and for Adam."""
    method, base = request.method, plan.base_spec(request, dataset)
    assert isinstance(method, Dwf)
    if method.group != "none":
        raise UsageError("There is no advice for groups of weights; leave --group out.")
    if base.optimizer != "sgd":
        raise UsageError(
            "Adam divides the decay by the size of the gradients, which is not known before training: there is no such "
            "advice. `dwfbench run --compression` searches for the strength."
        )
    steps = loop.steps_in_epoch(len(dataset.train), base.batch_size)
    network = models.build_for(base, dataset)
    if base.init is not None:
        trained.put_into(network, base.init)
    weights = suggest.initial_weights(network, method.depth, keep_weights=base.init is not None)
    return suggest.advice(list(weights), base.lr, plan.reach_of(method, base, steps), steps * base.epochs)


def budget_note(curve: Curve) -> str | None:
    """A warning when decay alone cannot bring weights to zero within the budget, for methods that work by decay, and
    when Adam is given a learning rate of SGD's."""
    if any(spec.strength == 0 for spec in curve.specs):
        return (
            f"{curve.method.label()}: a strength of 0 penalises nothing, so that no weight becomes zero: such a run is "
            "a control, and no point of a sparse network's curve."
        )
    spec = curve.specs[0]
    if spec.optimizer != "sgd" and spec.lr > HIGH_FOR_ADAM:
        return f"{curve.method.label()}: a learning rate of {spec.lr:g} is SGD's; Adam's are about 1e-4 to 1e-2."
    budgets = [budget for budget in map(curve.budget, curve.specs) if budget is not None]
    small = [budget for budget in budgets if curve.needed is not None and budget < 0.99 * curve.needed]
    if not small:
        return None
    return (
        f"{curve.method.label()}: the decay budget (strength x sum of learning rates / (1 - momentum)) is as low as "
        f"{min(small):.2g} in {len(small)} of {len(curve.specs)} runs; below {curve.needed:.2g} "
        "most weights without gradient do not reach zero. Take a larger strength or learning rate, or more epochs."
    )


def jobs_note(curves: list[Curve], engine: Engine, processors: int) -> str | None:
    """What --jobs would do, where one process has several processors of this machine and several runs to train."""
    jobs = min(processors, sum(len(curve.specs) for curve in curves))
    if engine.device.type != "cpu" or engine.cluster is not None or engine.jobs > 1 or jobs < 2:
        return None
    used = f"{engine.threads} threads, from which small networks gain little"
    if engine.threads < processors:
        used = f"one of {processors} processors, as more do not make so small a network faster"
    return f"One process trains with {used}; --jobs {jobs} trains in {jobs} processes at once."
