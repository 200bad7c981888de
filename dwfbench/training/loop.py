"""The shared trainer: one loop for every method. It knows tensors, not files.

A *group* of L >= 1 runs (lanes) of one method, model, data set and budget is trained at once. Every tensor of its
state has a leading lane axis, and so have learning rates, strengths and masks; lanes never mix, so a lane that turns
into NaN leaves its neighbours alone. With L = 1 the network is called directly, with L > 1 through
``torch.func.vmap``.

Reading order: ``Trainer.train`` is a curve's work, ``Trainer.advance`` the loop over epochs, ``make_step`` one step
of SGD.
"""

import functools
import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.data import augment
from dwfbench.data.dataset import Dataset
from dwfbench.dwf.factors import total
from dwfbench.methods import schedule
from dwfbench.methods.contract import Method, Moment, Start
from dwfbench.runs.spec import RunSpec
from dwfbench.sparsity.count import SIZES, count_sizes, prunable
from dwfbench.training import compile as compiler
from dwfbench.training.checkpoint import Checkpoints, stop
from dwfbench.training.evaluate import evaluate
from dwfbench.training.lanes import (
    PARTS,
    Group,
    State,
    Tensors,
    Trained,
    along,
    chunks,
    key,
    knobless,
    per_lane,
    squeeze,
    stack,
)


class Epoch(NamedTuple):
    """One epoch of the schedule: multiples of the learning rate, one a step, and the phase that begins with it."""

    rates: list[float]
    begins: int | None


