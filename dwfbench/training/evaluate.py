"""Accuracy and loss of networks on a part of a data set: correct predictions / number of samples.

Or the loss and the score that the data set brings, see ``data.task``.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.functional import cross_entropy

from dwfbench.data.dataset import Dataset, Split
from dwfbench.data.task import Task
from dwfbench.dwf.factors import total
from dwfbench.models.functional import caller
from dwfbench.training.lanes import lane_tensors

EVALUATION_SAMPLES = 2000
"""Samples a forward pass of an evaluation takes in; bounds its memory, not its result."""


class Evaluation(NamedTuple):
    """Of every lane: accuracy (correct predictions / number of samples), mean loss, and top-5 accuracy.

    None where there are no samples, for a loss that is not finite, and for a top-5 accuracy of ten classes or fewer.
    """

    accuracy: list[float | None]
    loss: list[float | None]
    top5: list[float | None]


@torch.no_grad()
def evaluate(network: nn.Module, state: dict[str, Tensor], split: Split, data: Dataset) -> Evaluation:
    """The lanes of ``state`` on all of ``split``, in eval mode and float32."""
    lanes = len(next(iter(state.values())))
    samples = len(split)
    if samples == 0:
        return Evaluation([None] * lanes, [None] * lanes, [None] * lanes)
    network.eval()
    one_by_one = lanes == 1 or any(isinstance(module, nn.RNNBase) for module in network.modules())  # vmap cannot

    call = caller(network)

    def forward(tensors: dict[str, Tensor], images: Tensor) -> Tensor:
        return call(tensors, images).float()

    def outputs(images: Tensor) -> Tensor:
        """Those of all lanes, (L, N, outputs)."""
        images = data.normalize(images)
        if one_by_one:
            return torch.stack([forward(lane_tensors(state, lane), images.clone()) for lane in range(lanes)])
        return vmap(forward, in_dims=(0, None))(state, images)

    chunk = max(1, EVALUATION_SAMPLES // lanes)
    if data.task.score is not None:
        return scored(torch.cat([outputs(part) for part in split.images.split(chunk)], 1), split.labels, data.task)
    places = 5 if data.classes > 10 else 1
    hits, losses = [], []
    for images, labels in zip(split.images.split(chunk), split.labels.split(chunk), strict=True):
        logits = outputs(images)
        best = logits.argmax(-1, keepdim=True) if places == 1 else logits.topk(places, -1).indices
        hits.append((best == labels[:, None]).sum(1))  # (L, places)
        every = labels.expand(lanes, -1)
        losses.append(cross_entropy(logits.transpose(1, 2), every, reduction="none").double().sum(1))
    means, counts = (total(losses) / samples).tolist(), total(hits).tolist()
    return Evaluation(
        [count[0] / samples for count in counts],
        [value if math.isfinite(value) else None for value in means],
        [sum(count) / samples if places > 1 else None for count in counts],
    )


def scored(outputs: Tensor, targets: Tensor, task: Task) -> Evaluation:
    """Every lane's outputs, (L, N, outputs), by the data set's own loss and score."""
    losses = [float(task.loss(lane, targets)) for lane in outputs]
    return Evaluation(
        [task.judge(lane, targets) for lane in outputs],
        [loss if math.isfinite(loss) else None for loss in losses],
        [None] * len(outputs),
    )
