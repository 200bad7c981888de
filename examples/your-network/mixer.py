"""A small MLP-Mixer for image folders (Tolstikhin et al., NeurIPS 2021): patches of 4 pixels, two blocks."""

from torch import Tensor, nn


class Block(nn.Module):
    """An MLP over the patches of each channel, then one over the channels of each patch, both beside a shortcut."""

    def __init__(self, patches: int, width: int):
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.across = nn.Sequential(nn.Linear(patches, 2 * patches), nn.GELU(), nn.Linear(2 * patches, patches))
        self.within = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(self.before(x).transpose(1, 2)).transpose(1, 2)
        return x + self.within(self.between(x))


class Mixer(nn.Module):
    """Maps images (N, C, H, W), sides multiples of 4, to logits (N, classes)."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, width: int = 64, depth: int = 2):
        super().__init__()
        channels, height, breadth = input_shape
        self.patches = nn.Conv2d(channels, width, 4, stride=4)
        self.blocks = nn.Sequential(*(Block(height * breadth // 16, width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(1))
