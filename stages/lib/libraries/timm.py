"""Networks from timm, with random weights."""

from typing import TYPE_CHECKING, Any

from stages.lib.errors import UserError

LICENCE = "Apache-2.0 (code of timm)"

if TYPE_CHECKING:
    from torch import nn


def network(model: str) -> "nn.Module":
    """Build a network by its name in timm, with or without a tag.

    Raises:
        UserError: timm does not have it.
    """
    import timm

    if not timm.is_model(model):
        near = timm.list_models(f"*{model}*")[:5]
        raise UserError(f"timm has no model {model!r}." + (f" Similar names: {', '.join(near)}." if near else ""))
    return timm.create_model(model)


def head(network: "nn.Module") -> str | None:
    """Path of the linear layer that a new head replaces, as named by timm; None if it is not a single linear layer."""
    from torch import nn

    get_classifier: Any = network.get_classifier
    last = get_classifier()
    return next((name for name, module in network.named_modules() if module is last and isinstance(module, nn.Linear)), None)
