"""One step on one network: loss gradient, clipping, decay or penalty, the optimiser's move, project, mask.

This is all the training that there is; ``lanes.py`` maps it over the networks that are trained at once, ``loop.py``
repeats it, ``optimizers.py`` has the rules by which a gradient becomes a move. The state is written in place, and there
is no control flow on values, so that torch.compile can fuse factor products, their gradients, decay, moments and masks.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import grad
from torch.nn.functional import cross_entropy

from dwfbench.dwf.factors import total
from dwfbench.dwf.parametrization import Parametrization, part_names, weights_of
from dwfbench.methods.contract import Method, Tensors
from dwfbench.methods.stage import Stage
from dwfbench.models.functional import caller
from dwfbench.models.prunable import prunable
from dwfbench.runs.spec import RunSpec
from dwfbench.training.optimizers import rule_of


class State(NamedTuple):
    """All tensors that a step reads and writes; in a group of lanes each has a leading axis L.

    ``weights`` are what is trained in the place of the prunable weights, ``others`` the network's other parameters,
    the frozen ones excepted, which lie with the ``buffers``; ``velocity`` is momentum's, or Adam's mean gradient,
    ``squares`` Adam's mean square, by the names of both (each empty for a rule without it); ``masks`` are 0 or 1, by
    the names of prunable weights, for all or none of them; ``strength`` is the penalty's, a number; ``time`` counts the
    steps since the moments were zero, for Adam.
    """

    weights: Tensors
    others: Tensors
    buffers: Tensors
    velocity: Tensors
    squares: Tensors
    masks: Tensors
    strength: Tensor
    time: Tensor


Criterion = Callable[[Tensor, Tensor], Tensor]
"""The mean loss () of a network's outputs (B, outputs) for their targets (B, ...): by default cross-entropy."""


def make_objective(
    network: nn.Module, parametrization: Parametrization, spec: RunSpec, criterion: Criterion, shrinkage: float = 0.0
) -> Callable:
    """objective(weights, others, buffers, inputs (B, ...), targets (B, ...)) -> (), (loss (), new buffers).

    The objective, whose gradient is taken, is the loss and ``shrinkage`` / 2 times the sum of the squared weights.
    """
    call = caller(network)

    def objective(weights: Tensors, others: Tensors, buffers: Tensors, inputs: Tensor, targets: Tensor):
        buffers = {name: value.clone() for name, value in buffers.items()}  # BatchNorm writes into them
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=spec.precision == "bfloat16"):
            plain = weights_of(parametrization, weights)
            outputs = call({**plain, **others, **buffers}, inputs)
        loss = criterion(outputs.float(), targets)
        value = loss + shrinkage / 2 * total(w.square().sum() for w in plain.values()) if shrinkage else loss
        return value, (loss.detach(), buffers)

    return objective


def make_step(
    network: nn.Module,
    method: Method,
    stage: Stage,
    spec: RunSpec,
    has_penalty: bool,
    criterion: Criterion = cross_entropy,
) -> Callable[[State, Tensor, Tensor, Tensor], Tensor]:
    """step(state, inputs (B, ...), targets (B, ...), learning rate ()) -> loss (), which moves the state.

    ``has_penalty`` says whether the method's ``penalty`` acts in this stage, and is not None.
    """
    objective = make_objective(network, stage.parametrization, spec, criterion, method.shrinkage())
    objective_gradient = grad(objective, argnums=(0, 1), has_aux=True)
    penalty_gradient = grad(method.penalty)
    rule = rule_of(spec)
    first_parts = {name: part_names(stage.parametrization, name)[0] for name in prunable(network)}

    @torch.no_grad()
    def step(state: State, inputs: Tensor, targets: Tensor, rate: Tensor) -> Tensor:
        (of_weights, of_others), (loss, buffers) = objective_gradient(*state[:3], inputs, targets)
        gradients = {**of_weights, **of_others}
        if spec.clip_norm:
            for name, mask in state.masks.items():  # what is pruned is not trained, and no part of the norm
                gradients[first_parts[name]] = gradients[first_parts[name]] * mask
            gradients = clipped(gradients, spec.clip_norm)
        decay = decay_of(method, stage, spec, state.strength)
        if decay is not None:
            for name, weight in state.weights.items():
                if rule.decoupled:
                    weight.mul_(1 - rate * decay)
                else:  # a sum would be fused with the matrix product before it, slower
                    gradients[name] = torch.addcmul(gradients[name], weight, decay)
        if has_penalty:
            for name, gradient in penalty_gradient(state.weights).items():
                gradients[name] = gradients[name] + state.strength * gradient

        if "squares" in rule.moments:
            state.time.add_(1)
        for name, value in {**state.weights, **state.others}.items():
            value.sub_(rate * rule.direction(state, name, gradients[name]))

        if stage.penalised:
            for value in state.weights.values():
                projected = method.project(value, state.strength, rate / rule.damping)
                if projected is not None:
                    value.copy_(projected)
        for name, mask in state.masks.items():  # moments too, or a pruned weight would come back
            for part in ("weights", *rule.moments):
                getattr(state, part)[first_parts[name]].mul_(mask)
        for name, value in buffers.items():
            state.buffers[name].copy_(value)
        return loss

    return step


def clipped(gradients: Tensors, longest: float) -> Tensors:
    """The gradients, together of this norm at most."""
    length = total(gradient.square().sum() for gradient in gradients.values()).sqrt()
    factor = (longest / length.clamp_min(1e-12)).clamp_max(1)
    return {name: gradient * factor for name, gradient in gradients.items()}


def decay_of(method: Method, stage: Stage, spec: RunSpec, strength: Tensor) -> Tensor | None:
    """The coefficient () of weight decay on all that is trained for weights; None for no decay."""
    coefficient = method.decay(strength) if stage.penalised else None
    if coefficient is not None:
        return coefficient
    return torch.full_like(strength, spec.weight_decay) if method.decays and spec.weight_decay else None
