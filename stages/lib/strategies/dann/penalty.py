"""Domain-adversarial training: features from which a discriminator cannot tell the domain (Ganin et al., JMLR 2016)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from stages.lib.core.contracts import LoadedSplit
from stages.lib.networks.backbones import Model


class Reversal(torch.autograd.Function):
    """The identity, whose gradient is multiplied by -factor."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor, factor: float) -> torch.Tensor:
        context.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -context.factor * gradients[0], None


def weight(progress: float, gamma: float) -> float:
    """How strongly the reversed gradient counts: from 0 at the start, when the discriminator knows nothing, up to nearly 1.

    Args:
        progress: of the training, 0 to 1.
        gamma: how fast it rises; the paper uses 10.
    """
    return 2 / (1 + math.exp(-gamma * progress)) - 1


class Discriminator(nn.Module):
    """Tells the domain of an example from its features; the features learn to prevent it.

    Args:
        num_features: of the backbone.
        hidden: units of its hidden layer; the paper uses 100 for digits and 1,024 for photos.
        strength, gamma: the features get the gradient times -strength * weight(progress, gamma).
        lr: peak learning rate of the discriminator, which follows the schedule of the others.
    """

    def __init__(self, num_features: int, *, hidden: int, strength: float, gamma: float, lr: float):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(num_features, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.strength, self.gamma, self.lr = strength, gamma, lr
        self.features: torch.Tensor | None = None

    def forward(self, inputs: Any, progress: float) -> torch.Tensor:
        """The discriminator's loss on the last batch: the first half of its features is labelled, the second is not."""
        if self.features is None:
            raise ValueError("dann needs the backbone's features, but it has not run: were features computed once?")
        features, self.features = self.features.float(), None
        logits = self.layers(Reversal.apply(features, self.strength * weight(progress, self.gamma)))[:, 0]
        domains = torch.ones_like(logits)
        domains[len(domains) // 2 :] = 0
        return binary_cross_entropy_with_logits(logits, domains)


@contextmanager
def attach(
    model: Model, start: Model, train: LoadedSplit, loss: Any, *, strength: float, gamma: float, hidden: int, lr: float
) -> Iterator[Discriminator]:
    """Attach a discriminator of domains to a model for one phase.

    Args:
        model: whose features are adapted.
        start, train, loss: not used.
        strength, gamma, hidden, lr: as in `Discriminator`.

    Yields:
        The discriminator: inputs, progress -> its loss on the features (2n, D) of the last forward pass.
    """
    num_features = next(layer.in_features for layer in model.head.modules() if isinstance(layer, nn.Linear))
    discriminator = Discriminator(num_features, hidden=hidden, strength=strength, gamma=gamma, lr=lr)

    def remember(backbone: Any, inputs: Any, output: torch.Tensor) -> None:
        discriminator.features = output if torch.is_grad_enabled() else None  # validation has no penalty

    with model.backbone.register_forward_hook(remember):
        yield discriminator