class Trainer:
    """Trains the runs of one curve, which differ in seed, knob and learning rate only, in groups of any size.

    The step is made, and with ``compile`` compiled, once. ``data`` lies on the device to train on. The history has a
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
        self.eval_every, self.checkpoints = eval_every, checkpoints
        self.device = data.train.images.device
        self.network = self.build(spec.seed)
        if not prunable(self.network):
            raise UsageError(f"The model {spec.model} has no Linear or Conv weight, so there is nothing to prune.")
        loss = make_loss(self.network, method, spec)
        self.step = make_step(loss, method, spec, data)
        self.gradients = make_gradients(loss, spec, data)
        self.compiled = compile
        if compile:
            self.step = compiler.compiled(self.step, self.device)
        self.scores: dict[int, tuple[Tensors | None, float]] = {}  # by seed, with the seconds that they took
        steps = steps_in_epoch(len(data.train), spec.batch_size)
        phases = method.phases(spec.epochs)
        factors = schedule.factors(phases, steps, spec.warmup_epochs, spec.drops, spec.lr_drop_factor)
        self.epochs = [
            Epoch(rates[first : first + steps], number if first == 0 else None)
            for number, rates in enumerate(factors)
            for first in range(0, len(rates), steps)
        ]
        self.mask_steps = frozenset(method.mask_steps(len(self.epochs) * steps))
        self.rewind_epoch = method.rewind_epoch(spec.epochs)

    def build(self, seed: int) -> nn.Module:
        return models.build(self.spec.model, self.data.input_shape, self.data.classes, seed).to(self.device)

    def train(
        self,
        specs: list[RunSpec],
        lanes: int | None = None,
        on_epoch: Callable[[list[Trained], int], None] = lambda lanes, epochs: None,
    ) -> Iterator[Trained]:
        """Train the runs, ``lanes`` at once (all if None), and yield each as it ends.

        Epochs in which a method's knob plays no part are trained once for all runs that differ in nothing else.
        ``on_epoch(lanes, epochs)`` is called with every row of the history: the runs that it belongs to, and the
        number of epochs since the last one.
        """
        lanes = lanes or len(specs)
        shared = self.method.shared_epochs(self.spec.epochs)
        if not shared:
            for chunk in chunks(specs, lanes):
                group = self.start(chunk, key(chunk))
                self.advance(group, len(self.epochs), on_epoch)
                yield from self.finish(group, [group.key])
            return
        families: dict[str, list[RunSpec]] = {}
        for one in specs:
            families.setdefault(knobless(one).id, []).append(one)
        for members in chunks(list(families.values()), lanes):
            common = [knobless(family[0]) for family in members]
            trunk = self.start(common, f"shared-{key(common)}")
            runs = [(index, one) for index, family in enumerate(members) for one in family]

            def on_shared(seen: list[Trained], epochs: int, count: int = len(runs)) -> None:
                on_epoch(seen[:1] * count, epochs)

            self.advance(trunk, shared, on_shared)
            self.keep(trunk)
            for chunk in chunks(runs, lanes):
                group = self.branch(trunk, chunk)
                self.advance(group, len(self.epochs), on_epoch)
                last = chunk[-1] is runs[-1]
                yield from self.finish(group, [group.key, *([trunk.key] if last else [])])

    def start(self, specs: list[RunSpec], name: str) -> Group:
        """A group before its first step, or where its checkpoint left it.

        Initial networks, scores and masks, the method's own tensors.
        """
        if (kept := self.kept(name, specs)) is not None:
            return kept
        torch.manual_seed(specs[0].seed)  # for networks with randomness of their own, such as dropout
        lanes = [Trained(one, lanes=len(specs)) for one in specs]
        weights, others, buffers, masks = [], [], [], []
        for lane in lanes:
            seed = lane.spec.seed
            network = self.build(seed)
            masks.append(self.initial_masks(network, lane))
            dense = {name: weight.detach() for name, weight in prunable(network).items()}
            weights.append(self.method.reparametrize(dense, self.randomness(seed)))
            others.append({name: value.detach() for name, value in network.named_parameters() if name not in dense})
            buffers.append(dict(network.named_buffers()))
        trained, rest = stack(weights), stack(others)
        moving = {**trained, **rest} if self.spec.momentum else {}
        velocity = {name: torch.zeros_like(value) for name, value in moving.items()}
        state = State(trained, rest, stack(buffers), velocity, {}, self.strengths(specs))
        orders, views = ({one.seed: generator(one.seed, use) for one in specs} for use in ("batches", "augmentation"))
        group = Group(name, lanes, state, orders, views)
        if masks[0] is not None:
            self.apply((mask for mask in masks if mask is not None), group)
        return group

    def strengths(self, specs: list[RunSpec]) -> Tensor:
        return torch.tensor([one.strength or 0.0 for one in specs], device=self.device)

    def randomness(self, seed: int) -> torch.Generator:
        return generator(seed, f"method:{self.method.name}")

    def initial_masks(self, network: nn.Module, lane: Trained) -> Tensors | None:
        """The method's masks before training; its scores are computed once a seed."""
        seed = lane.spec.seed
        started = time.perf_counter()

        def batch(per_class: int) -> tuple[Tensor, Tensor]:
            return self.data.balanced_batch(per_class, generator(seed, "scores"))

        start = Start(network, self.data.input_shape, lane.spec.compression, batch, self.randomness(seed))
        if seed not in self.scores:
            found = self.method.scores(start)
            # Those of one seed only are kept: they are as large as the network.
            self.scores = {seed: (found, time.perf_counter() - started)}
            started = time.perf_counter()
        scores, seconds = self.scores[seed]
        masks = self.method.initial_masks(start, scores)
        lane.overhead_seconds += seconds + time.perf_counter() - started
        lane.seconds += lane.overhead_seconds
        return masks

    def branch(self, trunk: Group, runs: list[tuple[int, RunSpec]]) -> Group:
        """A group that goes on from lanes of another, for (index of the lane, run) each."""
        specs = [one for _, one in runs]
        if (kept := self.kept(key(specs), specs)) is not None:
            return kept
        torch.manual_seed(specs[0].seed)
        index = torch.tensor([lane for lane, _ in runs], device=self.device)
        parts = {part: {name: value[index] for name, value in getattr(trunk.state, part).items()} for part in PARTS}
        lanes = [
            replace(trunk.lanes[lane], spec=one, history=list(trunk.lanes[lane].history), lanes=len(runs))
            for lane, one in runs
        ]
        orders, views = ({one.seed: clone(of[one.seed]) for one in specs} for of in (trunk.orders, trunk.views))
        origin = {name: value[index] for name, value in trunk.origin.items()}
        return Group(
            key(specs), lanes, State(**parts, strength=self.strengths(specs)), orders, views, origin, trunk.epoch
        )

    def keep(self, group: Group) -> None:
        """Put a group as it stands into a checkpoint, where ``kept`` finds it."""
        if self.checkpoints is not None:
            tensors, facts = group.pack()
            self.checkpoints.save(group.key, tensors, {**self.identity(group.specs), **facts})

    def kept(self, name: str, specs: list[RunSpec]) -> Group | None:
        """The group of these runs as its checkpoint left it; None where there is none that fits."""
        if self.checkpoints is None or (found := self.checkpoints.load(name, self.identity(specs))) is None:
            return None
        group = Group.unpack(name, specs, *found, self.device)
        shapes = {own: weight.shape[1:] for own, weight in self.effective(group.state).items()}
        if shapes != {own: weight.shape for own, weight in prunable(self.network).items()}:
            self.checkpoints.note(f"The checkpoint {name} is of another network of that name; the run starts over.")
            return None
        return group

    def identity(self, specs: list[RunSpec]) -> dict[str, str | list[str]]:
        """What a checkpoint must agree in with those who resume it."""
        return {"runs": [one.identity for one in specs], "data": self.data.checksum}

    def advance(self, group: Group, until: int, on_epoch: Callable[[list[Trained], int], None]) -> None:
        """Train a group up to the end of epoch ``until``, or until none of its lanes is alive."""
        base_rate = torch.tensor([one.lr for one in group.specs], device=self.device)
        images, labels = self.data.train.images, self.data.train.labels
        seen = group.epoch
        while group.epoch < until and any(lane.status == "ok" for lane in group.lanes):
            epoch = self.epochs[group.epoch]
            if epoch.begins and group.position == 0:
                self.begin_phase(group, epoch.begins)
            if group.epoch == self.rewind_epoch and not group.origin:
                group.origin = {name: value.clone() for name, value in rewound(group.state)}
            group.drawn_from = group.randomness()  # an epoch resumed in its middle draws its batches again
            rates = torch.tensor(epoch.rates, device=self.device)[:, None] * base_rate  # (steps, L)
            batches = shuffled(len(labels), self.spec.batch_size, len(rates), group.specs, group.orders, self.device)
            views = self.augmentations(group, len(rates))
            self.network.train()
            if self.compiled:
                compiler.stay([*group.state.tensors(), images, labels])
            steps = zip(batches, views, rates, strict=True)
            for index, view, rate in itertools.islice(steps, group.position, None):
                if (number := group.epoch * len(rates) + group.position) in self.mask_steps:
                    self.change_masks(group, number, index, view)
                group.loss_sum = group.loss_sum + self.step(group.state, images, labels, index, view, rate)
                group.position += 1
                group.steps += 1
                if self.checkpoints is not None and self.checkpoints.due():
                    self.keep(group)
                    stop.obey()
            group.epoch, group.position = group.epoch + 1, 0
            if group.epoch % self.eval_every == 0 or group.epoch in (until, len(self.epochs)):
                self.record(group, rates[0])
                on_epoch(group.lanes, group.epoch - seen)
                seen = group.epoch

    def augmentations(self, group: Group, steps: int) -> Tensor:
        """Random numbers of an epoch's augmentation, (steps, B, k) or (steps, L, B, k) as ``shuffled``."""
        size, kind = self.spec.batch_size, self.spec.augment
        drawn = {seed: augment.draw(kind, size, random, steps) for seed, random in group.views.items()}
        return per_lane(drawn, group.specs).to(self.device)

    def begin_phase(self, group: Group, phase: int) -> None:
        """Between two phases: let the method prune, go back to an earlier network if it does, and start afresh."""

        def after(lane: int, weights: Tensors, _: Tensors) -> Tensors | None:
            return self.method.masks_after(phase - 1, weights, group.specs[lane].compression)

        self.remask(group, after)
        if group.origin:
            for name, value in rewound(group.state):
                value.copy_(group.origin[name])
            for name, mask in group.state.masks.items():
                group.state.weights[name].mul_(mask)
        for velocity in group.state.velocity.values():
            velocity.zero_()  # a phase starts like a fresh optimiser

    def change_masks(self, group: Group, step: int, index: Tensor, view: Tensor) -> None:
        """Before a step: let a method that changes its masks during training choose new ones."""
        images, labels = self.data.train.images, self.data.train.labels
        dense = functools.cache(lambda: self.gradients(group.state, images, labels, index, view))

        def now(lane: int, weights: Tensors, masks: Tensors) -> Tensors:
            one = group.specs[lane]
            moment = Moment(
                step,
                sum(len(epoch.rates) for epoch in self.epochs),
                weights,
                masks,
                one.compression,
                lambda: {name: value[lane] for name, value in dense().items()},
                generator(one.seed, f"masks:{self.method.name}:{step}"),
            )
            return self.method.masks_at(moment)

        self.remask(group, now)

    def remask(self, group: Group, choose: Callable[[int, Tensors, Tensors], Tensors | None]) -> None:
        """Put every lane under the masks that ``choose(its number, its weights, its masks)`` gives, if it does."""
        started = time.perf_counter()
        weights, before = self.effective(group.state), group.state.masks
        masks = []
        for index, lane in enumerate(group.lanes):
            own = {name: value[index] for name, value in weights.items()}
            if lane.status == "ok" and all(weight.isfinite().all() for weight in own.values()):
                masks.append(choose(index, own, {name: value[index] > 0 for name, value in before.items()}))
            else:  # there is nothing to choose from among the NaNs of a lane that ended, or will with this epoch
                masks.append({name: torch.ones_like(weight, dtype=torch.bool) for name, weight in own.items()})
        if all(mask is not None for mask in masks):
            self.apply((mask for mask in masks if mask is not None), group)
        for lane in group.lanes:
            lane.overhead_seconds += (time.perf_counter() - started) / len(group.lanes)

    def apply(self, masks: Iterable[Tensors], group: Group) -> None:
        """Put every lane under its masks; steps keep it there."""
        for name, mask in stack([dict(lane) for lane in masks]).items():
            weight = group.state.weights.get(name)
            if weight is None or weight.shape != mask.shape:
                raise UsageError(f"{self.method.name} masks {name}, but trains no tensor of that name and shape.")
            if name in group.state.masks:  # in place, so that a compiled step stays the same
                group.state.masks[name].copy_(mask)
            else:
                group.state.masks[name] = mask.to(weight)
            weight.mul_(group.state.masks[name])

    @torch.no_grad()
    def effective(self, state: State) -> Tensors:
        """The prunable weights of all lanes as the network sees them, (L, ...)."""
        return vmap(self.method.effective)(state.weights)

    def record(self, group: Group, rate: Tensor) -> None:
        """History row of every live lane; a lane whose loss is not finite or whose weights all vanished ends here.

        All values reach the host together, so the device is waited for once.
        """
        loss = torch.as_tensor(group.loss_sum / group.steps)
        group.loss_sum, group.steps = 0.0, 0
        weights = self.effective(group.state)
        everything = {**weights, **group.state.others, **group.state.buffers}
        with torch.no_grad():
            sizes = count_sizes(weights.values())
            checks = [value.isfinite() for value in everything.values() if value.is_floating_point()]
            finite = torch.isfinite(loss) & torch.stack([part.reshape(len(part), -1).all(1) for part in checks]).all(0)
            apart = type(self.method).misalignment is not Method.misalignment
            nothing = torch.full_like(loss, math.nan)
            distance = vmap(self.method.misalignment)(group.state.weights) if apart else nothing
            penalised = type(self.method).norm is not Method.norm
            norm = vmap(self.method.norm)(weights) if penalised else nothing
        numel = sum(weight[0].numel() for weight in weights.values())
        accuracy = evaluate(self.network, everything, self.data.val, self.data).accuracy
        columns: tuple[Any, ...] = (loss, finite, sizes, distance, norm, rate)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        seconds = (time.perf_counter() - group.since) / len(group.lanes)
        group.since = time.perf_counter()
        for lane, acc, row in zip(group.lanes, accuracy, rows, strict=True):
            if lane.status != "ok":
                continue
            lane.seconds += seconds
            loss_value, is_finite, counts, *distances, lr = row
            misaligned, penalty = (value if math.isfinite(value) else None for value in distances)
            alive = numel - counts[0]
            if not is_finite:
                what = "a weight" if math.isfinite(loss_value) else "the training loss"
                lane.status, lane.error = "diverged", f"{what} became infinite or NaN in epoch {group.epoch}"
            elif alive == 0:
                lane.status, lane.error = (
                    "diverged",
                    f"all weights vanished by epoch {group.epoch}: the network is dead",
                )
            lane.history.append(
                {
                    "epoch": group.epoch,
                    "train_loss": loss_value if math.isfinite(loss_value) else None,
                    "val_accuracy": acc,
                    "compression": numel / alive if alive else None,
                    "misalignment": misaligned,
                    "norm": penalty,
                    "lr": lr,
                    "seconds": seconds,
                    "sizes": dict(zip(SIZES, counts, strict=True)),
                }
            )

    def finish(self, group: Group, outdated: list[str]) -> list[Trained]:
        """The lanes, the live ones with their state and their sparse weights; the last outdates checkpoints."""
        group.lanes[-1].outdated = tuple(outdated)
        weights = self.effective(group.state)
        everything = {**weights, **group.state.others, **group.state.buffers}
        for index, lane in enumerate(group.lanes):
            if lane.status == "ok":
                lane.state = {name: value[index].clone() for name, value in everything.items()}
                own = {name: lane.state[name] for name in weights}
                lane.sparse = self.method.sparsify(own, lane.spec.compression)
        return group.lanes


