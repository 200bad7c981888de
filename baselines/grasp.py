"""GraSP: pruning before training by gradient flow (Wang, Zhang and Grosse, ICLR 2020)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from baselines.snip import gradients
from dwfbench.dwf.factors import total
from dwfbench.methods.contract import Moment, Pruner, option
from dwfbench.models.prunable import prunable
from dwfbench.sparsity.count import evaluating


@torch.enable_grad()
def scores(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    temperature: float = 200.0,
    *,
    training_mode: bool = False,
    criterion: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> dict[str, Tensor]:
    """w * (H g) by parameter name, without absolute value; the weights with the LARGEST scores are kept.

    Wang et al. 2020, section 4: S(-w) = -w * (H g) is to first order the change of the gradient's squared
    norm when w is removed, and their algorithm 1 removes the weights with the highest S. g and H are the
    gradient and Hessian of the `criterion`, a mean, of logits / temperature over `inputs` (N, ...) and `targets`
    (N, ...). `training_mode` as in `baselines.snip.scores`.
    """
    weights = {name: w.detach().requires_grad_() for name, w in prunable(model).items()}
    with evaluating(model, batch_norm_training=training_mode), sdpa_kernel(SDPBackend.MATH):  # twice differentiable
        gradient = gradients(
            *(model, weights, inputs, targets), temperature=temperature, create_graph=True, criterion=criterion
        )
        # d/dw of <g, dL/dw> with g held constant is the Hessian times g.
        along = total((g.detach() * g).sum() for g in gradient)
        product = torch.autograd.grad(along, list(weights.values()), materialize_grads=True)
    return {name: w.detach() * hg for (name, w), hg in zip(weights.items(), product, strict=True)}


@dataclass(frozen=True)
class Grasp(Pruner):
    """Prunes the initial network by ``scores`` of one class-balanced batch, then trains what is left."""

    name: ClassVar[str] = "grasp"
    summary: ClassVar[str] = "at initialisation, keep the largest w * Hg: what gradient flow needs"
    source: ClassVar[str] = "Wang, Zhang and Grosse, ICLR 2020, arXiv 2002.07376"
    look: ClassVar[tuple] = ("#882255", "v")

    samples_per_class: int = option(10, "samples of each class in the scoring batch", low=1)
    temperature: float = option(200.0, "divisor of the logits, if cross-entropy is the loss", low=0, open=True)
    bn_training: bool = option(False, "BatchNorm in training mode while scoring; changes two thirds of the mask")

    def check(self, spec, data) -> None:
        data.balanced_batch(self.samples_per_class, torch.Generator())  # refuses a class with too few samples

    def extra_passes(self, steps: int) -> int:
        return 2  # the gradient, and its own gradient: the product with the Hessian

    def scores(self, moment: Moment) -> dict[str, Tensor]:
        inputs, targets = moment.batch(self.samples_per_class)
        divisor = self.temperature if moment.loss is cross_entropy else 1.0
        return scores(moment.network(), inputs, targets, divisor, training_mode=self.bn_training, criterion=moment.loss)
