"""VGG for small images: 3x3 convolutions with batch normalisation, average pooling and one linear layer."""

from collections import OrderedDict

from torch import nn

from dwfbench.base.errors import UsageError
from dwfbench.models.initialization import init_kaiming

WIDTHS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # in each block; configurations D and E of the paper


def vgg(
    input_shape: tuple[int, int, int], classes: int, depth: int, hidden: int | None = None, narrower: int = 1
) -> nn.Sequential:
    """VGG-16 or VGG-19 (`depth`) from images (N, C, H, W) of the `input_shape` (C, H, W) to logits (N, classes).

    The five convolution blocks of Simonyan and Zisserman, ICLR 2015, in the form that pruning papers mean on
    CIFAR (as in the repositories of OpenLTH and SynFlow): batch normalisation before every ReLU, 2x2 max-pooling
    after each of the first four blocks, the average over the positions left after the fifth (2x2 of 32 pixels,
    4x4 of 64), one linear layer. 14,715,584 and 20,024,000 prunable weights for 3 channels and 10 classes.
    Layers that batch normalisation follows have no bias, which it would cancel (Ioffe and Szegedy 2015, section
    3.2), as in Network Slimming's repository; OpenLTH keeps it: 4,224 more parameters in VGG-16, none of them
    prunable. `hidden` adds a normalised layer of that many units before the last (Zagoruyko 2015, without the
    dropout as in Li et al., ICLR 2017; there 512), and all blocks are `narrower` so many times. Raises UsageError
    for a side below 16.
    """
    channels, height, width = input_shape
    if min(height, width) < 16:
        raise UsageError(f"vgg-{depth} needs images of at least 16x16 pixels, not {height}x{width}; use resnet-20")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    widths = (width // narrower for width in WIDTHS)
    for block, (outputs, convolutions) in enumerate(zip(widths, CONVOLUTIONS[depth], strict=True), 1):
        for n in range(1, convolutions + 1):
            layers[f"conv{block}_{n}"] = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
            layers[f"bn{block}_{n}"] = nn.BatchNorm2d(outputs)
            layers[f"relu{block}_{n}"] = nn.ReLU()
            channels = outputs
        layers[f"pool{block}"] = nn.MaxPool2d(2) if block < len(WIDTHS) else nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    if hidden is not None:
        layers["fc1"] = nn.Linear(channels, hidden, bias=False)
        layers["bn_fc1"] = nn.BatchNorm1d(hidden)
        layers["relu_fc1"] = nn.ReLU()
        channels = hidden
    layers["fc" if hidden is None else "fc2"] = nn.Linear(channels, classes)
    model = nn.Sequential(layers)
    init_kaiming(model)
    return model
