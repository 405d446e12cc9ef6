"""The network of four convolutions that few-shot learning is usually measured with, for grey images of 28 x 28 pixels."""

import torch
from torch import nn


class Conv4(nn.Module):
    """Four blocks of a 3 x 3 convolution with 64 maps, batch normalisation, ReLU and max pooling: 111,936 parameters.

    It has no head: the 64 numbers of the last block are the embedding. Input (N, 1, 28, 28), output (N, 64).

    Reference:
        Vinyals et al., Matching Networks for One Shot Learning, NeurIPS 2016; Snell et al., Prototypical Networks for Few-shot
        Learning, NeurIPS 2017.
    """

    HEAD = ""
    num_features = 64

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_block(channels) for channels in (1, 64, 64, 64)))  # 28 -> 14 -> 7 -> 3 -> 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.blocks(images).flatten(1)
        return features


def _block(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2))