def make_loss(network: nn.Module, method: Method, spec: RunSpec) -> Callable:
    """The sum of the lanes' losses on a batch, as a function of a group's weights, others and buffers; beside it
    returns the losses (L,) and the buffers after the pass."""
    mixed = spec.precision == "bfloat16"

    def lane_loss(weights: Tensors, others: Tensors, buffers: Tensors, images: Tensor, labels: Tensor):
        buffers = {name: value.clone() for name, value in buffers.items()}  # BatchNorm writes into them
        with torch.autocast(images.device.type, torch.bfloat16, enabled=mixed):
            logits = functional_call(network, {**method.effective(weights), **others, **buffers}, (images,))
        return cross_entropy(logits.float(), labels), buffers

    def total_loss(weights: Tensors, others: Tensors, buffers: Tensors, images: Tensor, labels: Tensor):
        # The sum over lanes has every lane's own gradient, because no lane depends on another's tensors.
        if len(next(iter(weights.values()))) == 1:
            loss, new = lane_loss(squeeze(weights), squeeze(others), squeeze(buffers), images, labels)
            return loss, (loss.detach()[None], {name: value[None] for name, value in new.items()})
        axis = 0 if labels.dim() == 2 else None  # batches differ between lanes only if their seeds do
        mapped = vmap(lane_loss, in_dims=(0, 0, 0, axis, axis), randomness="different")
        losses, new = mapped(weights, others, buffers, images, labels)
        return losses.sum(), (losses.detach(), new)

    return total_loss


