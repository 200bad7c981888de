"""The LeNets of the pruning literature, initialised as in He et al. 2015 with zero biases."""

from torch import Tensor, nn
from torch.nn import functional as F

from dwfbench.base.errors import UsageError
from dwfbench.models.initialization import init_kaiming


class LeNet300100(nn.Module):
    """Fully connected, 300 and 100 hidden units with ReLU; 266,200 weights for 1x28x28 and 10 classes.

    Maps images (N, C, H, W) of the `input_shape` (C, H, W) to logits (N, classes).
    """

    def __init__(self, input_shape: tuple[int, int, int], classes: int):
        super().__init__()
        channels, height, width = input_shape
        self.fc1 = nn.Linear(channels * height * width, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, classes)
        init_kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class LeNet5(nn.Module):
    """Two 5x5 convolutions (20 and 50 filters, max-pooled by 2) and 500 hidden units.

    430,500 weights for 1x28x28 and 10 classes. Caffe's variant, the one that pruning papers mean since Han et
    al. 2015, not the LeNet-5 of 1998. Unlike Caffe's, every hidden layer has
    a ReLU, for which the initialisation is made. Maps images (N, C, H, W) of
    the `input_shape` (C, H, W) to logits (N, classes). Without padding a side below 28 would soon be used up,
    so inputs with such a side are padded by 2 in both convolutions. Raises UsageError for a side below 8.
    """

    name = "lenet-5"
    filters: tuple[int, ...] = (20, 50)
    hidden: tuple[int, ...] = (500,)
    padded: tuple[int, ...] = (28, 28)
    """For each convolution, the side of an image below which it pads."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int):
        super().__init__()
        channels, height, width = input_shape
        side = min(height, width)
        if side < 8:
            raise UsageError(
                f"{self.name} needs images of at least 8x8 pixels, not {height}x{width}; use lenet-300-100"
            )
        for number, (filters, padded) in enumerate(zip(self.filters, self.padded, strict=True), 1):
            padding = 2 if side < padded else 0
            self.add_module(f"conv{number}", nn.Conv2d(channels, filters, 5, padding=padding))
            channels = filters
            height, width = ((pixels + 2 * padding - 4) // 2 for pixels in (height, width))
        features = channels * height * width
        for number, units in enumerate((*self.hidden, classes), 1):
            self.add_module(f"fc{number}", nn.Linear(features, units))
            features = units
        init_kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        for number in range(1, len(self.filters) + 1):
            x = F.relu(F.max_pool2d(getattr(self, f"conv{number}")(x), 2))  # pooled first, a quarter of the work
        x = x.flatten(1)
        for number in range(1, len(self.hidden) + 1):
            x = F.relu(getattr(self, f"fc{number}")(x))
        return getattr(self, f"fc{len(self.hidden) + 1}")(x)


class LeNet5Of1998(LeNet5):
    """The shape of LeCun et al. 1998: convolutions of 6 and 16 filters of 5x5, then 120 and 84 hidden units.

    61,470 weights for 1x28x28 and 10 classes, a seventh of what ``LeNet5`` has. Of the original are the sizes, and that
    images of 28 pixels are padded to 32; ReLU, max-pooling by 2 and a plain last layer are today's, and the second
    convolution sees all six maps. A side below 28 is padded by 2 in the second convolution, too.
    """

    name = "lenet-5-1998"
    filters = (6, 16)
    hidden = (120, 84)
    padded = (32, 28)
