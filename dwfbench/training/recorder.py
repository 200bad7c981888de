"""The history of runs while they train: losses, accuracies, sizes, time; and which runs ended in nothing."""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dwfbench.data.dataset import Dataset
from dwfbench.dwf.parametrization import Parametrization, parts_by_weight
from dwfbench.methods.contract import Method, Tensors
from dwfbench.models.prunable import running_statistics
from dwfbench.sparsity.count import SIZES, count_sizes
from dwfbench.training.evaluate import evaluate
from dwfbench.training.group import Group
from dwfbench.training.lanes import lane_tensors


@torch.no_grad()
def record_epoch(
    group: Group,
    weights: Tensors,
    rate: Tensor,
    parametrization: Parametrization,
    *,
    network: nn.Module,
    method: Method,
    data: Dataset,
) -> None:
    """A row of the history for every live lane; a lane whose loss is not finite or whose weights all vanished ends.

    ``weights`` are the effective ones (L, ...), ``rate`` (L,) the learning rates at the beginning of the epoch. All
    values reach the host together, so the device is waited for once.
    """
    everything = {**weights, **group.state.others, **group.state.buffers}
    loss = torch.as_tensor(group.loss_sum / group.steps)
    group.loss_sum, group.steps = 0.0, 0
    moved = weights.keys() | group.state.others.keys() | running_statistics(network)
    finite = torch.isfinite(loss) & all_finite({name: everything[name] for name in moved if name in everything})
    norms, distances = [], []
    for index in range(len(group.lanes)):
        norms.append(method.norm(lane_tensors(weights, index)))
        parts = parts_by_weight(parametrization, lane_tensors(group.state.weights, index))
        distances.append(added([parametrization.misalignment(tensors) for tensors in parts.values()]))
    columns = (loss, finite, count_sizes(weights.values()), numbers(norms, loss), numbers(distances, loss), rate)
    accuracy = evaluate(network, everything, data.val, data).accuracy
    rows = zip(*(column.tolist() for column in columns), strict=True)

    seconds = (time.perf_counter() - group.since) / len(group.lanes)
    group.since = time.perf_counter()
    numel = sum(weight[0].numel() for weight in weights.values())
    for lane, correct, (loss_value, is_finite, counts, norm, distance, lr) in zip(
        group.lanes, accuracy, rows, strict=True
    ):
        if lane.status != "ok":
            continue
        lane.seconds += seconds
        alive = numel - counts[0]
        if not is_finite:
            culprit = "a weight" if math.isfinite(loss_value) else "the training loss"
            lane.status, lane.error = "diverged", f"{culprit} became infinite or NaN in epoch {group.epoch}"
        elif alive == 0:
            lane.status, lane.error = "diverged", f"all weights vanished by epoch {group.epoch}: the network is dead"
        lane.history.append(
            {
                "epoch": group.epoch,
                "train_loss": number(loss_value),
                "val_accuracy": correct,
                "compression": numel / alive if alive else None,
                "misalignment": number(distance),
                "norm": number(norm),
                "lr": lr,
                "seconds": seconds,
                "sizes": dict(zip(SIZES, counts, strict=True)),
            }
        )


def all_finite(tensors: Tensors) -> Tensor:
    """Whether all floating-point numbers of each lane are finite: (L,)."""
    checks = [value.isfinite() for value in tensors.values() if value.is_floating_point()]
    return torch.stack([part.reshape(len(part), -1).all(1) for part in checks]).all(0)


def added(parts: list[Tensor | None]) -> Tensor | None:
    """The sum of the scalars; None if there is none."""
    present = [part for part in parts if part is not None]
    return torch.stack(present).sum() if present else None


def numbers(lanes: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """The lanes' scalars, (L,), NaN for None."""
    return torch.stack([torch.full_like(like[0], math.nan) if value is None else value.to(like) for value in lanes])


def number(value: float) -> Any:
    """The number, or None where it is not finite."""
    return value if math.isfinite(value) else None
