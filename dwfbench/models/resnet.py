"""Residual networks of basic blocks for small images, after He, Zhang, Ren and Sun, CVPR 2016."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from dwfbench.models.initialization import init_kaiming


def resnet18(input_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """ResNet-18 for small images: four stages of two blocks, 64 to 512 wide, projection shortcuts (option B).

    Maps images (N, C, H, W) of the `input_shape` (C, H, W) to logits (N, classes). The stem for 224 pixels (7x7
    with stride 2, max-pooling) gives way to one 3x3 convolution with stride 1, at 32 pixels and, as in SynFlow's
    repository, at 64 alike: Tiny ImageNet trains the same network on four times as many positions (GraSP's
    ResNet-32 keeps its stem too). 11,164,352 prunable weights for 3 channels and 10 classes.
    """
    return _resnet(input_shape[0], classes, (64, 128, 256, 512), 2, _projection)


def resnet20(input_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """ResNet-20 of section 4.2: three stages of three blocks, 16, 32 and 64 wide, shortcuts without weights.

    Maps images (N, C, H, W) of the `input_shape` (C, H, W) to logits (N, classes). As in the paper the shortcuts
    are option A; OpenLTH, SynFlow and GraSP project instead (option B), which adds 2,560 weights. 268,336
    prunable weights for 3 channels and 10 classes.
    """
    return _resnet(input_shape[0], classes, (16, 32, 64), 3, Subsampled)


class Block(nn.Module):
    """Two 3x3 convolutions from `inputs` to `outputs` channels, the first with `stride`, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Callable[[int, int, int], nn.Module]):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        same_shape = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same_shape else shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class Subsampled(nn.Module):
    """Option A: every `stride`-th pixel of the input, and zeros for the channels that it lacks."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride, self.missing = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Option B: a 1x1 convolution and batch normalisation."""
    conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs)))


def _resnet(
    channels: int, classes: int, widths: Sequence[int], blocks: int, shortcut: Callable[[int, int, int], nn.Module]
) -> nn.Sequential:
    """Stem, `blocks` blocks at each of the `widths`, global average pooling and one linear layer."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=nn.Conv2d(channels, widths[0], 3, padding=1, bias=False))
    layers["bn1"], layers["relu"] = nn.BatchNorm2d(widths[0]), nn.ReLU()
    inputs = widths[0]
    for stage, outputs in enumerate(widths, 1):
        for n in range(1, blocks + 1):
            stride = 2 if stage > 1 and n == 1 else 1
            layers[f"block{stage}_{n}"] = Block(inputs, outputs, stride, shortcut)
            inputs = outputs
    layers["pool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers["fc"] = nn.Linear(inputs, classes)
    model = nn.Sequential(layers)
    init_kaiming(model)
    return model
