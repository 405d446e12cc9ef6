"""Correlation alignment: the features of both domains have the same covariance (Sun and Saenko, Deep CORAL, ECCV 2016)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from stages.lib.core.contracts import LoadedSplit
from stages.lib.networks.backbones import Model


def coral(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The distance between two covariances.

    Args:
        one, other: features (N, D) and (M, D) of the two domains, N and M at least 2; computed in float32 at least.

    Returns:
        Scalar tensor, the sum of squared differences of the two covariance matrices, divided by 4 * D^2.

    Reference:
        Sun and Saenko, Deep CORAL: Correlation Alignment for Deep Domain Adaptation, ECCV 2016 (arXiv 1607.01719), equation 1.
    """
    with torch.autocast(one.device.type, enabled=False):
        first, second = (_covariance(side.to(torch.promote_types(side.dtype, torch.float32))) for side in (one, other))
        return (first - second).square().sum() / (4 * one.shape[1] ** 2)


def _covariance(features: torch.Tensor) -> torch.Tensor:
    """(D, D), of features (N, D)."""
    centred = features - features.mean(0)
    return centred.T @ centred / (len(features) - 1)


@contextmanager
def attach(
    model: Model, start: Model, train: LoadedSplit, loss: Any, *, strength: float
) -> Iterator[Callable[[Any, float], torch.Tensor]]:
    """Attach correlation alignment to a model for one phase.

    With several processes, each uses its own part of the batch, so the penalty differs from that of one process.

    Args:
        model: whose features are adapted.
        start, train, loss: not used.
        strength: >= 0. The paper chooses it so that the penalty is as large as the loss at the end.

    Yields:
        A function: inputs, progress -> strength * coral of the two halves of the last features (2n, D).
    """
    seen: list[torch.Tensor] = []

    def remember(backbone: Any, inputs: Any, output: torch.Tensor) -> None:
        seen[:] = [output] if torch.is_grad_enabled() else []  # validation has no penalty

    def compute(inputs: Any, progress: float) -> torch.Tensor:
        one, other = seen.pop().chunk(2)
        return strength * coral(one, other)

    with model.backbone.register_forward_hook(remember):
        yield compute
