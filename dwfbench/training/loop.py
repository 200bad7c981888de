"""The shared trainer: one loop for every method. It knows tensors, not files.

A *group* of L >= 1 runs (lanes) of one method, model, data set and budget is trained at once. Reading order:
``Trainer.train`` is a curve's work, ``Trainer.advance`` the loop over epochs, ``Trainer.train_epoch`` that over steps,
``step.make_step`` a step. Between steps a method may change its masks and begin a stage: ``Trainer.turn``.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import grad

import dwfbench
from dwfbench.base.errors import UsageError
from dwfbench.data import augment
from dwfbench.data.dataset import Dataset
from dwfbench.dwf.parametrization import Parametrization
from dwfbench.methods.contract import Method, Tensors
from dwfbench.methods.stage import rate_multiples, shared_epochs
from dwfbench.models.prunable import NOTHING, prunable
from dwfbench.runs.spec import RunSpec
from dwfbench.sparsity.count import cut
from dwfbench.training import compile as compiler
from dwfbench.training.checkpoint import Checkpoints, Facts, Identity, stop
from dwfbench.training.group import Group, Network, Trained
from dwfbench.training.lanes import (
    PARTS,
    chunks,
    clone,
    families,
    generator,
    key,
    knobless,
    lane_of,
    lane_tensors,
    over_lanes,
    per_lane,
    seed_for,
    select,
    shuffled,
    tensors_of,
)
from dwfbench.training.masks import Masks
from dwfbench.training.networks import Networks, copied, effective, filled, normalise_in_float32, reparametrized
from dwfbench.training.optimizers import rule_of
from dwfbench.training.recorder import record_epoch
from dwfbench.training.room import refuse_too_many
from dwfbench.training.step import State, make_objective, make_step

OnEpoch = Callable[[list[Trained], int], None]


class Epoch(NamedTuple):
    """One epoch of the schedule: multiples of the learning rate, one a step, and the number of its stage."""

    rates: list[float]
    stage: int


class Trainer:
    """Trains the runs of one curve, which differ in seed, knob and learning rate only, in groups of any size.

    A step is made, and with ``compile`` compiled, once. ``data`` lies on the device to train on. The history has a
    row every ``eval_every`` epochs and one for the last. What ``checkpoints`` hold is resumed, bit for bit on a CPU.
    Raises UsageError when the training part is smaller than a batch or the network has nothing to prune.
    """

    def __init__(
        self,
        spec: RunSpec,
        method: Method,
        data: Dataset,
        *,
        compile: bool = False,
        eval_every: int = 1,
        checkpoints: Checkpoints | None = None,
    ):
        self.spec, self.method, self.data = spec, method, data
        self.eval_every, self.checkpoints, self.compile = eval_every, checkpoints, compile
        self.device = data.train.images.device
        self.networks = Networks(spec, method, data)
        self.network = self.networks.build(spec.seed)
        if not prunable(self.network):
            raise UsageError(f"The model {spec.model} cannot be trained: {NOTHING}.")
        if spec.precision == "bfloat16":
            normalise_in_float32(self.network)
        if compile:
            compiler.forget()
        self.steps: dict[tuple[Parametrization, bool, bool], Callable] = {}
        self.in_groups = False
        self.stages = method.stages(spec.epochs)
        steps = steps_in_epoch(len(data.train), spec.batch_size)
        multiples = rate_multiples(self.stages, steps, spec.warmup_epochs, spec.drops, spec.lr_drop_factor)
        self.epochs = [
            Epoch(rates[start : start + steps], stage)
            for stage, rates in enumerate(multiples)
            for start in range(0, len(rates), steps)
        ]
        self.masks = Masks(self.networks, method, len(self.epochs) * steps)
        self.mask_steps = frozenset(method.mask_steps(len(self.epochs) * steps))
        self.origins = {stage.start for stage in self.stages if isinstance(stage.start, int)}

    def train(
        self, specs: list[RunSpec], lanes: int | None = None, on_epoch: OnEpoch = lambda lanes, epochs: None
    ) -> Iterator[Trained]:
        """Train the runs, ``lanes`` at once (all if None), and yield each as it ends.

        Epochs in which a method's knob plays no part are trained once for all runs that differ in nothing else.
        ``on_epoch(lanes, epochs)`` is called with every row of the history: the runs that it belongs to, and the
        number of epochs since the last one.
        """
        lanes = lanes or len(specs)
        self.in_groups = lanes > 1
        shared = shared_epochs(self.stages)
        if not shared:
            for chunk in chunks(specs, lanes):
                group = self.start(chunk, key(chunk))
                self.advance(group, len(self.epochs), on_epoch)
                yield from self.finish(group, [group.key])
            return
        for members in chunks(families(specs), lanes):
            common = [knobless(family[0]) for family in members]
            trunk = self.start(common, f"shared-{key(common)}")
            runs = [(index, spec) for index, family in enumerate(members) for spec in family]

            def on_shared(trunk_lanes: list[Trained], epochs: int, count: int = len(runs)) -> None:
                on_epoch(trunk_lanes[:1] * count, epochs)

            self.advance(trunk, shared, on_shared)
            self.keep(trunk)
            for branches in chunks(runs, lanes):
                group = self.branch(trunk, branches)
                self.advance(group, len(self.epochs), on_epoch)
                is_last = branches[-1] is runs[-1]
                yield from self.finish(group, [group.key, *([trunk.key] if is_last else [])])

    # ---------------------------------------------------------------- where a group comes from

    def start(self, specs: list[RunSpec], name: str) -> Group:
        """A group before its first step, or where its checkpoint left it."""
        if (resumed := self.from_checkpoint(name, specs)) is not None:
            return resumed
        if self.device.type == "cpu":
            refuse_too_many(self.network, self.stages, len(rule_of(self.spec).moments), len(specs))
        torch.manual_seed(specs[0].seed)  # for networks with randomness of their own, such as dropout
        network = self.networks.initial([spec.seed for spec in specs], self.stages[0].parametrization)
        moments = self.still(network.weights, network.others)
        time = torch.zeros(len(specs), device=self.device)
        state = State(*network, **moments, masks={}, strength=self.strengths(specs), time=time)
        orders, views = (
            {spec.seed: generator(spec.seed, use) for spec in specs} for use in ("batches", "augmentation")
        )
        return Group(name, [Trained(spec, lanes=len(specs)) for spec in specs], state, orders, views)

    def still(self, weights: Tensors, others: Tensors) -> dict[str, Any]:
        """The optimiser's moments before the first step."""
        used, trained = rule_of(self.spec).moments, {**weights, **others}
        zeros = {moment: {name: torch.zeros_like(value) for name, value in trained.items()} for moment in used}
        return {"velocity": {}, "squares": {}, **zeros}

    def strengths(self, specs: list[RunSpec]) -> Tensor:
        return torch.tensor([spec.strength or 0.0 for spec in specs], device=self.device)

    def branch(self, trunk: Group, runs: list[tuple[int, RunSpec]]) -> Group:
        """A group that goes on from lanes of another, for (index of the lane, run) each."""
        specs = [spec for _, spec in runs]
        if (resumed := self.from_checkpoint(key(specs), specs)) is not None:
            return resumed
        torch.manual_seed(specs[0].seed)
        index = torch.tensor([lane for lane, _ in runs], device=self.device)
        lanes = [
            replace(trunk.lanes[lane], spec=spec, history=list(trunk.lanes[lane].history), lanes=len(runs))
            for lane, spec in runs
        ]
        parts = {part: select(getattr(trunk.state, part), index) for part in PARTS}
        state = State(**parts, strength=self.strengths(specs), time=trunk.state.time[index])
        orders, views = ({spec.seed: clone(of[spec.seed]) for spec in specs} for of in (trunk.orders, trunk.views))
        origins = {epoch: network.map(lambda part: select(part, index)) for epoch, network in trunk.origins.items()}
        return Group(key(specs), lanes, state, orders, views, origins, trunk.stage, trunk.epoch)

    def keep(self, group: Group) -> None:
        """Put a group as it stands into a checkpoint, where ``from_checkpoint`` finds it."""
        if self.checkpoints is not None:
            tensors, facts = group.pack()
            self.checkpoints.save(group.key, tensors, Facts(identity=self.identity(group.specs), group=facts))

    def from_checkpoint(self, name: str, specs: list[RunSpec]) -> Group | None:
        """The group of these runs as its checkpoint left it; None where there is none that fits."""
        if self.checkpoints is None or (content := self.checkpoints.load(name, self.identity(specs))) is None:
            return None
        try:
            group = Group.unpack(name, specs, *content, self.device)
            tensors = {**self.weights(group), **group.state.others, **group.state.buffers}
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError):  # whole, but not what this version makes
            self.checkpoints.refuse(name, "does not fit this training")
            return None
        there = dict(self.network.named_parameters()) | dict(self.network.named_buffers())
        if {name: value.shape[1:] for name, value in tensors.items()} != {name: there[name].shape for name in there}:
            self.checkpoints.refuse(name, "is of another network of that name")
            return None
        return group

    def identity(self, specs: list[RunSpec]) -> Identity:
        """What a checkpoint must agree in with those who resume it."""
        return Identity(runs=[spec.identity for spec in specs], data=self.data.checksum, version=dwfbench.__version__)

    # ---------------------------------------------------------------- epochs and steps

    def advance(self, group: Group, until: int, on_epoch: OnEpoch) -> None:
        """Train a group up to the end of epoch ``until``, or until none of its lanes is alive."""
        base_rate = torch.tensor([spec.lr for spec in group.specs], device=self.device)
        recorded = group.epoch
        while group.epoch < until and group.alive():
            rates = torch.tensor(self.epochs[group.epoch].rates, device=self.device)[:, None] * base_rate  # (steps, L)
            self.train_epoch(group, rates)
            group.epoch, group.position = group.epoch + 1, 0
            if group.epoch % self.eval_every == 0 or group.epoch in (until, len(self.epochs)):
                self.record(group, rates[0])
                on_epoch(group.lanes, group.epoch - recorded)
                recorded = group.epoch

    def train_epoch(self, group: Group, rates: Tensor) -> None:
        """The steps of an epoch, from the one at which the group stands, with the learning rates (steps, L)."""
        images, labels = self.data.train.images, self.data.train.labels
        if group.position == 0 and group.epoch in self.origins:
            group.origins[group.epoch] = Network(*group.state[:3]).map(copied)
        group.drawn_from = group.randomness()  # an epoch resumed in its middle draws its batches again
        batches = shuffled(len(labels), self.spec.batch_size, len(rates), group.specs, group.orders, self.device)
        views = self.augmentations(group, len(rates))
        self.network.train()
        step = self.step_of(group)
        for index, view, rate in itertools.islice(zip(batches, views, rates, strict=True), group.position, None):
            number = group.epoch * len(rates) + group.position
            begins = group.position == 0 and self.begins_stage(group.epoch)
            if begins or number in self.mask_steps:
                self.turn(group, number, begins, index, view)
                step = self.step_of(group)
            group.loss_sum = group.loss_sum + step(group.state, images, labels, index, view, rate)
            group.position += 1
            group.steps += 1
            if self.checkpoints is not None and self.checkpoints.due():
                self.keep(group)
                stop.obey()

    def begins_stage(self, epoch: int) -> bool:
        return epoch == 0 or self.epochs[epoch - 1].stage != self.epochs[epoch].stage

    def step_of(self, group: Group) -> Callable:
        """The step that the group is at, made where it is first needed; see ``lanes.over_lanes``."""
        stage = self.stages[group.stage]
        variant = (stage.parametrization, stage.penalised, self.in_groups)
        if variant not in self.steps:
            has_penalty = stage.penalised and self.method.penalty(lane_of(group.state, 0).weights) is not None
            lane_step = make_step(self.network, self.method, stage, self.spec, has_penalty, self.data.task.loss)
            step = over_lanes(lane_step, self.batch, self.in_groups)
            self.steps[variant] = compiler.compiled(step, self.device) if self.compile else step
        if self.compile:
            compiler.stay([*tensors_of(group.state), self.data.train.images, self.data.train.labels])
        return self.steps[variant]

    def batch(self, images: Tensor, labels: Tensor, index: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs, normalised and augmented, and labels of a batch, by its index and random numbers."""
        return self.data.normalize(augment.apply(self.spec.augment, images[index], view)), labels[index]

    def augmentations(self, group: Group, steps: int) -> Tensor:
        """Random numbers of an epoch's augmentation, (steps, B, k) or (steps, L, B, k) as ``shuffled``."""
        size, augmentation = self.spec.batch_size, self.spec.augment
        drawn = {seed: augment.draw(augmentation, size, random, steps) for seed, random in group.views.items()}
        return per_lane(drawn, group.specs).to(self.device)

    def weights(self, group: Group) -> Tensors:
        """The prunable weights of all lanes as the network sees them, (L, ...)."""
        return effective(self.stages[group.stage].parametrization, group.state.weights)

    def record(self, group: Group, rate: Tensor) -> None:
        """A row of the history; ``rate`` (L,) are the learning rates at the epoch's beginning."""
        space = self.stages[group.stage].parametrization
        record_epoch(group, self.weights(group), rate, space, network=self.network, method=self.method, data=self.data)

    # ---------------------------------------------------------------- between steps

    def turn(self, group: Group, number: int, begins: bool, index: Tensor, view: Tensor) -> None:
        """Before step ``number``: let the method choose masks, and begin the stage whose first step it is."""
        stage = self.epochs[group.epoch].stage

        def gradients(lane: int) -> Tensors:
            return self.gradients(group, lane, index, view)

        masks = self.masks.choose(group, self.weights(group), number, stage, begins, gradients)
        if stage != group.stage:
            self.begin_stage(group, stage)
        space = self.stages[group.stage].parametrization
        self.masks.apply(group, {**group.state.masks, **masks}, space)

    def begin_stage(self, group: Group, stage_number: int) -> None:
        """Bring a group from the stage that ended to the start of another; moments start like a fresh optimiser's."""
        stage, space = self.stages[stage_number], self.stages[group.stage].parametrization
        network = Network(*group.state[:3])
        if stage.start == "anew":
            seeds = [seed_for(spec.seed, f"stage {stage_number}") for spec in group.specs]
            network, space = self.networks.initial(seeds, stage.parametrization, anew=True), stage.parametrization
        elif stage.start != "on":
            network = group.origins[stage.start]
            space = self.stages[self.epochs[max(stage.start - 1, 0)].stage].parametrization
        if space != stage.parametrization:
            network = network._replace(weights=reparametrized(space, stage.parametrization, network.weights))
        old = group.state
        weights, others, buffers = (filled(*parts) for parts in zip(old[:3], network, strict=True))
        moments = self.still(weights, others)
        moments = {moment: filled(getattr(old, moment), zero) for moment, zero in moments.items()}
        group.state = old._replace(weights=weights, others=others, buffers=buffers, **moments, time=old.time.zero_())
        group.stage = stage_number

    def gradients(self, group: Group, lane: int, index: Tensor, view: Tensor) -> Tensors:
        """The loss's gradients of a lane by what is trained, on the batch of the step that comes; nothing changes."""
        inputs, labels = self.batch(self.data.train.images, self.data.train.labels, index, view)
        if index.dim() == 2:
            inputs, labels = inputs[lane], labels[lane]
        space = self.stages[group.stage].parametrization
        objective = make_objective(self.network, space, self.spec, self.data.task.loss)
        return grad(objective, has_aux=True)(*lane_of(group.state, lane)[:3], inputs, labels)[0]

    def finish(self, group: Group, outdated: list[str]) -> list[Trained]:
        """The lanes, the live ones with their state and their sparse weights; the last outdates checkpoints."""
        group.lanes[-1].outdated = tuple(outdated)
        weights = self.weights(group)
        everything = {**weights, **group.state.others, **group.state.buffers}
        for index, lane in enumerate(group.lanes):
            if lane.status == "ok":
                lane.state = {name: value.clone() for name, value in lane_tensors(everything, index).items()}
                plain = {name: lane.state[name] for name in weights}
                lane.sparse = cut(self.method.sparsify(plain, lane.spec.compression), self.method.final_threshold())
                if shapes_and_types(lane.sparse) != shapes_and_types(plain):
                    raise UsageError(f"The sparse weights of {self.method.name} have other names, shapes or types.")
        return group.lanes


def steps_in_epoch(samples: int, batch_size: int) -> int:
    """Whole batches in an epoch. UsageError when the training part does not fill one."""
    if samples < batch_size:
        raise UsageError(f"batch_size is {batch_size}, but the training part has only {samples} samples.")
    return samples // batch_size


def shapes_and_types(tensors: Tensors) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
