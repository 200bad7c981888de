"""The shared trainer: one loop for every method. It knows tensors, not files.

A *group* of L >= 1 runs (lanes) of one method, model, data set and budget is trained at once. Every trainable tensor
has a leading lane axis, and so have learning rates, strengths and masks; lanes never mix, so a lane that turns into
NaN leaves its neighbours alone. With L = 1 the network is called directly, with L > 1 through ``torch.func.vmap``.

Reading order: ``train`` is the loop, ``make_step`` is one step of SGD.
"""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from dwfbench import models, schedule
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
    diverged. ``overhead_seconds`` is the time spent on scores and masks.
    """

    spec: RunSpec
    status: str = "ok"
    error: str | None = None
    state: Tensors = field(default_factory=dict)
    sparse: Tensors = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)
    overhead_seconds: float = 0.0


def generator(seed: int, purpose: str) -> torch.Generator:
    """The seed's own stream of random numbers for one purpose, so that no use disturbs another."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7]))


def train(
    specs: list[RunSpec],
    method: Method,
    data: Dataset,
    *,
    compile: bool = False,
    on_epoch: Callable[[int, list[Trained]], None] = lambda epoch, lanes: None,
) -> list[Trained]:
    """Train a group of runs that differ in seed, knob and learning rate only; one ``Trained`` a run, in order.

    ``data`` lies on the device to train on. ``on_epoch(epoch, lanes)`` is called after every epoch.
    Raises UsageError when the training part is smaller than a batch or the network has nothing to prune.
    """
    spec = specs[0]
    device = data.train.images.device
    lanes = [Trained(one) for one in specs]
    torch.manual_seed(spec.seed)  # for networks with randomness of their own, such as dropout
    networks = [models.build(spec.model, data.input_shape, data.classes, one.seed).to(device) for one in specs]
    network = networks[0]
    group = Group(specs, method, networks, data, lanes)
    step = make_step(network, method, group, spec, data)
    if compile:
        torch.compiler.reset()  # groups share the step's code, and eight variants of it are the compiler's limit
        step = torch.compile(step, fullgraph=True, dynamic=False)

    steps_per_epoch = steps_in_epoch(len(data.train.labels), spec.batch_size)
    phases = method.phases(spec.epochs)
    orders = {one.seed: generator(one.seed, "batches") for one in specs}
    base_rate = torch.tensor([one.lr for one in specs], device=device)

    epoch = 0
    for number, rate_factors in enumerate(schedule.factors(phases, steps_per_epoch, spec.warmup_epochs)):
        rates = torch.tensor(rate_factors, device=device)[:, None] * base_rate  # (steps of the phase, L)
        if number > 0:
            group.set_masks(number - 1, lanes)
        group.reset_velocity()
        for first in range(0, len(rates), steps_per_epoch):
            epoch += 1
            started = time.perf_counter()
            network.train()
            batches = shuffled(len(data.train.labels), spec.batch_size, steps_per_epoch, specs, orders, device)
            loss_sum = torch.zeros(len(specs), device=device)
            for index, rate in zip(batches, rates[first : first + steps_per_epoch], strict=True):
                loss_sum += step(data.train.images[index], data.train.labels[index], rate)
            group.record(epoch, loss_sum / steps_per_epoch, rates[first], data, lanes, started)
            on_epoch(epoch, lanes)
            if all(lane.status != "ok" for lane in lanes):
                return lanes
    group.finish(lanes)
    return lanes


def make_step(network: nn.Module, method: Method, group: "Group", spec: RunSpec, data: Dataset) -> Callable:
    """One step of SGD for all lanes: images (B, ...) or (L, B, ...), labels alike, rate (L,) -> losses (L,).

    It is one function without control flow on data, so that torch.compile can fuse factor products, their
    gradients, decay, momentum and masks.
    """
    device_type = data.train.images.device.type
    mixed = spec.precision == "bfloat16"
    momentum, strength = spec.momentum, group.strength

    def lane_loss(params: Tensors, buffers: Tensors, images: Tensor, labels: Tensor):
        buffers = {name: value.clone() for name, value in buffers.items()}  # BatchNorm writes into them
        with torch.autocast(device_type, torch.bfloat16, enabled=mixed):
            logits = functional_call(network, {**group.network_weights(params), **buffers}, (images,))
        return cross_entropy(logits.float(), labels), buffers

    def total_loss(params: Tensors, buffers: Tensors, images: Tensor, labels: Tensor):
        # The sum over lanes has every lane's own gradient, because no lane depends on another's tensors.
        if group.size == 1:
            loss, new = lane_loss(squeeze(params), squeeze(buffers), images, labels)
            return loss, (loss.detach()[None], {name: value[None] for name, value in new.items()})
        axis = 0 if labels.dim() == 2 else None  # batches differ between lanes only if their seeds do
        mapped = vmap(lane_loss, in_dims=(0, 0, axis, axis), randomness="different")
        losses, new = mapped(params, buffers, images, labels)
        return losses.sum(), (losses.detach(), new)

    def step(images: Tensor, labels: Tensor, rate: Tensor) -> Tensor:
        images = data.normalize(images)
        gradients, (losses, buffers) = grad(total_loss, has_aux=True)(group.params, group.buffers, images, labels)
        with torch.no_grad():
            scale = clip_factors(gradients, spec.clip_norm) if spec.clip_norm else None
            for name, value in group.params.items():
                gradient = gradients[name]
                if scale is not None:
                    gradient = gradient * along(scale, gradient)
                if name in group.trained_weights:
                    if method.decays:
                        gradient = gradient + spec.weight_decay * value
                    penalty = method.penalty_gradient(value, along(strength, value))
                    if penalty is not None:
                        gradient = gradient + penalty
                velocity = group.velocity[name].mul_(momentum).add_(gradient)
                update = gradient + momentum * velocity if spec.nesterov else velocity
                value.sub_(along(rate, value) * update)
                if name in group.trained_weights:
                    moved = method.project(value, along(strength, value), along(rate, value) / (1 - momentum))
                    if moved is not None:
                        value.copy_(moved)
                if name in group.masks:  # momentum too, or a pruned weight would come back
                    value.mul_(group.masks[name])
                    velocity.mul_(group.masks[name])
            for name, value in buffers.items():
                group.buffers[name].copy_(value)
        return losses

    return step


