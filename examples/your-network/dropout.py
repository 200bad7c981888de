"""LeNet-300-100 with dropout after both hidden layers: `--model examples/your-network/dropout.py:lenet_dropout_10`.

results/README.md asks with it whether dropout brings DWF nearer to dense training where little is pruned.
"""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from dwfbench.models.lenet import LeNet300100


class Dropout300100(LeNet300100):
    """``LeNet300100`` of which a hidden unit is zero with probability ``p`` in a training step."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, p: float):
        super().__init__(input_shape, classes)
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(F.relu(self.fc1(x.flatten(1))))
        x = self.dropout(F.relu(self.fc2(x)))
        return self.fc3(x)


lenet_dropout_10 = partial(Dropout300100, p=0.1)
lenet_dropout_20 = partial(Dropout300100, p=0.2)
