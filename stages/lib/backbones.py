"""Networks of timm and torchvision as a backbone and a head."""

import torch
from torch import nn

from stages.lib import heads
from stages.lib.errors import UserError


class Model(nn.Module):
    """A backbone (images (N, 3, H, W) to features (N, D)) and a head (features to logits (N, num_classes))."""

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(images))


def build(architecture: dict, num_classes: int | None = None) -> Model:
    """Make a network with fresh random weights (seed torch first).

    Args:
        architecture: {"library": "timm" or "torchvision", "model": its name there}; "head", the specification of a head
            (stages.lib.heads), is a plain linear layer where it is missing.
        num_classes: outputs of the head; None keeps the library's own head (1000 classes for ImageNet models).

    Raises:
        UserError: the library does not have this model, or it does not end in a linear layer.
    """
    network = _network(architecture)
    head = _head(network)
    if head is None:
        raise UserError(f"{architecture['library']} {architecture['model']} has no single linear layer as its head to replace.")
    linear = network.get_submodule(head)
    network.set_submodule(head, nn.Identity())
    if num_classes is not None:
        return Model(network, heads.build(linear.in_features, num_classes, **architecture.get("head", {})))
    return Model(network, linear)


def from_library(architecture: dict, state: dict, by_order: bool) -> dict[str, torch.Tensor]:
    """Translate a state dict of the whole network into the names of Model.

    Args:
        architecture: as for `build`.
        state: tensors of the network with its own head, by the library's names.
        by_order: take them by their order instead of by name (shapes must agree); for files with other names.

    Raises:
        UserError: a tensor is missing, left over or of another shape; the text names them.
    """
    network = _network(architecture)
    own = network.state_dict()
    if by_order and len(state) == len(own):
        state = dict(zip(own, state.values(), strict=True))
    wrong = [f"{name} is missing" for name in own if name not in state]
    wrong += [f"{name} is left over" for name in state if name not in own]
    wrong += [
        f"{name} has shape {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise UserError(
            f"These weights do not fit {architecture['library']} {architecture['model']}: {'; '.join(wrong[:10])}{more}. "
            "Name the architecture that they were trained with (or set by_order if only the names differ)."
        )
    head = _head(network)
    return {
        f"head.{name.removeprefix(head + '.')}" if name.startswith(head + ".") else f"backbone.{name}": tensor
        for name, tensor in state.items()
    }


def load(model: Model, tensors: dict[str, torch.Tensor]) -> list[str]:
    """Load a backbone; the head is replaced on purpose, and every other tensor must be there and fit.

    Returns:
        The names of the tensors that were not loaded, which are those of the old head.

    Raises:
        UserError: a tensor of the backbone is missing, left over or of another shape.
    """
    backbone = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    try:
        missing, left_over = model.load_state_dict(backbone, strict=False)
    except RuntimeError as error:  # another shape
        raise UserError(f"These weights do not fit the backbone: {error}") from None
    wrong = [f"{name} is missing" for name in missing if not name.startswith("head.")]
    wrong += [f"{name} is left over" for name in left_over]
    if wrong:
        raise UserError(f"These weights do not fit the backbone: {'; '.join(wrong)}.")
    return sorted(tensors.keys() - backbone.keys())


def _network(architecture: dict) -> nn.Module:
    library, name = architecture["library"], architecture["model"]
    if library == "timm":
        import timm

        if not timm.is_model(name):
            near = timm.list_models(f"*{name}*")[:5]
            raise UserError(f"timm has no model {name!r}." + (f" Near it: {', '.join(near)}." if near else ""))
        return timm.create_model(name)
    import torchvision

    if name not in torchvision.models.list_models():
        raise UserError(f"torchvision has no model {name!r}. See torchvision.models.list_models().")
    return torchvision.models.get_model(name, weights=None)


def _head(network: nn.Module) -> str | None:
    """Name of the linear layer that gives the classes: timm says which, in torchvision it is the last one."""
    linear = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    if hasattr(network, "get_classifier"):
        head = network.get_classifier()
        return next((name for name, module in linear.items() if module is head), None)
    return next(reversed(linear), None)
