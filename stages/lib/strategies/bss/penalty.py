"""Batch Spectral Shrinkage: press out the weakest directions of a batch's features (Chen et al., NeurIPS 2019)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from stages.lib.core.contracts import LoadedSplit
from stages.lib.networks.backbones import Model


def bss(features: torch.Tensor, eta: float, k: int) -> torch.Tensor:
    """Penalty on the k smallest singular values of a feature matrix.

    Directions in which the features of a batch hardly vary transfer badly (negative transfer); the strong ones stay free.

    The sum is taken as the squared length of the features along their k weakest directions, which are found first and then
    held fixed. That is the same value with the same gradient, and unlike the derivative of a decomposition it has no
    1 / (difference of singular values) in it, so that singular values may repeat. Where the k-th smallest is tied with the
    next one, the sum has a kink, and the gradient is that for one choice among the tied.

    Args:
        features: (N, D); computed in float32 at least.
        eta: strength, >= 0; 0 turns the penalty off. The paper has 0.001.
        k: how many singular values; more than min(N, D), which is all there are, count as all. The paper has 1.

    Returns:
        Scalar tensor, eta * sum of the k smallest squared singular values.

    Reference:
        Chen et al., Catastrophic Forgetting Meets Negative Transfer: Batch Spectral Shrinkage for Safe Transfer Learning,
        NeurIPS 2019.
    """
    with torch.autocast(features.device.type, enabled=False):
        matrix = features.to(torch.promote_types(features.dtype, torch.float32))
        matrix = matrix if len(matrix) <= matrix.shape[1] else matrix.T  # (m, n), m <= n: the smaller Gram matrix
        with torch.no_grad():
            # Squaring halves the digits, so double them first: float32 would lose singular values below a 3000th of the largest.
            precise = (matrix.cpu() if matrix.device.type == "mps" else matrix).double()  # Apple's GPUs have no float64
            gram = precise @ precise.T
            # A training that diverges shall end in a penalty that is no number, not in an error of linear algebra.
            directions: torch.Tensor = torch.linalg.eigh(gram.nan_to_num(0, 0, 0)).eigenvectors[:, :k]  # the weakest come first
            directions = directions.to(matrix.dtype).to(matrix.device)
        return eta * (directions.T @ matrix).square().sum()


@contextmanager
def attach(
    model: Model, start: Model, train: LoadedSplit, loss: Any, *, eta: float, k: int
) -> Iterator[Callable[[Any], torch.Tensor]]:
    """Attach Batch Spectral Shrinkage to a model for a phase.

    In several processes each takes the matrix of its own part of the batch, so that the penalty is not that of one process.
    An example that is twice in a batch makes a singular value of 0 if both copies look alike, and takes one of the k.

    Args:
        model: whose features count.
        start, train, loss: not used.
        eta, k: as in `bss`.

    Yields:
        inputs to the penalty on the features (N, D) of the last forward pass.
    """
    seen: list[torch.Tensor] = []

    def remember(backbone: Any, inputs: Any, output: torch.Tensor) -> None:
        seen[:] = [output]

    def compute(inputs: Any) -> torch.Tensor:
        if not seen:
            raise ValueError("bss needs the backbone's features, but it has not run: were features computed once?")
        return bss(seen.pop(), eta, k)

    with model.backbone.register_forward_hook(remember):
        yield compute
