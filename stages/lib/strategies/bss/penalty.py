"""Batch Spectral Shrinkage: suppress the weakest directions of a batch's features (Chen et al., NeurIPS 2019)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from stages.lib.core.contracts import NO_STEP, LoadedSplit
from stages.lib.networks.backbones import Model


def bss(features: torch.Tensor, eta: float, k: int) -> torch.Tensor:
    """Penalty on the k smallest singular values of a feature matrix.

    Directions in which the features of a batch hardly vary transfer badly (negative transfer); strong ones are not penalised.

    The sum is computed as the squared length of the features along their k weakest directions, which are found first and then
    held fixed. Value and gradient are the same, but unlike the derivative of a decomposition this has no term
    1 / (difference of singular values), so singular values may repeat. If the k-th smallest is tied with the next one, the
    sum is not differentiable, and the gradient is that of one choice among the tied directions.

    Args:
        features: (N, D); computed in float32 at least.
        eta: strength, >= 0; 0 turns the penalty off. The paper uses 0.001.
        k: number of singular values; if above min(N, D), all are used. The paper uses 1.

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
            # Squaring halves the precision, so use float64: float32 would lose singular values below 1/3000 of the largest.
            precise = (matrix.cpu() if matrix.device.type == "mps" else matrix).double()  # Apple's GPUs have no float64
            gram = precise @ precise.T
            # A diverging training should end with a NaN penalty, not with a linear algebra error.
            directions: torch.Tensor = torch.linalg.eigh(gram.nan_to_num(0, 0, 0)).eigenvectors[:, :k]  # the weakest come first
            directions = directions.to(matrix.dtype).to(matrix.device)
        return eta * (directions.T @ matrix).square().sum()


@contextmanager
def attach(
    model: Model, start: Model, train: LoadedSplit, loss: Any, *, eta: float, k: int
) -> Iterator[Callable[[Any], torch.Tensor]]:
    """Attach Batch Spectral Shrinkage to a model for one phase.

    With several processes, each uses the matrix of its own part of the batch, so the penalty differs from that of one process.
    An example that occurs twice in a batch gives a singular value of 0 if both copies look the same, and uses up one of the k.

    Args:
        model: whose features are penalised.
        start, train, loss: not used.
        eta, k: as in `bss`.

    Yields:
        A function: inputs -> the penalty on the features (N, D) of the last forward pass; where there is one output per word or
        frame, N are those of all examples, without padding.
    """
    seen: list[torch.Tensor] = []

    def remember(backbone: Any, inputs: Any, output: torch.Tensor) -> None:
        seen[:] = [output]

    def compute(inputs: Any) -> torch.Tensor:
        if not seen:
            raise ValueError("bss needs the backbone's features, but it has not run: were features computed once?")
        features = seen.pop()
        if features.ndim == 3:
            features = features[features[..., 0] > NO_STEP / 2]
        return bss(features, eta, k)

    with model.backbone.register_forward_hook(remember):
        yield compute