def make_gradients(total_loss: Callable, spec: RunSpec, data: Dataset) -> Callable:
    """The gradients (L, ...) of a group's trainable tensors on a batch given as to ``make_step``; nothing changes."""

    def gradients(state: State, images: Tensor, labels: Tensor, index: Tensor, view: Tensor) -> Tensors:
        batch = data.normalize(augment.apply(spec.augment, images[index], view))
        return grad(total_loss, has_aux=True)(state.weights, state.others, state.buffers, batch, labels[index])[0]

    return gradients


def make_step(total_loss: Callable, method: Method, spec: RunSpec, data: Dataset) -> Callable:
    """One step of SGD for all lanes of a group, in place on its ``State``; returns the losses (L,).

    It takes the state, all images (N, C, H, W) and labels (N,), the batch's index (B,) and the random numbers of its
    augmentation (B, k), or (L, B) and (L, B, k) where the seeds of lanes differ, and the learning rates (L,). It is one
    function without control flow on data, so that torch.compile can fuse factor products, their gradients, decay,
    momentum and masks.
    """

    def descend(value: Tensor, gradient: Tensor, velocity: Tensor | None, rate: Tensor) -> None:
        direction = gradient
        if velocity is not None:
            velocity.mul_(spec.momentum).add_(gradient)
            direction = gradient + spec.momentum * velocity if spec.nesterov else velocity
        value.sub_(along(rate, value) * direction)

    def step(state: State, images: Tensor, labels: Tensor, index: Tensor, view: Tensor, rate: Tensor) -> Tensor:
        batch = data.normalize(augment.apply(spec.augment, images[index], view))
        gradients, (losses, buffers) = grad(total_loss, argnums=(0, 1), has_aux=True)(
            state.weights, state.others, state.buffers, batch, labels[index]
        )
        with torch.no_grad():
            if spec.clip_norm:
                gradients = clipped(gradients, spec.clip_norm)
            for name, value in state.others.items():
                descend(value, gradients[1][name], state.velocity.get(name), rate)
            for name, value in state.weights.items():
                gradient, velocity = gradients[0][name], state.velocity.get(name)
                strength = along(state.strength, value)
                if method.decays:
                    gradient = gradient + spec.weight_decay * value
                penalty = method.penalty_gradient(value, strength)
                if penalty is not None:
                    gradient = gradient + penalty
                descend(value, gradient, velocity, rate)
                moved = method.project(value, strength, along(rate, value) / (1 - spec.momentum))
                if moved is not None:
                    value.copy_(moved)
                if name in state.masks:  # momentum too, or a pruned weight would come back
                    value.mul_(state.masks[name])
                    if velocity is not None:
                        velocity.mul_(state.masks[name])
            for name, value in buffers.items():
                state.buffers[name].copy_(value)
        return losses

    return step


