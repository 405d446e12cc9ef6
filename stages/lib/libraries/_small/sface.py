"""SFace: faces of 112 x 112 pixels to embeddings, with the layers of MobileNet v1."""

import re

import torch
from torch import nn

# Channels and stride of the blocks after the first convolution.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
KINDS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var", "weight": "weight",
         "bias": "bias"}  # fmt: skip
PARTS = {"conv2d": "conv", "batchnorm": "norm", "relu": "act"}


class Convolution(nn.Module):
    """A convolution, batch normalisation and PReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)
        self.act = nn.PReLU(outputs)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.act(self.norm(self.conv(maps)))
        return found


class Separable(nn.Module):
    """A convolution of each channel by itself, and one of 1 x 1 over all channels."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.depthwise = Convolution(inputs, inputs, 3, stride, groups=inputs)
        self.pointwise = Convolution(inputs, outputs, 1, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.pointwise(self.depthwise(maps))
        return found


class Embedding(nn.Module):
    """All 7 x 7 places of the last maps to the embedding, without a mean over places: they are parts of an aligned face."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs, eps=2e-5)
        self.dropout = nn.Dropout(0.4)
        self.linear = nn.Linear(inputs * 7 * 7, outputs)
        self.out = nn.BatchNorm1d(outputs, eps=2e-5)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.out(self.linear(self.dropout(self.norm(maps)).flatten(1)))
        return found


class SFace(nn.Module):
    """The network of OpenCV's face_recognition_sface: 27 convolutions and a linear layer, 9.6 million parameters.

    Input (N, 3, 112, 112), output (N, 128), of which only the direction counts.

    Reference:
        Zhong et al., SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition, IEEE Transactions on Image
        Processing 30, 2021 (arXiv 2205.12010).
    """

    HEAD = ""
    num_features = 128

    def __init__(self) -> None:
        super().__init__()
        channels = [32, *(channels for channels, _ in BLOCKS)]
        self.stem = Convolution(3, channels[0], 3, 1)
        self.blocks = nn.Sequential(
            *(Separable(before, after, stride) for before, (after, stride) in zip(channels, BLOCKS, strict=False))
        )
        self.embedding = Embedding(channels[-1], self.num_features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = self.embedding(self.blocks(self.stem(images)))
        return embeddings


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors under the names of OpenCV's ONNX file, translated to those of SFace; what has other names stays as it is."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        own = _renamed(name)
        found[own or name] = tensor.flatten() if own and own.endswith("act.weight") else tensor  # there (C, 1, 1)
        if own and own.endswith("running_var"):
            found[own.replace("running_var", "num_batches_tracked")] = torch.tensor(0)  # which other programs do not count
    return {name: tensor for name, tensor in found.items() if name not in ("scalar_op1", "scalar_op2")}  # (x - 127.5) / 128


def _renamed(name: str) -> str | None:
    if match := re.fullmatch(r"conv_(\d+)_(dw_)?(conv2d|batchnorm|relu)_(\w+)", name):
        number, depthwise, part, kind = int(match[1]), match[2], match[3], match[4]
        where = "stem" if number == 1 else f"blocks.{number - 2}.{'depthwise' if depthwise else 'pointwise'}"
        return f"{where}.{PARTS[part]}.{KINDS[kind]}" if kind in KINDS else None
    if match := re.fullmatch(r"(bn1|pre_fc1|fc1)_(\w+)", name):
        layer = {"bn1": "norm", "pre_fc1": "linear", "fc1": "out"}[match[1]]
        return f"embedding.{layer}.{KINDS[match[2]]}" if match[2] in KINDS else None
    return None
