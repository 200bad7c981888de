"""How a weight is computed from the tensors that are trained in its place: the same for command line and library.

A weight tensor has *parts*: itself, D factors, a primary tensor and gates. A parametrization says which parts a weight
starts from and how they make the weight; ``Parametrization`` itself is the plain weight, its own only part. All are
frozen dataclasses: equal ones share a compiled step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dwfbench.dwf import factors, gates
from dwfbench.dwf.factors import DEFAULT_MIN_ABS


@dataclass(frozen=True)
class Parametrization:
    """The plain weight. Subclasses change ``parts``, ``keep`` and ``weight`` at least.

    A mask acts on a weight's first part, which has its shape: where that is 0, the weight must be, too.
    """

    @property
    def parts(self) -> int:
        """The number of parts of a weight, at least 1."""
        return 1

    def draw(self, name: str, weight: Tensor, generator: torch.Generator | None) -> Sequence[Tensor]:
        """The parts to train from the beginning, where ``weight`` is what the layer's ordinary initialiser gave.

        ``name`` is the weight's, for error messages. By default the parts that ``keep`` the weight.
        """
        return self.keep(weight)

    def keep(self, weight: Tensor) -> Sequence[Tensor]:
        """Parts that make this ``weight``."""
        return (weight,)

    def weight(self, *parts: Tensor) -> Tensor:
        """The weight of its parts, differentiable in them."""
        return parts[0]

    def misalignment(self, parts: Sequence[Tensor]) -> Tensor | None:
        """How much more L2 decay the parts have than the least with which they could make the same weight: a scalar.

        None where a weight has no choice of parts.
        """
        return None


PLAIN = Parametrization()


@dataclass(frozen=True)
class Product(Parametrization):
    """The product of ``depth`` factors of the weight's shape: Deep Weight Factorization (see ``factors``).

    ``min_abs`` and ``rescale`` as in ``factors.initial_factors``.
    """

    depth: int
    min_abs: float = DEFAULT_MIN_ABS
    rescale: bool = False

    @property
    def parts(self) -> int:
        return self.depth

    def draw(self, name: str, weight: Tensor, generator: torch.Generator | None) -> Sequence[Tensor]:
        """Algorithm 1. Raises UsageError for a constant weight and a ``min_abs`` that leaves no value."""
        return factors.initial_factors(name, weight, self.depth, self.min_abs, generator, self.rescale).unbind(0)

    def keep(self, weight: Tensor) -> Sequence[Tensor]:
        """Balanced factors."""
        return factors.balanced_factors(weight, self.depth).unbind(0)

    def weight(self, *parts: Tensor) -> Tensor:
        return factors.product(parts)

    def misalignment(self, parts: Sequence[Tensor]) -> Tensor:
        return factors.misalignment_of(parts)

    def norm(self, weight: Tensor) -> Tensor:
        """||w||_{2/D}^{2/D}, which is what (1/D) sum_d ||w_d||^2 comes to in balance: a scalar."""
        return weight.abs().pow(2 / self.depth).sum()


@dataclass(frozen=True)
class Gated(Parametrization):
    """A primary tensor of the weight's shape times ``depth - 1`` gates, one scalar a group: D-Gating (see ``gates``).

    ``group`` is "channel" or "row"; ``gate_shape`` says what the groups are where the weight's shape does not.
    """

    depth: int
    group: str
    gate_shape: tuple[int, ...] | None = None

    @property
    def parts(self) -> int:
        return self.depth

    def sizes(self, weight: Tensor) -> tuple[int, ...]:
        """The shape of the gates of a weight (output, input, ...)."""
        return self.gate_shape or gates.gate_shape(weight.shape, gates.GROUPS.index(self.group) - 1)

    def draw(self, name: str, weight: Tensor, generator: torch.Generator | None) -> Sequence[Tensor]:
        """The weight itself and gates of 1; nothing is drawn."""
        return gates.open_gates(weight, self.depth, self.sizes(weight))

    def keep(self, weight: Tensor) -> Sequence[Tensor]:
        """Balanced gates."""
        return gates.balanced_gates(weight, self.depth, self.sizes(weight))

    def weight(self, *parts: Tensor) -> Tensor:
        return gates.gated(parts)

    def misalignment(self, parts: Sequence[Tensor]) -> Tensor:
        return gates.gate_misalignment(parts)

    def norm(self, weight: Tensor) -> Tensor:
        """sum_g ||w_g||_2^(2/D), which is what the decay of the parts comes to in balance: a scalar."""
        return gates.group_norm(weight, self.sizes(weight), self.depth)


# ---------------------------------------------------------------- the weights of a network, by name


def part_names(space: Parametrization, name: str) -> list[str]:
    """The names under which the parts of a weight are trained: its own, or ``fc1.weight.0``, ``fc1.weight.1``, ..."""
    return [name] if space.parts == 1 else [f"{name}.{number}" for number in range(space.parts)]


def draw(space: Parametrization, weights: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """The tensors to train from the beginning in the place of the initial ``weights``."""
    return named(space, {name: space.draw(name, weight, generator) for name, weight in weights.items()})


def keep(space: Parametrization, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors to train in the place of these ``weights``, and that give them."""
    return named(space, {name: space.keep(weight) for name, weight in weights.items()})


def named(space: Parametrization, parts: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """The parts of every weight under the names of ``part_names``."""
    return {
        part: tensor
        for name, tensors in parts.items()
        for part, tensor in zip(part_names(space, name), tensors, strict=True)
    }


def parts_by_weight(space: Parametrization, trainable: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """The parts of every weight, from what is trained."""
    if space.parts == 1:
        return {name: [tensor] for name, tensor in trainable.items()}
    parts: dict[str, list[Tensor]] = {}
    for name, tensor in trainable.items():
        parts.setdefault(name.rpartition(".")[0], []).append(tensor)
    return parts


def weights_of(space: Parametrization, trainable: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that the network uses, from what is trained; differentiable."""
    return {name: space.weight(*parts) for name, parts in parts_by_weight(space, trainable).items()}