class Group:
    """The tensors of a group of lanes, each with a leading lane axis L, and what happens to them between steps.

    ``params`` are all trainable tensors by name: those that the method made of the prunable weights
    (``trained_weights``) and the other parameters, which are the network's own.
    """

    def __init__(
        self,
        specs: list[RunSpec],
        method: Method,
        networks: list[nn.Module],
        data: Dataset,
        lanes: list[Trained],
    ):
        self.method, self.network, self.size = method, networks[0], len(specs)
        device = data.train.images.device
        self.strength = torch.tensor([one.strength or 0.0 for one in specs], device=device)
        params, buffers, masks = [], [], []
        for spec, network, lane in zip(specs, networks, lanes, strict=True):
            random = generator(spec.seed, f"method:{method.name}")
            started = time.perf_counter()
            masks.append(method.initial_masks(self._start(spec, network, data, random)))
            lane.overhead_seconds += time.perf_counter() - started
            weights = {name: weight.detach() for name, weight in prunable(network).items()}
            if not weights:
                raise UsageError(f"The model {spec.model} has no Linear or Conv weight, so there is nothing to prune.")
            trained = method.reparametrize(weights, random)
            others = {name: value.detach() for name, value in network.named_parameters() if name not in weights}
            params.append({**trained, **others})
            buffers.append(dict(network.named_buffers()))
        self.weight_names, self.trained_weights = frozenset(weights), frozenset(trained)
        self.params = stack(params)
        self.buffers = stack(buffers)
        self.masks: Tensors = {}
        if masks[0] is not None:
            self._apply(masks)
        self.velocity = {name: torch.zeros_like(value) for name, value in self.params.items()}

    @staticmethod
    def _start(spec: RunSpec, network: nn.Module, data: Dataset, random: torch.Generator) -> Start:
        def batch(per_class: int) -> tuple[Tensor, Tensor]:
            return data.balanced_batch(per_class, generator(spec.seed, "scores"))

        return Start(network, data.input_shape, spec.compression, batch, random)

    def network_weights(self, params: Tensors) -> Tensors:
        """Parameters that the network is called with: the method's effective weights and the others."""
        own = {name: value for name, value in params.items() if name in self.trained_weights}
        others = {name: value for name, value in params.items() if name not in self.trained_weights}
        return {**others, **self.method.effective(own)}

    def state(self) -> Tensors:
        """State dict of all lanes, every tensor (L, ...)."""
        with torch.no_grad():
            weights = vmap(self.network_weights)(self.params)
        return {**weights, **self.buffers}

    def reset_velocity(self) -> None:
        """A phase starts like a fresh optimiser."""
        for value in self.velocity.values():
            value.zero_()

    def set_masks(self, phase: int, lanes: list[Trained]) -> None:
        """At a phase's end: let the method prune every lane."""
        started = time.perf_counter()
        state = self.state()
        masks = []
        for index, lane in enumerate(lanes):
            weights = {name: state[name][index] for name in self.weight_names}
            if lane.status == "ok":
                masks.append(self.method.masks_after(phase, weights, lane.spec.compression))
            else:  # there is nothing to choose from among the NaNs of a lane that ended
                masks.append({name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()})
        if all(mask is not None for mask in masks):
            self._apply(masks)
        for lane in lanes:
            lane.overhead_seconds += (time.perf_counter() - started) / self.size

    def _apply(self, masks: list[Tensors]) -> None:
        for name, mask in stack(masks).items():
            if name not in self.params:
                raise UsageError(f"{self.method.name} masks {name}, but trains no tensor of that name.")
            value = self.params[name]
            inner = [1] * (value.dim() - mask.dim())  # e.g. the factors' axis, when a method has factors and masks
            self.masks[name] = mask.view(self.size, *inner, *mask.shape[1:]).to(value.device, value.dtype)
            value.mul_(self.masks[name])

    def record(
        self, epoch: int, loss: Tensor, rate: Tensor, data: Dataset, lanes: list[Trained], started: float
    ) -> None:
        """History row of every live lane; a lane whose loss is not finite or whose weights all vanished ends here.

        All values of an epoch reach the host together, so the device is waited for once.
        """
        state = self.state()
        with torch.no_grad():
            nonzero = sum((state[name].abs() >= FLOAT32_EPSILON).flatten(1).sum(1) for name in self.weight_names)
            values = [value for value in state.values() if value.is_floating_point()]
            finite = torch.isfinite(loss) & torch.stack([v.isfinite().flatten(1).all(1) for v in values]).all(0)
            own = {name: self.params[name] for name in self.trained_weights}
            apart = self.method.misalignment(squeeze(own)) is not None
            distance = vmap(self.method.misalignment)(own) if apart else torch.full_like(loss, math.nan)
        numel = sum(state[name][0].numel() for name in self.weight_names)
        accuracy, _ = evaluate(self.network, state, data.val, data)
        columns = (loss, finite, nonzero, distance, rate)
        for lane, acc, row in zip(lanes, accuracy, zip(*(c.tolist() for c in columns), strict=True), strict=True):
            if lane.status != "ok":
                continue
            loss_value, is_finite, alive, misaligned, lr = row
            if not is_finite:
                what = "a weight" if math.isfinite(loss_value) else "the training loss"
                lane.status, lane.error = "diverged", f"{what} became infinite or NaN in epoch {epoch}"
            elif alive == 0:
                lane.status, lane.error = "diverged", f"all weights vanished by epoch {epoch}: the network is dead"
            lane.history.append(
                {
                    "epoch": epoch,
                    "train_loss": loss_value if math.isfinite(loss_value) else None,
                    "val_accuracy": acc,
                    "compression": numel / alive if alive else None,
                    "misalignment": misaligned if apart and math.isfinite(misaligned) else None,
                    "lr": lr,
                    "seconds": (time.perf_counter() - started) / self.size,
                }
            )

    def finish(self, lanes: list[Trained]) -> None:
        """Hand every live lane its state and its sparse weights."""
        state = self.state()
        for index, lane in enumerate(lanes):
            if lane.status == "ok":
                lane.state = {name: value[index].clone() for name, value in state.items()}
                weights = {name: lane.state[name] for name in prunable(self.network)}
                lane.sparse = self.method.sparsify(weights, lane.spec.compression)


