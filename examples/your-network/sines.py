"""Sequences that are not images: a noisy sine of 64 steps, and how fast it swings. A data set and a network for it.

dwfbench run --dataset sines.py:sines --model sines.py:Convolutions --optimizer adam --lr 3e-3 --compression 10
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from dwfbench.data import Places, Tensors

STEPS, NOISE = 64, 0.5


def sines(places: Places) -> Tensors:
    """Noisy sines of random phase, 1x64; the target is the frequency, from 2 to 8 periods a sequence.

    Source: drawn by this function.
    """
    random = np.random.default_rng(0)

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        frequency, phase = random.uniform(2, 8, (count, 1)), random.uniform(0, 1, (count, 1))
        clean = np.sin(2 * np.pi * (frequency * np.arange(STEPS) / STEPS + phase))
        return (clean + NOISE * random.standard_normal(clean.shape))[:, None], frequency[:, 0]

    return Tensors(*part(2000), *part(1000), outputs=1)


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean square error of the frequency."""
    return mse_loss(outputs[:, 0], targets)


def r2(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of the variance that is explained: 1 at best, 0 for the mean of the targets."""
    return 1 - loss(outputs, targets) / targets.var(correction=0)


sines.loss, sines.score = loss, r2


class Convolutions(nn.Sequential):
    """Three 1-D convolutions and a hidden layer: (N, 1, 64) to (N, outputs)."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int):
        channels, steps = input_shape
        super().__init__(
            *(nn.Conv1d(channels, 32, 7, stride=2, padding=3), nn.ReLU()),
            *(nn.Conv1d(32, 64, 5, stride=2, padding=2), nn.ReLU()),
            *(nn.Conv1d(64, 64, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(8 * steps, 128), nn.ReLU(), nn.Linear(128, outputs)),
        )
        with torch.no_grad():
            self[-1].bias.fill_(5.0)  # the middle of the range: the rest is learned
