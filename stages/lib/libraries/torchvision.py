"""Networks from torchvision, with random weights."""

from typing import TYPE_CHECKING

from stages.lib.errors import UserError

LICENCE = "BSD-3-Clause (code of torchvision)"

if TYPE_CHECKING:
    from torch import nn


def network(model: str) -> "nn.Module":
    """Build a network by its name in torchvision.

    Raises:
        UserError: torchvision does not have it.
    """
    import torchvision

    if model not in torchvision.models.list_models():
        raise UserError(f"torchvision has no model {model!r}. See torchvision.models.list_models().")
    built: nn.Module = torchvision.models.get_model(model, weights=None)
    return built


def head(network: "nn.Module") -> str | None:
    """Path of the linear layer that a new head replaces: the last one; None if there is none."""
    from torch import nn

    return next(reversed([name for name, module in network.named_modules() if isinstance(module, nn.Linear)]), None)
