"""The lane axis: L networks, which differ in seed, knob and learning rate, trained at once by one step under vmap.

Every tensor of a group's state has a leading axis L, and so have batches where the seeds of lanes differ. Lanes never
mix: one that turns into NaN leaves its neighbours alone. Runs that are trained one by one call the step directly.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.func import vmap

from dwfbench.methods.contract import Tensors
from dwfbench.runs.spec import RunSpec
from dwfbench.training.step import State

PARTS = ("weights", "others", "buffers", "velocity", "squares", "masks")
"""The dicts of a state."""

NUMBERS = ("strength", "time")
"""Its numbers, one a lane."""

Item = TypeVar("Item")

# Attention under vmap runs lane by lane, which PyTorch warns of: the results are the same, and nothing can be done.
warnings.filterwarnings("ignore", "There is a performance drop because we have not yet implemented the batching rule")


def over_lanes(step: Callable, prepare: Callable, in_groups: bool) -> Callable:
    """The step of ``step.make_step`` for all lanes of a group.

    vmap rounds otherwise than a step alone. So where runs are trained ``in_groups``, it has a group of one lane, too:
    that may be what is left of a larger one.

    It takes the group's state, what ``prepare`` makes a batch of, and the learning rates (L,), and returns the losses
    (L,). prepare(images, labels, index, view) gives inputs and labels, (B, ...), or (L, B, ...) where seeds differ.
    """

    def group_step(state: State, images: Tensor, labels: Tensor, index: Tensor, view: Tensor, rate: Tensor) -> Tensor:
        inputs, targets = prepare(images, labels, index, view)
        if len(rate) == 1 and not in_groups:
            return step(lane_of(state, 0), inputs, targets, rate[0])[None]
        axis = 0 if index.dim() == 2 else None  # batches differ between lanes only if their seeds do
        return vmap(step, in_dims=(0, axis, axis, 0), randomness="different")(state, inputs, targets, rate)

    return group_step


def stack(lanes: list[Tensors]) -> Tensors:
    """All lanes' tensors under one name each, (L, ...); taken out of the lanes, so that no tensor is kept twice."""
    return {name: torch.stack([lane.pop(name) for lane in lanes]) for name in list(lanes[0])}


def lane_of(state: State, lane: int) -> State:
    """The state of one network, as views of the group's."""
    parts: dict[str, Any] = {part: lane_tensors(getattr(state, part), lane) for part in PARTS}
    return State(**(parts | lane_tensors(numbers_of(state), lane)))


def numbers_of(state: State) -> Tensors:
    """The numbers of a state, each (L,), by name."""
    return {name: getattr(state, name) for name in NUMBERS}


def lane_tensors(tensors: Tensors, lane: int) -> Tensors:
    """The tensors of a lane, as views; where it is the only one, views that a compiled step updates without a copy."""
    return {name: value.squeeze(0) if len(value) == 1 else value[lane] for name, value in tensors.items()}


def select(tensors: Tensors, lanes: Tensor) -> Tensors:
    """The tensors of these lanes (indices), copied."""
    return {name: value[lanes] for name, value in tensors.items()}


def tensors_of(state: State) -> Iterator[Tensor]:
    """All tensors of a state."""
    for part in PARTS:
        yield from getattr(state, part).values()
    yield from numbers_of(state).values()


# ---------------------------------------------------------------- random numbers of the seeds


def generator(seed: int, purpose: str) -> torch.Generator:
    """The seed's own stream of random numbers for one purpose, so that no use disturbs another."""
    return torch.Generator().manual_seed(seed_for(seed, purpose))


def seed_for(seed: int, purpose: str) -> int:
    """A number below 2^56 that depends on seed and purpose alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{purpose}".encode()).digest()[:7])


def clone(random: torch.Generator) -> torch.Generator:
    """A generator in the same state, which goes its own way from here."""
    return torch.Generator().set_state(random.get_state())


def per_lane(by_seed: dict[int, Tensor], specs: Sequence[RunSpec]) -> Tensor:
    """What each seed has for the steps, (steps, ...): as it is if all lanes have one seed, else (steps, L, ...)."""
    if len(by_seed) == 1:
        return by_seed[specs[0].seed]
    return torch.stack([by_seed[spec.seed] for spec in specs], dim=1)


def shuffled(
    samples: int,
    batch_size: int,
    steps: int,
    specs: Sequence[RunSpec],
    orders: dict[int, torch.Generator],
    device: torch.device,
) -> Tensor:
    """Indices of an epoch's batches: (steps, B) if all lanes have one seed, else (steps, L, B).

    Runs of one seed see the same batches whatever the method, the knob and the group they are in. The samples that
    do not fill a batch are left out, other ones each epoch.
    """
    order = {seed: torch.randperm(samples, generator=random)[: steps * batch_size] for seed, random in orders.items()}
    order = {seed: index.view(steps, batch_size) for seed, index in order.items()}
    return per_lane(order, specs).to(device)


# ---------------------------------------------------------------- which runs make a group


def knobless(spec: RunSpec) -> RunSpec:
    """What the runs of a seed have in common."""
    return replace(spec, strength=None, compression=None)


def laneless(spec: RunSpec) -> RunSpec:
    """What the lanes of a group have in common, which may differ in their seeds and learning rates, too."""
    return replace(knobless(spec), seed=0, lr=RunSpec.lr)


def families(specs: Iterable[RunSpec]) -> list[list[RunSpec]]:
    """The runs, those that differ in their knob alone together."""
    members: dict[str, list[RunSpec]] = {}
    for spec in specs:
        members.setdefault(knobless(spec).id, []).append(spec)
    return list(members.values())


def key(specs: Sequence[RunSpec]) -> str:
    """The name of a group: its run's id, or the first 12 hex digits of all ids' SHA-256."""
    ids = [spec.id for spec in specs]
    return ids[0] if len(ids) == 1 else hashlib.sha256(",".join(ids).encode()).hexdigest()[:12]


def chunks(items: list[Item], size: int) -> list[list[Item]]:
    """The items in order, ``size`` at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]
