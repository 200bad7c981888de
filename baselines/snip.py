"""SNIP: single-shot pruning by connection sensitivity (Lee, Ajanthan and Torr, ICLR 2019)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dwfbench.base.errors import UsageError
from dwfbench.methods.contract import Moment, Pruner, option
from dwfbench.models.functional import caller
from dwfbench.models.prunable import prunable
from dwfbench.sparsity.count import evaluating


def gradients(
    model: nn.Module,
    weights: dict[str, Tensor],
    inputs: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    create_graph: bool = False,
    criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> tuple[Tensor, ...]:
    """Gradients with respect to `weights` of the `criterion`, a mean over the batch, of logits / temperature.

    `weights` (leaves that require a gradient) and copies of the buffers stand in for the model's own, which stay as
    they are. Raises UsageError for an empty batch.
    """
    if len(inputs) == 0:
        raise UsageError("the scoring batch is empty; give at least one sample")
    state = {**weights, **{name: b.clone() for name, b in model.named_buffers()}}
    logits = caller(model)(state, inputs.clone()) / temperature  # a network may write into its input
    loss = criterion(logits, targets)
    return torch.autograd.grad(loss, list(weights.values()), create_graph=create_graph, materialize_grads=True)


@torch.enable_grad()
def scores(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    training_mode: bool = False,
    criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> dict[str, Tensor]:
    """abs(w * dL/dw) by parameter name, L the mean of the `criterion` over `inputs` (N, ...), `targets` (N,).

    Lee et al. 2019, section 4, without the common denominator, which changes no ranking. With `training_mode`,
    BatchNorm layers use the batch's own statistics; all else is in eval mode, in the model's own precision. Raises
    UsageError for an empty batch.
    """
    weights = {name: w.detach().requires_grad_() for name, w in prunable(model).items()}
    with evaluating(model, batch_norm_training=training_mode):
        gradient = gradients(model, weights, inputs, targets, criterion=criterion)
    return {name: (w.detach() * g).abs() for (name, w), g in zip(weights.items(), gradient, strict=True)}


@dataclass(frozen=True)
class Snip(Pruner):
    """Prunes the initial network by ``scores`` of one class-balanced batch, then trains what is left."""

    name: ClassVar[str] = "snip"
    summary: ClassVar[str] = "at initialisation, keep the largest |w * dL/dw|"
    source: ClassVar[str] = "Lee, Ajanthan and Torr, ICLR 2019, arXiv 1810.02340"
    look: ClassVar[tuple] = ("#009e73", "D")

    samples_per_class: int = option(10, "samples of each class in the scoring batch", low=1)
    bn_training: bool = option(False, "BatchNorm in training mode while scoring")

    def check(self, spec, data) -> None:
        data.balanced_batch(self.samples_per_class, torch.Generator())  # refuses a class with too few samples

    def extra_passes(self, steps: int) -> int:
        return 1

    def scores(self, moment: Moment) -> dict[str, Tensor]:
        inputs, targets = moment.batch(self.samples_per_class)
        return scores(moment.network(), inputs, targets, training_mode=self.bn_training, criterion=moment.loss)
