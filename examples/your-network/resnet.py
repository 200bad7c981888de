"""torchvision's ResNet-18 for small images: a quarter as wide (16 to 128 channels), its stem one 3x3 convolution."""

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


class Narrow(ResNet):
    """Maps images (N, C, H, W) to logits (N, classes)."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, width: int = 16):
        super().__init__(BasicBlock, [1, 1, 1, 1], num_classes=classes)
        self.inplanes = width
        self.conv1 = nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False)
        self.bn1, self.maxpool = nn.BatchNorm2d(width), nn.Identity()
        for number, stride in enumerate((1, 2, 2, 2)):
            setattr(self, f"layer{number + 1}", self._make_layer(BasicBlock, width << number, 2, stride))
        self.fc = nn.Linear(8 * width, classes)
