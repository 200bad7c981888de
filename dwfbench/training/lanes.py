"""Lanes in training: what a group of runs consists of, and how it is packed into a checkpoint and made again.

Every tensor of a group's state has a leading lane axis L.
"""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dwfbench.runs.spec import RunSpec

Tensors = dict[str, Tensor]

PARTS = ("weights", "others", "buffers", "velocity", "masks")
"""What a checkpoint holds of a group's state."""

LANE_FACTS = ("status", "error", "history", "seconds", "overhead_seconds", "lanes")
"""What it holds of each lane."""


@dataclass
class Trained:
    """What training one lane gave.

    ``state`` is the network's state dict after the last step, weights already effective (products of factors);
    ``sparse`` holds the same weights after the method's final sparsification. Both are empty for a lane that
    diverged. ``overhead_seconds`` is the time spent on scores and masks. ``seconds``, which includes it, is what the
    run took: its share of a group's time, and in full what it has in common with other runs (``Method.shared_epochs``).
    ``lanes`` is the size of its group, ``outdated`` names checkpoints that nobody needs once this run is
    stored.
    """

    spec: RunSpec
    status: str = "ok"
    error: str | None = None
    state: Tensors = field(default_factory=dict)
    sparse: Tensors = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    overhead_seconds: float = 0.0
    lanes: int = 1
    outdated: tuple[str, ...] = ()


class State(NamedTuple):
    """The tensors of a group, each (L, ...): all that a step reads and writes, in place.

    ``weights`` are what the method trains in place of the prunable weights, ``others`` the network's other parameters;
    ``velocity`` is momentum's, by the names of both (none without momentum), and ``masks`` are 0 or 1, for some or none
    of the ``weights``.
    """

    weights: Tensors
    others: Tensors
    buffers: Tensors
    velocity: Tensors
    masks: Tensors
    strength: Tensor

    def tensors(self) -> Iterator[Tensor]:
        """All of them."""
        for part in PARTS:
            yield from getattr(self, part).values()
        yield self.strength


@dataclass
class Group:
    """Lanes in training: their runs, their tensors, and where they stand.

    ``orders`` and ``views`` are the generators of batches and of their augmentation by seed. ``origin`` is the network
    that a method goes back to (``Method.rewind_epoch``), once it is there. ``position`` counts the steps of the epoch
    under way, ``epoch`` the whole ones before; ``loss_sum`` (L,) adds up over the ``steps`` since the last row of the
    history, of the time ``since``.
    """

    key: str
    lanes: list[Trained]
    state: State
    orders: dict[int, torch.Generator]
    views: dict[int, torch.Generator]
    origin: Tensors = field(default_factory=dict)
    epoch: int = 0
    position: int = 0
    loss_sum: Tensor | float = 0.0
    steps: int = 0
    since: float = field(default_factory=time.perf_counter)
    drawn_from: Tensors = field(default_factory=dict)

    @property
    def specs(self) -> list[RunSpec]:
        return [lane.spec for lane in self.lanes]

    def randomness(self) -> Tensors:
        """The states of the generators, by use and seed."""
        states = {f"orders/{seed}": random.get_state() for seed, random in self.orders.items()}
        states |= {f"views/{seed}": random.get_state() for seed, random in self.views.items()}
        return states

    def pack(self) -> tuple[Tensors, dict[str, Any]]:
        """Tensors and facts (for JSON) from which ``unpack`` makes this group again."""
        randomness = self.drawn_from if self.position else self.randomness()
        tensors = {f"{part}/{name}": value for part in PARTS for name, value in getattr(self.state, part).items()}
        tensors |= {f"origin/{name}": value for name, value in self.origin.items()}
        tensors |= {"strength": self.state.strength, "loss_sum": torch.as_tensor(self.loss_sum), **randomness}
        tensors["global"] = torch.get_rng_state()
        device = self.state.strength.device
        if device.type == "cuda":
            tensors["global-cuda"] = torch.cuda.get_rng_state(device)
        facts = {name: getattr(self, name) for name in ("epoch", "position", "steps")}
        facts["elapsed"] = time.perf_counter() - self.since
        facts["order"] = list(tensors)  # a product of factors is rounded in their order
        return tensors, {**facts, "lanes": [{name: getattr(lane, name) for name in LANE_FACTS} for lane in self.lanes]}

    @classmethod
    def unpack(
        cls, key: str, specs: list[RunSpec], tensors: Tensors, facts: dict[str, Any], device: torch.device
    ) -> "Group":
        """The group of these runs that was packed, on ``device``; torch's own generators are set as they were."""
        parts: dict[str, Tensors] = {part: {} for part in (*PARTS, "origin", "orders", "views")}
        for path in facts["order"]:
            part, slash, name = path.partition("/")
            if slash:
                parts[part][name] = tensors[path] if part in ("orders", "views") else tensors[path].to(device)
        torch.set_rng_state(tensors["global"])
        if device.type == "cuda" and "global-cuda" in tensors:
            torch.cuda.set_rng_state(tensors["global-cuda"], device)
        orders, views = (
            {int(seed): torch.Generator().set_state(value) for seed, value in parts[part].items()}
            for part in ("orders", "views")
        )
        return cls(
            key,
            [Trained(one, **lane) for one, lane in zip(specs, facts["lanes"], strict=True)],
            State(**{part: parts[part] for part in PARTS}, strength=tensors["strength"].to(device)),
            orders,
            views,
            parts["origin"],
            epoch=facts["epoch"],
            position=facts["position"],
            loss_sum=tensors["loss_sum"].to(device),
            steps=facts["steps"],
            since=time.perf_counter() - facts["elapsed"],
        )


def stack(lanes: list[Tensors]) -> Tensors:
    """All lanes' tensors under one name each, (L, ...); taken out of the lanes, so that no tensor is kept twice."""
    return {name: torch.stack([lane.pop(name) for lane in lanes]) for name in list(lanes[0])}


def squeeze(tensors: Tensors) -> Tensors:
    """The tensors of the only lane."""
    return {name: value.squeeze(0) for name, value in tensors.items()}


def along(lane_values: Tensor, tensor: Tensor) -> Tensor:
    """(L,) shaped to broadcast against (L, ...)."""
    return lane_values.view(-1, *[1] * (tensor.dim() - 1))


def per_lane(by_seed: dict[int, Tensor], specs: list[RunSpec]) -> Tensor:
    """What each seed has for the steps, (steps, ...): as it is if all lanes have one seed, else (steps, L, ...)."""
    if len(by_seed) == 1:
        return by_seed[specs[0].seed]
    return torch.stack([by_seed[one.seed] for one in specs], dim=1)


def knobless(spec: RunSpec) -> RunSpec:
    """What the runs of a seed have in common."""
    return replace(spec, strength=None, compression=None)


def key(specs: list[RunSpec]) -> str:
    """The name of a group: its run's id, or the first 12 hex digits of all ids' SHA-256."""
    ids = [one.id for one in specs]
    return ids[0] if len(ids) == 1 else hashlib.sha256(",".join(ids).encode()).hexdigest()[:12]


def chunks(items: list, size: int) -> list[list]:
    return [items[first : first + size] for first in range(0, len(items), size)]
