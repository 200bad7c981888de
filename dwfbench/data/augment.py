"""Augmentation of training batches on their device: random crops, flips and rotations as pure functions.

`standard`: random crop after padding by an eighth of the side (4 of 32 pixels, 8 of 64), and a horizontal flip of
every second image. `paper`: the same, and a rotation by up to MAX_DEGREES.

The random numbers are drawn apart from their use: `draw` needs a CPU generator and no images, `apply` needs no
generator. Runs of one seed therefore see the same augmented images whatever the method, the lane or the device, and a
compiled training step holds nothing random.

Give `apply` the raw uint8 images and normalise its result: what comes in at the edges is then black, as in the usual
CIFAR pipeline (`RandomCrop(32, padding=4)` and `RandomHorizontalFlip()` before `ToTensor` and `Normalize`). Of images
already normalised, the edges are filled with zero, which is their mean.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from dwfbench.base.errors import UsageError
from dwfbench.runs.spec import AUGMENTATIONS

MAX_DEGREES = 15.0
"""Of the rotations. That the paper rotates, and by how much, could not be confirmed: this is our own choice."""

_NUMBERS = {"none": 0, "standard": 3, "paper": 4}  # an image: row, column, flip, angle


def draw(augmentation: str, batch: int, generator: torch.Generator, steps: int | None = None) -> Tensor:
    """Random numbers for a batch, or for all `steps` batches of an epoch at once.

    Returns float32 (batch, k) or (steps, batch, k) on the CPU, uniform in [0, 1), to be moved where `apply` needs
    them; k is 0, 3 or 4. Drawing an epoch at once or batch by batch gives the same numbers; `none` draws nothing and
    leaves the generator as it is. Raises UsageError for an unknown augmentation.
    """
    shape = (batch, _count(augmentation)) if steps is None else (steps, batch, _count(augmentation))
    return torch.rand(shape, generator=generator)


def apply(augmentation: str, images: Tensor, numbers: Tensor) -> Tensor:
    """`images` (..., B, C, H, W), uint8 or float, augmented by `numbers` (..., B, k) from `draw`, on one device.

    Returns the images' shape and dtype; the leading axes (lanes) may be any. Raises UsageError for an unknown
    augmentation and for numbers drawn for another.
    """
    if numbers.shape[-1] != _count(augmentation):
        raise UsageError(f"the numbers were not drawn for the augmentation '{augmentation}'; draw them anew")
    if augmentation == "none":
        return images
    flat, row = images.reshape(-1, *images.shape[-3:]), numbers.reshape(-1, numbers.shape[-1])
    flat = crop(flat, shift(row[:, 0], images.shape[-2]), shift(row[:, 1], images.shape[-1]), row[:, 2] < 0.5)
    if augmentation == "paper":
        flat = rotate(flat, (2 * row[:, 3] - 1) * MAX_DEGREES)
    return flat.reshape(images.shape)


def shift(uniform: Tensor, side: int) -> Tensor:
    """Numbers in [0, 1) -> whole numbers from -side // 8 to side // 8, all equally likely; int64, same shape."""
    padding = side // 8
    return (uniform * (2 * padding + 1)).long().clamp(max=2 * padding) - padding


def crop(images: Tensor, down: Tensor, right: Tensor, flip: Tensor) -> Tensor:
    """Images (N, C, H, W) seen through a window moved `down` and `right` by whole pixels (N,), then mirrored.

    What lies outside is 0. Moved by at most an eighth of the side; `flip` is bool (N,). Every pixel is copied, so the
    result is exact in any dtype.
    """
    number, channels, height, width = images.shape
    device = images.device
    above, left = height // 8, width // 8
    padded = F.pad(images, (left, left, above, above))
    columns = torch.arange(width, device=device).expand(number, width)
    columns = torch.where(flip[:, None], columns.flip(1), columns) + (right + left)[:, None]
    rows = torch.arange(height, device=device) + (down + above)[:, None]
    image = torch.arange(number, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[:, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Images (N, C, H, W) turned counter-clockwise about their centres by float `degrees` (N,), bilinearly.

    What comes in at the corners is 0. uint8 images are rounded to the nearest value.
    """
    height, width = images.shape[-2:]
    values = images.to(torch.promote_types(images.dtype, torch.float32))
    angle = degrees.to(values.dtype)[:, None, None] * (math.pi / 180)
    # Where each pixel comes from, in grid_sample's coordinates, which run from -1 to 1 along both sides. Written out,
    # because affine_grid is a matrix product, which the reduced precisions of matrix products would reach.
    x = (2 * torch.arange(width, device=images.device) + 1 - width)[None, None, :] / width
    y = (2 * torch.arange(height, device=images.device) + 1 - height)[None, :, None] / height
    cos, sin = angle.cos(), angle.sin()
    grid = torch.stack([cos * x - sin * y * (height / width), sin * x * (width / height) + cos * y], dim=-1)
    turned = F.grid_sample(values, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return (turned if images.is_floating_point() else turned.round()).to(images.dtype)


def _count(augmentation: str) -> int:
    if augmentation not in _NUMBERS:
        raise UsageError(f"unknown augmentation '{augmentation}'; choose one of {', '.join(AUGMENTATIONS)}")
    return _NUMBERS[augmentation]
