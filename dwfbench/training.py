"""The shared trainer: one loop for every method. It knows tensors, not files.

A *group* of L >= 1 runs (lanes) of one method, model, data set and budget is trained at once. Every tensor of its
state has a leading lane axis, and so have learning rates, strengths and masks; lanes never mix, so a lane that turns
into NaN leaves its neighbours alone. With L = 1 the network is called directly, with L > 1 through
``torch.func.vmap``.

Reading order: ``Trainer.train`` is a curve's work, ``Trainer.advance`` the loop over epochs, ``make_step`` one step
of SGD.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from dwfbench import augmentation, compiler, models, schedule
from dwfbench.data import Dataset, Split
from dwfbench.errors import UsageError
from dwfbench.factorization import FLOAT32_EPSILON
from dwfbench.method import Method, Start
from dwfbench.sparsity import prunable
from dwfbench.spec import RunSpec

EVALUATION_SAMPLES = 2000
"""Samples a forward pass of an evaluation takes in; bounds its memory, not its result."""

Tensors = dict[str, Tensor]


@dataclass
class Trained:
    """What training one lane gave.

    ``state`` is the network's state dict after the last step, weights already effective (products of factors);
    ``sparse`` holds the same weights after the method's final sparsification. Both are empty for a lane that
    diverged. ``overhead_seconds`` is the time spent on scores and masks. ``seconds``, which includes it, is what the
    run took: its share of a group's time, and in full what it has in common with other runs (``Method.shared_epochs``).
    ``lanes`` is the size of its group.
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


@dataclass
class Group:
    """Lanes in training: their runs, their tensors, and where they stand.

    ``orders`` and ``views`` are the generators of batches and of their augmentation by seed, ``epoch`` counts whole
    epochs, ``loss_sum`` (L,) adds up over the ``steps`` since the last row of the history, of the time ``since``.
    """

    lanes: list[Trained]
    state: State
    orders: dict[int, torch.Generator]
    views: dict[int, torch.Generator]
    epoch: int = 0
    loss_sum: Tensor | float = 0.0
    steps: int = 0
    since: float = field(default_factory=time.perf_counter)

    @property
    def specs(self) -> list[RunSpec]:
        return [lane.spec for lane in self.lanes]


class Epoch(NamedTuple):
    """One epoch of the schedule: multiples of the learning rate, one a step, and the phase that begins with it."""

    rates: list[float]
    begins: int | None


