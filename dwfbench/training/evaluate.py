"""Accuracy and loss of networks on a part of a data set: correct predictions / number of samples."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy

from dwfbench.data.dataset import Dataset, Split
from dwfbench.dwf.factors import total
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

    def forward(one: dict[str, Tensor], images: Tensor) -> Tensor:
        return functional_call(network, one, (images,)).float()

    places = 5 if data.classes > 10 else 1
    hits, losses = [], []
    chunk = max(1, EVALUATION_SAMPLES // lanes)
    for images, labels in zip(split.images.split(chunk), split.labels.split(chunk), strict=True):
        images = data.normalize(images)
        if one_by_one:
            logits = torch.stack([forward(lane_tensors(state, lane), images.clone()) for lane in range(lanes)])
        else:
            logits = vmap(forward, in_dims=(0, None))(state, images)
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
