"""What training needs to know of regression."""

import math
from collections.abc import Callable, Sequence

import torch

from stages.lib.errors import UserError
from stages.lib.params.schema import TrainingOptions


def outputs(labels: Sequence[str]) -> list[str]:
    """There is one output."""
    return ["value"]


def targets(labels: Sequence[str], names: Sequence[str]) -> torch.Tensor:
    """The numbers (N,)."""
    try:
        return torch.tensor([float(label) for label in labels])
    except ValueError as error:
        raise UserError(f"labels must be numbers: {error}") from None


def batches(targets: torch.Tensor, options: TrainingOptions, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Shuffled."""
    order = torch.randperm(len(targets), generator=generator)
    return order.tensor_split(math.ceil(len(targets) / options.batch_size))


def criterion(targets: torch.Tensor, options: TrainingOptions) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The squared error."""
    return loss


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Outputs (n, 1) and targets (n,) to (n,)."""
    return (outputs[:, 0] - targets).square()


def guess(targets: torch.Tensor) -> float:
    """The error of answering the mean."""
    return float(targets.var(correction=0))


def figures(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """What validation says."""
    error = (outputs[:, 0] - targets).abs().mean().item()
    return {"loss": loss(outputs, targets).mean().item(), "mean_absolute_error": error}


def strata(targets: torch.Tensor) -> torch.Tensor:
    """All of one kind."""
    return torch.zeros(len(targets), dtype=torch.int64)


def alarms(outputs: torch.Tensor, targets: torch.Tensor, names: Sequence[str]) -> list[str]:
    """The same answer for everything."""
    return ["The model predicts the same number for everything."] if outputs.std() < 1e-6 else []