class Trainer:
    """Trains the runs of one curve, which differ in seed, knob and learning rate only, in groups of any size.

    The step is made, and with ``compile`` compiled, once. ``data`` lies on the device to train on. The history has a
    row every ``eval_every`` epochs and one for the last.
    Raises UsageError when the training part is smaller than a batch or the network has nothing to prune.
    """

    def __init__(self, spec: RunSpec, method: Method, data: Dataset, *, compile: bool = False, eval_every: int = 1):
        self.spec, self.method, self.data, self.eval_every = spec, method, data, eval_every
        self.device = data.train.images.device
        self.network = self.build(spec.seed)
        if not prunable(self.network):
            raise UsageError(f"The model {spec.model} has no Linear or Conv weight, so there is nothing to prune.")
        self.step = make_step(self.network, method, spec, data)
        if compile:
            self.step = compiler.compiled(self.step, self.device)
        self.scores: dict[int, tuple[Tensors | None, float]] = {}  # by seed, with the seconds that they took
        steps = steps_in_epoch(len(data.train), spec.batch_size)
        phases = schedule.factors(method.phases(spec.epochs), steps, spec.warmup_epochs, spec.drops)
        self.epochs = [
            Epoch(rates[first : first + steps], number if first == 0 else None)
            for number, rates in enumerate(phases)
            for first in range(0, len(rates), steps)
        ]

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
                group = self.start(chunk)
                self.advance(group, len(self.epochs), on_epoch)
                yield from self.finish(group)
            return
        families: dict[str, list[RunSpec]] = {}
        for one in specs:
            families.setdefault(replace(one, strength=None, compression=None).id, []).append(one)
        for members in chunks(list(families.values()), lanes):
            trunk = self.start([family[0] for family in members])
            runs = [(index, one) for index, family in enumerate(members) for one in family]
            self.advance(trunk, shared, lambda seen, epochs, runs=runs: on_epoch(seen[:1] * len(runs), epochs))
            for chunk in chunks(runs, lanes):
                group = self.branch(trunk, chunk)
                self.advance(group, len(self.epochs), on_epoch)
                yield from self.finish(group)

    def start(self, specs: list[RunSpec]) -> Group:
        """A group before its first step: initial networks, scores and masks, the method's own tensors."""
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
        strength = torch.tensor([one.strength or 0.0 for one in specs], device=self.device)
        state = State(trained, rest, stack(buffers), velocity, {}, strength)
        orders, views = ({one.seed: generator(one.seed, use) for one in specs} for use in ("batches", "augmentation"))
        group = Group(lanes, state, orders, views)
        if masks[0] is not None:
            self.apply(masks, group)
        return group

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
        torch.manual_seed(runs[0][1].seed)
        index = torch.tensor([lane for lane, _ in runs], device=self.device)
        parts = [{name: value[index] for name, value in part.items()} for part in trunk.state[:-1]]
        strength = torch.tensor([one.strength or 0.0 for _, one in runs], device=self.device)
        lanes = [
            replace(trunk.lanes[lane], spec=one, history=list(trunk.lanes[lane].history), lanes=len(runs))
            for lane, one in runs
        ]
        orders, views = ({one.seed: clone(of[one.seed]) for _, one in runs} for of in (trunk.orders, trunk.views))
        return Group(lanes, State(*parts, strength), orders, views, trunk.epoch)

    def advance(self, group: Group, until: int, on_epoch: Callable[[list[Trained], int], None]) -> None:
        """Train a group up to the end of epoch ``until``, or until none of its lanes is alive."""
        base_rate = torch.tensor([one.lr for one in group.specs], device=self.device)
        images, labels = self.data.train.images, self.data.train.labels
        seen = group.epoch
        while group.epoch < until and any(lane.status == "ok" for lane in group.lanes):
            epoch = self.epochs[group.epoch]
            if epoch.begins:
                self.prune(group, epoch.begins - 1)
                for velocity in group.state.velocity.values():
                    velocity.zero_()  # a phase starts like a fresh optimiser
            rates = torch.tensor(epoch.rates, device=self.device)[:, None] * base_rate  # (steps, L)
            batches = shuffled(len(labels), self.spec.batch_size, len(rates), group.specs, group.orders, self.device)
            views = self.augmentations(group, len(rates))
            self.network.train()
            for index, view, rate in zip(batches, views, rates, strict=True):
                group.loss_sum = group.loss_sum + self.step(group.state, images, labels, index, view, rate)
            group.steps += len(rates)
            group.epoch += 1
            if group.epoch % self.eval_every == 0 or group.epoch in (until, len(self.epochs)):
                self.record(group, rates[0])
                on_epoch(group.lanes, group.epoch - seen)
                seen = group.epoch

    def augmentations(self, group: Group, steps: int) -> Tensor:
        """Random numbers of an epoch's augmentation, (steps, B, k) or (steps, L, B, k) as ``shuffled``."""
        size, kind = self.spec.batch_size, self.spec.augment
        drawn = {seed: augmentation.draw(kind, size, random, steps) for seed, random in group.views.items()}
        return per_lane(drawn, group.specs).to(self.device)

    def prune(self, group: Group, phase: int) -> None:
        """At a phase's end: let the method prune every lane."""
        started = time.perf_counter()
        weights = self.effective(group.state)
        masks = []
        for index, lane in enumerate(group.lanes):
            own = {name: value[index] for name, value in weights.items()}
            if lane.status == "ok":
                masks.append(self.method.masks_after(phase, own, lane.spec.compression))
            else:  # there is nothing to choose from among the NaNs of a lane that ended
                masks.append({name: torch.ones_like(weight, dtype=torch.bool) for name, weight in own.items()})
        if all(mask is not None for mask in masks):
            self.apply(masks, group)
        for lane in group.lanes:
            lane.overhead_seconds += (time.perf_counter() - started) / len(group.lanes)

    def apply(self, masks: list[Tensors], group: Group) -> None:
        """Put every lane under its masks; steps keep it there."""
        for name, mask in stack([dict(lane) for lane in masks]).items():
            weight = group.state.weights.get(name)
            if weight is None or weight.shape != mask.shape:
                raise UsageError(f"{self.method.name} masks {name}, but trains no tensor of that name and shape.")
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
        loss = group.loss_sum / group.steps
        group.loss_sum, group.steps = 0.0, 0
        weights = self.effective(group.state)
        everything = {**weights, **group.state.others, **group.state.buffers}
        with torch.no_grad():
            nonzero = sum((weight.abs() >= FLOAT32_EPSILON).flatten(1).sum(1) for weight in weights.values())
            values = [value for value in everything.values() if value.is_floating_point()]
            finite = torch.isfinite(loss) & torch.stack([v.isfinite().flatten(1).all(1) for v in values]).all(0)
            apart = type(self.method).misalignment is not Method.misalignment
            distance = vmap(self.method.misalignment)(group.state.weights) if apart else torch.full_like(loss, math.nan)
        numel = sum(weight[0].numel() for weight in weights.values())
        accuracy = evaluate(self.network, everything, self.data.val, self.data).accuracy
        columns = (loss, finite, nonzero, distance, rate)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        seconds = (time.perf_counter() - group.since) / len(group.lanes)
        group.since = time.perf_counter()
        for lane, acc, row in zip(group.lanes, accuracy, rows, strict=True):
            if lane.status != "ok":
                continue
            lane.seconds += seconds
            loss_value, is_finite, alive, misaligned, lr = row
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
                    "misalignment": misaligned if apart and math.isfinite(misaligned) else None,
                    "lr": lr,
                    "seconds": seconds,
                }
            )

    def finish(self, group: Group) -> list[Trained]:
        """The lanes, the live ones with their state and their sparse weights."""
        weights = self.effective(group.state)
        everything = {**weights, **group.state.others, **group.state.buffers}
        for index, lane in enumerate(group.lanes):
            if lane.status == "ok":
                lane.state = {name: value[index].clone() for name, value in everything.items()}
                own = {name: lane.state[name] for name in weights}
                lane.sparse = self.method.sparsify(own, lane.spec.compression)
        return group.lanes


