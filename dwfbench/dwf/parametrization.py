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

    ``min_abs`` is the eps of Algorithm 1, at most a quarter of sigma; ``rescale`` gives what it draws the standard
    deviation sigma, rather than that of ``factors.product_std``.
    """

    depth: int
    min_abs: float = DEFAULT_MIN_ABS
    rescale: bool = False

    @property
    def parts(self) -> int:
        return self.depth

    def draw(self, name: str, weight: Tensor, generator: torch.Generator | None) -> Sequence[Tensor]:
        """Algorithm 1, with sigma the weight's ``deviation``, on the weight's device.

        Raises UsageError for a weight that is not finite, and for a ``min_abs`` that leaves no value.
        """
        sigma = factors.finite_deviation(name, weight)
        eps = factors.capped_min_abs(self.min_abs, sigma)
        drawn = factors.draw_factors(tuple(weight.shape), sigma, self.depth, min_abs=eps, generator=generator)
        if self.rescale:
            drawn *= (sigma / factors.product_std(sigma, self.depth, eps)) ** (1 / self.depth)
        return drawn.to(weight.device, weight.dtype).unbind(0)

    def keep(self, weight: Tensor) -> Sequence[Tensor]:
        """Balanced factors, of equal magnitude |w|^(1/D), the first with the sign: no others have less L2 decay."""
        magnitude = weight.abs().pow(1 / self.depth)
        return torch.stack([magnitude.copysign(weight), *[magnitude] * (self.depth - 1)]).unbind(0)

    def weight(self, *parts: Tensor) -> Tensor:
        return factors.product(parts)

    def misalignment(self, parts: Sequence[Tensor]) -> Tensor:
        """(1/D) sum_d ||w_d||^2 - ||w||_{2/D}^{2/D} >= 0 (section 4.2): zero iff balanced.

        In float64, in which one factor at a time is held.
        """
        squares, weight = (fill(parts[0], dtype=torch.float64) for fill in (torch.zeros_like, torch.ones_like))
        for factor in parts:
            wide = factor.double()
            squares += wide * wide
            weight *= wide
        excess = squares / self.depth - weight.abs_().pow_(2 / self.depth)
        return excess.sum().clamp_min(0).float()

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
        """The weight itself and gates of 1; nothing is drawn: the network starts as its ordinary initialiser left it.

        Near balance where that gives groups a norm of about 1 (PyTorch's default for Linear and Conv: 0.58 per output).
        """
        return [weight.clone(), *(weight.new_ones(self.sizes(weight)) for _ in range(self.depth - 1))]

    def keep(self, weight: Tensor) -> Sequence[Tensor]:
        """Balanced gates, ||w_g||^(1/D), and a primary tensor of that norm: no others have less L2 decay.

        Groups of zeros stay zero.
        """
        sizes = self.sizes(weight)
        gate = gates.by_group(weight, sizes).square().sum(1).sqrt().reshape(sizes).pow(1 / self.depth)
        divisor = torch.where(gate > 0, gate.pow(self.depth - 1), 1)
        return [weight / gates.spread(divisor, weight.shape[0]), *(gate.clone() for _ in range(self.depth - 1))]

    def weight(self, *parts: Tensor) -> Tensor:
        return gates.gated(parts)

    def misalignment(self, parts: Sequence[Tensor]) -> Tensor:
        """(1/D) (||omega||^2 + sum_d ||gamma_d||^2) - sum_g ||w_g||_2^(2/D) >= 0: zero iff balanced. In float64."""
        primary, *scalars = (part.double() for part in parts)
        sizes = scalars[0].shape
        squares = [gates.by_group(primary, sizes).square().sum(1).reshape(sizes), *(gate.square() for gate in scalars)]
        excess = factors.total(squares) / self.depth - factors.product(squares).pow(1 / self.depth)
        return excess.sum().clamp_min(0).float()

    def norm(self, weight: Tensor) -> Tensor:
        """sum_g ||w_g||_2^(2/D), which is what the decay of the parts comes to in balance: a scalar."""
        return gates.by_group(weight, self.sizes(weight)).square().sum(1).pow(1 / self.depth).sum()


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
