"""How far an input is from the training data: the distance of its features to theirs."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize


def bank(features: torch.Tensor) -> torch.Tensor:
    """What is kept of training features (M, D): their directions, in float16, which halves the file and moves a distance by less
    than 0.001."""
    return normalize(features.float()).half()


def distances(features: torch.Tensor, bank: torch.Tensor, neighbours: int) -> torch.Tensor:
    """The cosine distance (N,), 0 to 2, of features (N, D) to the `neighbours`-th nearest of the bank (M, D), or to the farthest
    if it holds fewer.

    On features of length one it orders inputs as the Euclidean distance does, and it is exact near 0, too.

    Reference:
        Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022.
    """
    similarity = normalize(features.float()) @ normalize(bank.float()).T
    nearest = similarity.topk(min(neighbours, len(bank)), dim=1).values
    return 1 - nearest[:, -1]


class WithDistance(nn.Module):
    """A network that also says how far its inputs are: outputs (N, ...) and distances (N,), as `distances` measures them."""

    bank: torch.Tensor

    def __init__(self, model: nn.Module, bank: torch.Tensor, neighbours: int):
        """Wrap a stages.lib.networks.backbones.Model."""
        super().__init__()
        self.model, self.neighbours = model, neighbours
        self.register_buffer("bank", bank)

    def forward(self, inputs: object) -> tuple[torch.Tensor, torch.Tensor]:
        model: Any = self.model
        features, outputs = model.both(inputs)
        return outputs, distances(features, self.bank, self.neighbours)
