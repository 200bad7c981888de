"""Deep Weight Factorization as a method: the parametrizations of ``dwfbench.dwf`` behind the Method contract.

Per weight tensor there are D trainable factors of its shape. Algorithm 1 draws them, plain L2 decay of
2 * strength / D acts on them, and collapse plus the float32 threshold (Algorithm 2) end the run. With a ``group``
there are one tensor of the weight's shape and D - 1 gates a group instead.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.data.dataset import Dataset
from dwfbench.dwf import gates
from dwfbench.dwf.factors import DEFAULT_MIN_ABS, FLOAT32_EPSILON, budget_to_reach_zero, median_size, total
from dwfbench.dwf.parametrization import Gated, Product
from dwfbench.dwf.places import gate_shape_at
from dwfbench.methods.contract import Method, Moment, Tensors, option
from dwfbench.methods.stage import Stage
from dwfbench.models import prunable
from dwfbench.runs.spec import RunSpec


class FactorMethod(Method):
    """What methods that train a product of factors share: (strength / D) sum_d ||w_d||^2."""

    knob: ClassVar[str] = "strength"
    decays: ClassVar[bool] = False
    depth: int

    def parametrization(self) -> Product | Gated:
        """That of the weights in the stage under the penalty."""
        raise NotImplementedError

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        return (Stage(epochs, parametrization=self.parametrization()),)

    def decay(self, strength: Tensor) -> Tensor:
        return 2 * strength / self.depth

    def norm(self, weights: Tensors) -> Tensor:
        return total(self.parametrization().norm(weight) for weight in weights.values())

    def needed_budget(self, weights: Tensors) -> float:
        return budget_to_reach_zero(median_size(weights.values()))


@dataclass(frozen=True)
class Dwf(FactorMethod):
    """DWF as re-implemented from the paper; see the module's docstring and ``dwfbench.dwf.factors``."""

    name: ClassVar[str] = "dwf"
    summary: ClassVar[str] = "weights as products of D factors under plain L2 decay: an L_{2/D} penalty by SGD alone"
    source: ClassVar[str] = "Kolb, Weber, Bischl, Ruegamer, ICLR 2025, arXiv 2502.02496"
    look: ClassVar[tuple] = (("#0b3d91", "#2f7fd0", "#6db6ea", "#abd9f5"), "o")

    depth: int = option(3, "number of factors D", low=2, high=64)
    min_abs: float = option(DEFAULT_MIN_ABS, "smallest initial |weight|, at most sigma / 4 of the layer", low=0)
    rescale_init: bool = option(False, "scale fresh factors so that the weights' deviation is sigma exactly")
    group: str = option(
        "none", "weights that vanish together: none, channel (of an output) or row (of an input)", choices=gates.GROUPS
    )
    product_decay: float = option(0.0, "L2 decay of the weights, the products, beside that of their factors", low=0)
    finetune_epochs: int = option(0, "epochs, of all, in which the collapsed weights train on under their zeros", low=0)
    finetune_lr: float = option(0.1, "peak of fine-tuning's own cosine, as a multiple of lr", low=0, open=True)

    def label(self) -> str:
        options = {key: value for key, value in self.changed().items() if key != "depth"}
        words = [f"D={self.depth}", *(f"{key.replace('_', ' ')}={value}" for key, value in options.items())]
        return f"dwf {', '.join(words)}"

    def check(self, spec: RunSpec, data: Dataset) -> None:
        """With groups: no option of Algorithm 1, and no layer whose groups a weight's shape alone does not tell."""
        if self.finetune_epochs >= spec.epochs:
            raise UsageError(
                f"--finetune-epochs {self.finetune_epochs} leaves nothing of the {spec.epochs} epochs to train with."
            )
        space = self.parametrization()
        if isinstance(space, Product):
            return
        if self.rescale_init or self.min_abs != DEFAULT_MIN_ABS:
            raise UsageError(f"With group={self.group} nothing is drawn: leave out min-abs and rescale-init.")
        network = models.build_for(spec, data)
        trained = {id(weight): weight for weight in prunable.prunable(network).values()}  # some are tied
        for place in prunable.places(network):
            weight = trained.get(id(place.parameter))
            if weight is not None and gate_shape_at(place, self.group, weight) != space.sizes(weight):
                raise UsageError(
                    f"The layer {place.layer} is an embedding, or a transposed or grouped convolution, for which "
                    f"group={self.group} is offered by dwfbench.factorize only."
                )

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        factors = Stage(epochs - self.finetune_epochs, parametrization=self.parametrization())
        if self.finetune_epochs == 0:
            return (factors,)
        return factors, Stage(self.finetune_epochs, self.finetune_lr, penalised=False)

    def shrinkage(self) -> float:
        return self.product_decay

    def masks(self, moment: Moment, scores: Tensors | None) -> Tensors | None:
        """Fine-tuning keeps what Algorithm 2 would have set to zero at zero."""
        return {name: w.abs() >= FLOAT32_EPSILON for name, w in moment.weights.items()} if moment.stage else None

    def parametrization(self) -> Product | Gated:
        if self.group == "none":
            return Product(self.depth, self.min_abs, self.rescale_init)
        return Gated(self.depth, self.group)

    def needed_budget(self, weights: Tensors) -> float:
        """For groups, that which closes those of half of the weights: later than half of the weights alone would go."""
        space = self.parametrization()
        if isinstance(space, Product):
            return super().needed_budget(weights)
        return gates.budget_to_close((weight, space.sizes(weight)) for weight in weights.values())
