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

    def __init__(self, input_shape: tuple[int, int, int], classes: int):
        super().__init__()
        channels, height, width = input_shape
        if min(height, width) < 8:
            raise UsageError(f"lenet-5 needs images of at least 8x8 pixels, not {height}x{width}; use lenet-300-100")
        padding = 2 if min(height, width) < 28 else 0

        def pooled(side: int) -> int:
            return (side + 2 * padding - 4) // 2

        features = 50 * pooled(pooled(height)) * pooled(pooled(width))
        self.conv1 = nn.Conv2d(channels, 20, 5, padding=padding)
        self.conv2 = nn.Conv2d(20, 50, 5, padding=padding)
        self.fc1 = nn.Linear(features, 500)
        self.fc2 = nn.Linear(500, classes)
        init_kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))  # as ReLU, then pooling, for a quarter of the work
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


class LeNet5Of1998(nn.Module):
    """The shape of LeCun et al. 1998: convolutions of 6 and 16 filters of 5x5, then 120 and 84 hidden units.

    61,470 weights for 1x28x28 and 10 classes, a seventh of what ``LeNet5`` has. Of the original are the sizes, and that
    images of 28 pixels are padded to 32; ReLU, max-pooling by 2 and a plain last layer are today's, and the second
    convolution sees all six maps. Maps images (N, C, H, W) of the `input_shape` (C, H, W) to logits (N, classes). A
    side below 28 is padded by 2 in the second convolution, too. Raises UsageError for a side below 8.
    """

    def __init__(self, input_shape: tuple[int, int, int], classes: int):
        super().__init__()
        channels, height, width = input_shape
        if min(height, width) < 8:
            raise UsageError(
                f"lenet-5-1998 needs images of at least 8x8 pixels, not {height}x{width}; use lenet-300-100"
            )
        padding1, padding2 = (2 if min(height, width) < side else 0 for side in (32, 28))

        def pooled(side: int, padding: int) -> int:
            return (side + 2 * padding - 4) // 2

        self.conv1 = nn.Conv2d(channels, 6, 5, padding=padding1)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=padding2)
        positions = pooled(pooled(height, padding1), padding2) * pooled(pooled(width, padding1), padding2)
        self.fc1 = nn.Linear(16 * positions, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)
        init_kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)