def make_step(network: nn.Module, method: Method, spec: RunSpec, data: Dataset) -> Callable:
    """One step of SGD for all lanes of a group, in place on its ``State``; returns the losses (L,).

    It takes the state, all images (N, C, H, W) and labels (N,), the batch's index (B,) and the random numbers of its
    augmentation (B, k), or (L, B) and (L, B, k) where the seeds of lanes differ, and the learning rates (L,). It is one
    function without control flow on data, so that torch.compile can fuse factor products, their gradients, decay,
    momentum and masks.
    """
    device_type = data.train.images.device.type
    mixed = spec.precision == "bfloat16"

    def lane_loss(weights: Tensors, others: Tensors, buffers: Tensors, images: Tensor, labels: Tensor):
        buffers = {name: value.clone() for name, value in buffers.items()}  # BatchNorm writes into them
        with torch.autocast(device_type, torch.bfloat16, enabled=mixed):
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

    def descend(value: Tensor, gradient: Tensor, velocity: Tensor | None, rate: Tensor) -> None:
        direction = gradient
        if velocity is not None:
            velocity.mul_(spec.momentum).add_(gradient)
            direction = gradient + spec.momentum * velocity if spec.nesterov else velocity
        value.sub_(along(rate, value) * direction)

    def step(state: State, images: Tensor, labels: Tensor, index: Tensor, view: Tensor, rate: Tensor) -> Tensor:
        batch = data.normalize(augmentation.apply(spec.augment, images[index], view))
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


