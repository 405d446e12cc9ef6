"""How far an input is from the training data: the distance of its features to theirs."""

from typing import Any

import torch
from torch.nn.functional import normalize

from stages.lib.networks.backbones import Model


def bank(features: torch.Tensor) -> torch.Tensor:
    """What is kept of training features (M, D): their directions, in float16, which halves the file and moves a distance by less
    than 0.001."""
    return normalize(features.float()).half()


def distances(features: torch.Tensor, bank: torch.Tensor, neighbours: int) -> torch.Tensor:
    """The cosine distance (N,), 0 to 2, of features (N, D) to the `neighbours`-th nearest of the bank (M, D), or to the farthest
    if it holds fewer.

    On features of length one it orders inputs as the Euclidean distance does: it is half of its square. It is computed as that,
    because 1 - similarity has few digits where features are nearly equal.

    Reference:
        Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022.
    """
    directions, known = normalize(features.float()), normalize(bank.float())
    similarity = directions @ known.T
    return (directions - known[similarity.topk(min(neighbours, len(bank)), dim=1).indices[:, -1]]).square().sum(1) / 2


class WithDistance(Model):
    """A network that also says how far its inputs are: outputs (N, ...) and distances (N,), as `distances` measures them."""

    bank: torch.Tensor

    def __init__(self, model: Model, bank: torch.Tensor, neighbours: int):
        super().__init__(model.backbone, model.head, model.num_outputs)
        self.neighbours = neighbours
        self.register_buffer("bank", bank)

    def forward(self, inputs: Any) -> Any:
        features, outputs = self.both(inputs)
        return outputs, distances(features, self.bank, self.neighbours)
