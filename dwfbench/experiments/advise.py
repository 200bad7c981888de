"""What ``dwf.suggest`` says of the network, data and budget of a command."""

from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.data.dataset import Dataset
from dwfbench.dwf import suggest
from dwfbench.dwf.suggest import Suggestion
from dwfbench.experiments import plan
from dwfbench.experiments.plan import Request
from dwfbench.methods.dwf import Dwf
from dwfbench.models import weights as trained
from dwfbench.training import loop


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
    network = models.build(base.model, dataset.input_shape, dataset.classes, base.seed)
    if base.init is not None:
        trained.put_into(network, base.init)
    weights = suggest.initial_weights(network, method.depth, keep_weights=base.init is not None)
    return suggest.advice(list(weights), base.lr, plan.reach_of(method, base, steps), steps * base.epochs)
