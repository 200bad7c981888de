"""A group of lanes in training, and what training gave of each lane; how a group is packed into a checkpoint."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from msgspec.structs import asdict
from torch import Tensor

from dwfbench.methods.contract import Tensors
from dwfbench.runs.spec import RunSpec
from dwfbench.training.checkpoint import GroupFacts, LaneFacts, Row
from dwfbench.training.lanes import NUMBERS, PARTS, numbers_of
from dwfbench.training.step import State


class Network(NamedTuple):
    """The networks of a group at some time: the first fields of a ``State``."""

    weights: Tensors
    others: Tensors
    buffers: Tensors

    def map(self, change: Callable[[Tensors], Tensors]) -> "Network":
        """Each of the three changed."""
        return Network(*map(change, self))


OF_LANES = tuple(name for name in LaneFacts.__struct_fields__ if name != "history")


@dataclass
class Trained:
    """What training one lane gave.

    ``state`` is the network's state dict after the last step, weights already effective (products of factors);
    ``sparse`` holds the same weights after the method's final sparsification. Both are empty for a lane that
    diverged. ``overhead_seconds`` is the time spent on scores and masks. ``seconds``, which includes it, is what the
    run took: its share of a group's time, and in full what it has in common with other runs (``Stage.knob_free``).
    ``lanes`` is the size of its group, ``outdated`` names checkpoints that nobody needs once this run is stored, and
    ``notes`` are sentences for its record.
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
    notes: tuple[str, ...] = ()

    def facts(self) -> LaneFacts:
        """What a checkpoint says of the lane."""
        history = [Row(**row) for row in self.history]
        return LaneFacts(history=history, **{name: getattr(self, name) for name in OF_LANES})

    @classmethod
    def of(cls, spec: RunSpec, facts: LaneFacts) -> "Trained":
        """The lane of which a checkpoint says that."""
        history = [asdict(row) for row in facts.history]
        return cls(spec, history=history, **{name: getattr(facts, name) for name in OF_LANES})

    def charge(self, seconds: float) -> None:
        """Add time spent on scores and masks."""
        self.overhead_seconds += seconds
        self.seconds += seconds


@dataclass
class Group:
    """Lanes in training: their runs, their tensors, and where they stand.

    ``orders`` and ``views`` are the generators of batches and of their augmentation by seed. ``stage`` is the one whose
    tensors the state has. ``origins`` are the networks that later stages go back to, by their epochs. ``position``
    counts the steps of the epoch under way, ``epoch`` the whole ones before; ``loss_sum`` (L,) adds up over the
    ``steps`` since the last row of the history, of the time ``since``.
    """

    key: str
    lanes: list[Trained]
    state: State
    orders: dict[int, torch.Generator]
    views: dict[int, torch.Generator]
    origins: dict[int, Network] = field(default_factory=dict)
    stage: int = 0
    epoch: int = 0
    position: int = 0
    loss_sum: Tensor | float = 0.0
    steps: int = 0
    since: float = field(default_factory=time.perf_counter)
    drawn_from: Tensors = field(default_factory=dict)

    @property
    def specs(self) -> list[RunSpec]:
        return [lane.spec for lane in self.lanes]

    def alive(self) -> bool:
        """Whether any lane is worth another step."""
        return any(lane.status == "ok" for lane in self.lanes)

    def randomness(self) -> Tensors:
        """The states of the generators, by use and seed."""
        states = {f"orders/{seed}": random.get_state() for seed, random in self.orders.items()}
        states |= {f"views/{seed}": random.get_state() for seed, random in self.views.items()}
        return states

    def pack(self) -> tuple[Tensors, GroupFacts]:
        """Tensors and facts from which ``unpack`` makes this group again."""
        randomness = self.drawn_from if self.position else self.randomness()
        tensors = {f"{part}/{name}": value for part in PARTS for name, value in getattr(self.state, part).items()}
        for epoch, network in self.origins.items():
            for part, values in zip(network._fields, network, strict=True):
                tensors |= {f"origin-{epoch}-{part}/{name}": value for name, value in values.items()}
        tensors |= numbers_of(self.state) | {"loss_sum": torch.as_tensor(self.loss_sum), **randomness}
        tensors["global"] = torch.get_rng_state()
        device = self.state.strength.device
        if device.type == "cuda":
            tensors["global-cuda"] = torch.cuda.get_rng_state(device)
        return tensors, GroupFacts(
            epoch=self.epoch,
            position=self.position,
            stage=self.stage,
            steps=self.steps,
            origins=list(self.origins),
            elapsed=time.perf_counter() - self.since,
            order=list(tensors),  # a product of factors is rounded in their order
            lanes=[lane.facts() for lane in self.lanes],
        )

    @classmethod
    def unpack(
        cls,
        key: str,
        specs: list[RunSpec],
        tensors: Tensors,
        facts: GroupFacts,
        lanes: Sequence[int],
        device: torch.device,
    ) -> "Group":
        """The group of these runs, ``lanes`` of one that was packed, on ``device``; torch's own generators are set as
        they were."""
        index = torch.tensor(lanes)
        seeds = {str(spec.seed) for spec in specs}
        parts: dict[str, Tensors] = defaultdict(dict)
        for path in facts.order:
            part, slash, name = path.partition("/")
            if part in ("orders", "views"):
                if name in seeds:
                    parts[part][name] = tensors[path]
            elif slash:
                parts[part][name] = tensors[path][index].to(device)
        origins = {
            epoch: Network(*(parts[f"origin-{epoch}-{part}"] for part in Network._fields)) for epoch in facts.origins
        }
        state: dict[str, Any] = {part: parts[part] for part in PARTS}
        state |= {name: tensors[name][index].to(device) for name in NUMBERS}
        torch.set_rng_state(tensors["global"])
        if device.type == "cuda" and "global-cuda" in tensors:
            torch.cuda.set_rng_state(tensors["global-cuda"], device)
        orders, views = (
            {int(seed): torch.Generator().set_state(value) for seed, value in parts[part].items()}
            for part in ("orders", "views")
        )
        return cls(
            key,
            [Trained.of(spec, facts.lanes[lane]) for spec, lane in zip(specs, lanes, strict=True)],
            State(**state),
            orders,
            views,
            origins,
            stage=facts.stage,
            epoch=facts.epoch,
            position=facts.position,
            loss_sum=(tensors["loss_sum"][index] if tensors["loss_sum"].dim() else tensors["loss_sum"]).to(device),
            steps=facts.steps,
            # Seconds are shared among the lanes that are left, so that these take their part of those before.
            since=time.perf_counter() - facts.elapsed * len(lanes) / len(facts.lanes),
        )
