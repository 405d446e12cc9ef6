"""Minimum class confusion: no two classes are confused on the unlabelled domain (Jin et al., MCC, ECCV 2020)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from stages.lib.core.contracts import LoadedSplit
from stages.lib.networks.backbones import Model


def confusion(outputs: torch.Tensor, temperature: float) -> torch.Tensor:
    """How much a batch of predictions confuses pairs of classes.

    Args:
        outputs: (N, C) of unlabelled inputs; computed in float32 at least.
        temperature: by which they are divided, so that none is too sure; the paper uses 2.5.

    Returns:
        Scalar tensor, 0 (each prediction is sure of one class) to (C - 1) / C: the mean over classes of the probability of
        another class where this one is predicted. Predictions that are sure count up to twice as much as others.

    Reference:
        Jin et al., Minimum Class Confusion for Versatile Domain Adaptation, ECCV 2020 (arXiv 1912.03699), equations 3 to 8.
    """
    log = (outputs.float() if outputs.dtype != torch.float64 else outputs).div(temperature).log_softmax(1)
    chances = log.exp()
    sure = 1 + (chances * log).sum(1).exp().detach()  # 1 + exp(-entropy)
    weights = len(sure) * sure / sure.sum()
    pairs = (weights[:, None] * chances).T @ chances  # (C, C)
    pairs = pairs / pairs.sum(1, keepdim=True)
    return (pairs.sum() - pairs.trace()) / len(pairs)


@contextmanager
def attach(
    model: Model, start: Model, train: LoadedSplit, loss: Any, *, strength: float, temperature: float
) -> Iterator[Callable[[Any, float], torch.Tensor]]:
    """Attach minimum class confusion to a model for one phase.

    With several processes, each uses its own part of the batch, so the penalty differs from that of one process.

    Args:
        model: whose predictions are adapted.
        start, train, loss: not used.
        strength: >= 0; the paper uses 1.
        temperature: as in `confusion`.

    Yields:
        A function: inputs, progress -> strength * confusion of the unlabelled half of the last outputs (2n, C).
    """
    seen: list[torch.Tensor] = []

    def remember(head: Any, inputs: Any, output: torch.Tensor) -> None:
        seen[:] = [output] if torch.is_grad_enabled() else []  # validation has no penalty

    def compute(inputs: Any, progress: float) -> torch.Tensor:
        outputs = seen.pop()
        return strength * confusion(outputs[len(outputs) // 2 :], temperature)

    with model.head.register_forward_hook(remember):
        yield compute
