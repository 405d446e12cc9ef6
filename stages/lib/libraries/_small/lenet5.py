"""LeNet-5 for grey images of 28 x 28 pixels."""

import torch
from torch import nn


class LeNet5(nn.Module):
    """Two convolutions of 5 x 5 with max pooling, and three linear layers: 44,426 parameters for ten classes.

    As it is usually written today: ReLU and max pooling instead of tanh and trained subsampling, and every map of the second
    convolution sees all maps of the first.

    Input (N, 1, 28, 28), output (N, 10).

    Reference:
        LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proceedings of the IEEE 86(11), 1998.
    """

    HEAD = "fc3"

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)  # 28 -> 24, pooled to 12
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)  # 12 -> 8, pooled to 4
        self.fc1 = nn.Linear(16 * 4 * 4, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.pool(self.conv1(images).relu())
        maps = self.pool(self.conv2(maps).relu())
        features = self.fc2(self.fc1(maps.flatten(1)).relu()).relu()
        outputs: torch.Tensor = self.fc3(features)
        return outputs