def steps_in_epoch(samples: int, batch_size: int) -> int:
    """Whole batches in an epoch. UsageError when the training part does not fill one."""
    if samples < batch_size:
        raise UsageError(f"batch_size is {batch_size}, but the training part has only {samples} samples.")
    return samples // batch_size


def shuffled(samples, batch_size, steps, specs: list[RunSpec], orders: dict[int, torch.Generator], device) -> Tensor:
    """Indices of an epoch's batches: (steps, B) if all lanes have one seed, else (steps, L, B).

    Runs of one seed see the same batches whatever the method, the knob and the group they are in. The samples that
    do not fill a batch are left out, other ones each epoch.
    """
    order = {seed: torch.randperm(samples, generator=random)[: steps * batch_size] for seed, random in orders.items()}
    order = {seed: index.view(steps, batch_size) for seed, index in order.items()}
    return per_lane(order, specs).to(device)


def clipped(gradients: tuple[Tensors, ...], norm: float) -> tuple[Tensors, ...]:
    """Every lane's gradient, brought to at most ``norm`` in length."""
    squares = total(value.reshape(len(value), -1).square().sum(1) for part in gradients for value in part.values())
    factor = (norm / squares.sqrt().clamp_min(1e-12)).clamp_max(1)
    return tuple({name: value * along(factor, value) for name, value in part.items()} for part in gradients)


def generator(seed: int, purpose: str) -> torch.Generator:
    """The seed's own stream of random numbers for one purpose, so that no use disturbs another."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7]))


def rewound(state: State) -> Iterator[tuple[str, Tensor]]:
    """What goes back when a network goes back to an earlier epoch: all that is trained, and buffers."""
    for part in ("weights", "others", "buffers"):
        for name, value in getattr(state, part).items():
            yield f"{part}/{name}", value


def clone(random: torch.Generator) -> torch.Generator:
    """A generator in the same state, which goes its own way from here."""
    return torch.Generator().set_state(random.get_state())