@torch.no_grad()
def evaluate(
    network: nn.Module, state: Tensors, split: Split, data: Dataset
) -> tuple[list[float | None], list[float | None]]:
    """Accuracy and mean loss of every lane, in eval mode and float32: correct predictions / number of samples.

    ``state`` has a lane axis. An empty split gives None; so does a loss that is not finite.
    """
    lanes = len(next(iter(state.values())))
    samples = len(split.labels)
    if samples == 0:
        return [None] * lanes, [None] * lanes
    network.eval()

    def forward(one: Tensors, images: Tensor) -> Tensor:
        return functional_call(network, one, (images,)).float()

    correct = loss = 0
    chunk = max(1, EVALUATION_SAMPLES // lanes)
    for images, labels in zip(split.images.split(chunk), split.labels.split(chunk), strict=True):
        images = data.normalize(images)
        logits = (
            forward(squeeze(state), images)[None] if lanes == 1 else vmap(forward, in_dims=(0, None))(state, images)
        )
        correct = correct + (logits.argmax(-1) == labels).sum(1)
        every = labels.expand(lanes, -1)
        loss = loss + cross_entropy(logits.transpose(1, 2), every, reduction="none").double().sum(1)
    losses = (loss / samples).tolist()
    return [n / samples for n in correct.tolist()], [value if math.isfinite(value) else None for value in losses]


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
    if len(order) == 1:
        return order[specs[0].seed].to(device)
    return torch.stack([order[one.seed] for one in specs], dim=1).to(device)


def clip_factors(gradients: Tensors, norm: float) -> Tensor:
    """Factor (L,) that brings every lane's gradient to at most ``norm``."""
    squares = sum(gradient.flatten(1).square().sum(1) for gradient in gradients.values())
    return (norm / squares.sqrt().clamp_min(1e-12)).clamp_max(1)


def along(lane_values: Tensor, tensor: Tensor) -> Tensor:
    """(L,) shaped to broadcast against (L, ...)."""
    return lane_values.view(-1, *[1] * (tensor.dim() - 1))


def stack(lanes: list[Tensors]) -> Tensors:
    return {name: torch.stack([lane[name] for lane in lanes]) for name in lanes[0]}


def squeeze(tensors: Tensors) -> Tensors:
    """The tensors of the only lane."""
    return {name: value[0] for name, value in tensors.items()}