class Evaluation(NamedTuple):
    """Of every lane: accuracy (correct predictions / number of samples), mean loss, and top-5 accuracy.

    None where there are no samples, for a loss that is not finite, and for a top-5 accuracy of ten classes or fewer.
    """

    accuracy: list[float | None]
    loss: list[float | None]
    top5: list[float | None]


@torch.no_grad()
def evaluate(network: nn.Module, state: Tensors, split: Split, data: Dataset) -> Evaluation:
    """The lanes of ``state`` on all of ``split``, in eval mode and float32."""
    lanes = len(next(iter(state.values())))
    samples = len(split)
    if samples == 0:
        return Evaluation([None] * lanes, [None] * lanes, [None] * lanes)
    network.eval()

    def forward(one: Tensors, images: Tensor) -> Tensor:
        return functional_call(network, one, (images,)).float()

    places = 5 if data.classes > 10 else 1
    hits, loss = 0, 0
    chunk = max(1, EVALUATION_SAMPLES // lanes)
    for images, labels in zip(split.images.split(chunk), split.labels.split(chunk), strict=True):
        images = data.normalize(images)
        logits = (
            forward(squeeze(state), images)[None] if lanes == 1 else vmap(forward, in_dims=(0, None))(state, images)
        )
        best = logits.argmax(-1, keepdim=True) if places == 1 else logits.topk(places, -1).indices
        hits = hits + (best == labels[:, None]).sum(1)  # (L, places)
        every = labels.expand(lanes, -1)
        loss = loss + cross_entropy(logits.transpose(1, 2), every, reduction="none").double().sum(1)
    losses, counts = (loss / samples).tolist(), hits.tolist()
    return Evaluation(
        [count[0] / samples for count in counts],
        [value if math.isfinite(value) else None for value in losses],
        [sum(count) / samples if places > 1 else None for count in counts],
    )


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


def per_lane(by_seed: Tensors, specs: list[RunSpec]) -> Tensor:
    """What each seed has for the steps, (steps, ...): as it is if all lanes have one seed, else (steps, L, ...)."""
    if len(by_seed) == 1:
        return by_seed[specs[0].seed]
    return torch.stack([by_seed[one.seed] for one in specs], dim=1)


def clipped(gradients: tuple[Tensors, ...], norm: float) -> tuple[Tensors, ...]:
    """Every lane's gradient, brought to at most ``norm`` in length."""
    squares = sum(gradient.flatten(1).square().sum(1) for part in gradients for gradient in part.values())
    factor = (norm / squares.sqrt().clamp_min(1e-12)).clamp_max(1)
    return tuple({name: value * along(factor, value) for name, value in part.items()} for part in gradients)


def along(lane_values: Tensor, tensor: Tensor) -> Tensor:
    """(L,) shaped to broadcast against (L, ...)."""
    return lane_values.view(-1, *[1] * (tensor.dim() - 1))


def stack(lanes: list[Tensors]) -> Tensors:
    """All lanes' tensors under one name each, (L, ...); taken out of the lanes, so that no tensor is kept twice."""
    return {name: torch.stack([lane.pop(name) for lane in lanes]) for name in list(lanes[0])}


def squeeze(tensors: Tensors) -> Tensors:
    """The tensors of the only lane."""
    return {name: value.squeeze(0) for name, value in tensors.items()}


def chunks(items: list, size: int) -> list[list]:
    return [items[first : first + size] for first in range(0, len(items), size)]


def generator(seed: int, purpose: str) -> torch.Generator:
    """The seed's own stream of random numbers for one purpose, so that no use disturbs another."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7]))


def clone(random: torch.Generator) -> torch.Generator:
    """A generator in the same state, which goes its own way from here."""
    return torch.Generator().set_state(random.get_state())
