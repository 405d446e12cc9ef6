"""MobileFaceNet: faces to embeddings, in one million parameters."""

import torch
from torch import nn

# Expansion, channels, number and first stride of the bottlenecks, as in Table 1 of the paper.
BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
PIXELS = (112, 96)


class Convolution(nn.Module):
    """A convolution, batch normalisation and, unless it is linear, PReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, pad: int = 0, groups: int = 1,
        linear: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, pad, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.prelu = nn.Identity() if linear else nn.PReLU(outputs)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.prelu(self.bn(self.conv(maps)))
        return found


class Bottleneck(nn.Module):
    """An inverted residual of MobileNet v2 with PReLU: wider, each channel by itself, narrow again."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        wide = inputs * expansion
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.PReLU(wide),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.PReLU(wide),
            nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.conv(maps)
        return maps + found if self.residual else found


class MobileFaceNet(nn.Module):
    """The network for 112 x 96 pixels: its last convolution of each channel by itself weighs the 7 x 6 places of the maps.

    Images of other sizes are resized to these, so a whole face packed as a square (fit: squash) is seen as it was before.

    Input (N, 3, H, W), output (N, 128), of which only the direction counts. The names of its tensors are those of the weights
    that are usually found.

    Reference:
        Chen et al., MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile Devices, CCBR 2018
        (arXiv 1804.07573).
    """

    HEAD = ""
    num_features = 128

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Convolution(3, 64, 3, 2, 1)
        self.dw_conv1 = Convolution(64, 64, 3, 1, 1, groups=64)
        blocks, before = [], 64
        for expansion, channels, number, stride in BOTTLENECKS:
            for index in range(number):
                blocks.append(Bottleneck(before, channels, 1 if index else stride, expansion))
                before = channels
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = Convolution(before, 512, 1)
        self.linear7 = Convolution(512, 512, (7, 6), groups=512, linear=True)
        self.linear1 = Convolution(512, self.num_features, 1, linear=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = nn.functional.interpolate(images, PIXELS, mode="bilinear", align_corners=False)
        maps = self.blocks(self.dw_conv1(self.conv1(images)))
        embeddings: torch.Tensor = self.linear1(self.linear7(self.conv2(maps)))
        return embeddings.flatten(1)
