"""L2-SP: pull the backbone's weights towards their starting values, and the new head's to zero (Li et al., ICML 2018)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import mse_loss

from stages.lib.core.contracts import LoadedSplit
from stages.lib.networks.backbones import Model


def l2_sp(weights: Mapping[str, torch.Tensor], start: Mapping[str, torch.Tensor], alpha: float) -> torch.Tensor:
    """Penalty that pulls fine-tuned weights towards their starting values.

    Args:
        weights: trainable tensors by name, any shapes.
        start: the same names and shapes before training; extra names are ignored, and a missing one is an error.
        alpha: strength, >= 0; 0 turns the penalty off.

    Returns:
        Scalar tensor, alpha / 2 * sum of squared distances. Zero, with zero gradient, at the start.

    Raises:
        KeyError: a weight has no starting value; the message names it.

    Reference:
        Li et al., Explicit Inductive Bias for Transfer Learning with Convolutional Networks, ICML 2018 (arXiv 1802.01483).
    """
    missing = [name for name in weights if name not in start]
    if missing:
        raise KeyError(f"no starting value for {', '.join(missing)}")
    distances = [mse_loss(weight, start[name], reduction="sum") for name, weight in weights.items()]
    return alpha / 2 * torch.stack(distances).sum() if distances else torch.zeros(())


def l2(weights: Sequence[torch.Tensor], beta: float) -> torch.Tensor:
    """Penalty that pulls weights to zero, for layers that have no pretrained start: beta / 2 * sum of squares."""
    return beta / 2 * torch.stack([weight.square().sum() for weight in weights]).sum() if weights else torch.zeros(())


@contextmanager
def attach(
    model: Model, start: Model, train: LoadedSplit, loss: Any, *, alpha: float, beta: float
) -> Iterator[Callable[[Any], torch.Tensor]]:
    """Attach L2-SP to a model for one phase.

    Every trainable tensor is penalised, including biases and normalisation parameters: the paper's w contains all adapted
    parameters. (The authors' code leaves both out by default.) Frozen tensors are not penalised. The optimizer's weight decay
    acts in addition; in the paper the penalty replaces it.

    Args:
        model: whose trainable tensors are penalised.
        start: a frozen copy of it from the start of the phase.
        train, loss: not used.
        alpha: strength of the pull of the backbone towards its start, >= 0.
        beta: strength of the pull of the head towards zero, >= 0.

    Yields:
        A function: inputs -> alpha / 2 * ||w_backbone - w_start||^2 + beta / 2 * ||w_head||^2, whatever the inputs.
    """
    backbone = {name: tensor for name, tensor in model.backbone.named_parameters() if tensor.requires_grad}
    head = [tensor for tensor in model.head.parameters() if tensor.requires_grad]
    first = dict(start.backbone.named_parameters())
    yield lambda inputs: l2_sp(backbone, first, alpha) + l2(head, beta)
