"""Magnitude pruning (Han et al., NeurIPS 2015): keep the largest absolute weights of all layers together."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from dwfbench.base.errors import UsageError
from dwfbench.methods.contract import Moment, Pruner, option
from dwfbench.methods.stage import Stage
from dwfbench.models.prunable import prunable
from dwfbench.sparsity.masks import top_k_masks


def masks(model: nn.Module, compression: float) -> dict[str, Tensor]:
    """Masks by parameter name that keep the largest abs(w); counts and errors as in `top_k_masks`."""
    return top_k_masks(magnitudes(prunable(model)), compression)


def magnitudes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().abs() for name, weight in weights.items()}


@dataclass(frozen=True)
class Magnitude(Pruner):
    """Trains dense, prunes by abs(w), and fine-tunes under the mask, all inside one epoch budget.

    ``--finetune-epochs 0`` prunes after the last epoch (one-shot, as in the DWF paper); ``--at init`` prunes the
    initial network instead, which is another, weaker baseline and is labelled so.
    """

    name: ClassVar[str] = "magnitude"
    summary: ClassVar[str] = "train dense, keep the largest |w|, fine-tune within the same epoch budget"
    source: ClassVar[str] = "Han, Pool, Tran and Dally, NeurIPS 2015, arXiv 1506.02626"
    look: ClassVar[tuple] = ("#d55e00", "^")

    at: str = option("trained", "which network is pruned", choices=("trained", "init"))
    finetune_epochs: int | None = option(None, "epochs after pruning (none: a third of all, 0: one-shot)", low=0)
    finetune_lr: float = option(1.0, "peak of fine-tuning's own cosine, as a multiple of lr", low=0, open=True)

    def label(self) -> str:
        for words, options in (("at init", {"at": "init"}), ("one-shot", {"finetune_epochs": 0})):
            if self.changed() == options:
                return f"{self.name} ({words})"
        return super().label()

    def check(self, spec, data) -> None:
        if self.at == "init" and (self.finetune_epochs is not None or self.finetune_lr != 1.0):
            raise UsageError("--at init prunes before training, so it takes no --finetune-epochs or --finetune-lr.")
        if self.finetune_epochs is not None and self.finetune_epochs >= spec.epochs:
            raise UsageError(
                f"--finetune-epochs {self.finetune_epochs} leaves nothing of the {spec.epochs} epochs to train with."
            )

    def tunable(self) -> dict[str, tuple]:
        tuned_after = self.at == "trained" and self.finetune_epochs != 0
        return {"finetune_lr": (0.3, 1.0)} if tuned_after else {}

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        """Up to the pruning, the compression plays no part."""
        tuning = epochs // 3 if self.finetune_epochs is None else self.finetune_epochs
        if self.at == "init":
            return (Stage(epochs),)
        if tuning == 0:
            return (Stage(epochs, knob_free=True),)
        return Stage(epochs - tuning, knob_free=True), Stage(tuning, self.finetune_lr)

    def importance(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scores of weights, the larger the better kept, comparable across layers."""
        return magnitudes(weights)

    def scores(self, moment: Moment) -> dict[str, Tensor] | None:
        return self.importance(moment.weights) if self.at == "init" or moment.stage == 1 else None

    def sparsify(self, weights: dict[str, Tensor], compression: float) -> dict[str, Tensor]:
        """The one-shot form prunes here; under a mask the kept weights already are the largest."""
        masks = top_k_masks(self.importance(weights), compression, self.distribution)
        return {name: weight * masks[name] for name, weight in weights.items()}
