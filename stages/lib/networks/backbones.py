"""Networks from any library (stages/lib/libraries), split into a backbone and a head."""

from collections import Counter
from collections.abc import Collection
from types import ModuleType
from typing import Any

import torch
from torch import nn

from stages.lib.core import plugins
from stages.lib.core.contracts import Per
from stages.lib.errors import UserError, listed
from stages.lib.imports import unscanned
from stages.lib.networks import heads


class Model(nn.Module):
    """A backbone (inputs -> features, (N, D), or (N, steps, D) with one step per word or frame) and a head (features ->
    outputs, (N, num_outputs) or (N, steps, num_outputs))."""

    def __init__(self, backbone: nn.Module, head: nn.Module, num_outputs: int = 0):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.num_outputs = num_outputs  # 0 if not known: the head is the library's own

    def forward(self, inputs: Any) -> torch.Tensor:
        return self.both(inputs)[1]

    def both(self, inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The features, and the outputs."""
        features = self.backbone(inputs)
        given = (inputs.hidden, self.backbone.embedding) if isinstance(self.head, heads.MaskedLanguage) else ()
        outputs: torch.Tensor = self.head(features, *given)
        return features, outputs


def build(architecture: dict[str, Any], num_outputs: int | None = None) -> Model:
    """Build a network with random weights (seed torch first).

    Args:
        architecture: {"library": a plug-in of stages/lib/libraries, its params ("model": its name there), "head": the optional
            specification of a head (stages.lib.networks.heads); default: a plain linear layer}; where the library can give
            several, "per": what there is one output for.
        num_outputs: of the head, if its kind leaves a choice; None keeps the library's own head (1000 outputs for ImageNet
            models), if it has one.

    Raises:
        UserError: the library does not have this model, or it does not end in a linear layer.
    """
    network = _network(architecture)
    head = _library(architecture).head(network)
    if head is None:
        raise UserError(f"{architecture['library']} {architecture['model']} has no single linear layer as its head to replace.")
    own: Any = network.get_submodule(head) if head else nn.Identity()
    if head:
        network.set_submodule(head, nn.Identity())
    if num_outputs is None:
        return Model(network, own)
    num_features: Any = own.in_features if head else network.num_features
    spec, steps = architecture.get("head", {}), architecture.get("per", "example") != "example"
    if spec.get("kind") == "masked_language":
        embedding: Any = network.embedding
        spec = spec | {"vocabulary": embedding.shape}
    num_outputs = num_features if spec.get("kind") == "identity" else num_outputs
    return Model(network, heads.build(num_features, num_outputs, steps=steps, **spec), num_outputs)


def asked_for(architecture: dict[str, Any], per: Per) -> dict[str, Any]:
    """An architecture without its head, whose features are per example, word or frame.

    Raises:
        UserError: the library cannot give them.
    """
    library, able = architecture["library"], getattr(_library(architecture), "PER", ("example",))
    if per not in able:
        raise UserError(f"The task needs one output per {per}, and networks of {library} give one per {listed(able)}.")
    return {name: value for name, value in architecture.items() if name != "head"} | ({"per": per} if len(able) > 1 else {})


def trained(tensors: dict[str, torch.Tensor], architecture: dict[str, Any], num_outputs: int) -> Model:
    """A trained model in evaluation mode; every tensor is loaded, in its own dtype."""
    model = build(architecture, num_outputs)
    model.load_state_dict(tensors)
    return model.eval()


def from_library(architecture: dict[str, Any], state: dict[str, torch.Tensor], by_order: bool) -> dict[str, torch.Tensor]:
    """Translate a state dict of the whole network into the names of Model.

    Args:
        architecture: as for `build`.
        state: tensors of the network under the library's names, which may all have the same prefix. Its head may be of other
            classes, or missing: it is replaced in any case.
        by_order: match them by order instead of by name (shapes must agree); for files with other names.

    Raises:
        UserError: a tensor is missing, left over or of another shape; the text names them.
    """
    network = _network(architecture)
    own, head = network.state_dict(), _library(architecture).head(network)
    if by_order and len(state) == len(own):
        state = dict(zip(own, state.values(), strict=True))
    state = _without_prefix(state, own)
    wrong = [f"{name} is missing" for name in own if name not in state and not (head and name.startswith(f"{head}."))]
    wrong += [f"{name} is left over" for name in state if name not in own]
    wrong += [
        f"{name} has shape {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape and not (head and name.startswith(f"{head}."))
    ]
    if wrong:
        more = f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise UserError(
            f"These weights do not fit {architecture['library']} {architecture['model']}: {'; '.join(wrong[:10])}{more}. "
            "Name the architecture that they were trained with (or set by_order if only the names differ)."
        )
    return {
        f"head.{name.removeprefix(head + '.')}" if head and name.startswith(head + ".") else f"backbone.{name}": tensor
        for name, tensor in state.items()
    }


def _without_prefix(state: dict[str, torch.Tensor], own: Collection[str]) -> dict[str, torch.Tensor]:
    """The state without what trainers put before each name, such as "model." (Lightning) or "_orig_mod." (torch.compile)."""
    if not state.keys().isdisjoint(own):
        return state
    found = Counter(
        name[: at + 1] for name in state for at in range(len(name)) if name[at] == "." and name[at + 1 :] in own
    )  # fmt: skip
    ((prefix, _),) = found.most_common(1) or [("", 0)]
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def load(model: Model, tensors: dict[str, torch.Tensor], *, head: bool = False) -> list[str]:
    """Load a backbone; the head is replaced on purpose (with `head`, loaded too), and every other tensor must be present and fit.

    Returns:
        The names of the tensors that were not loaded, which are those of the old head.

    Raises:
        UserError: a tensor of the backbone is missing, left over or of another shape.
    """
    backbone = {name: tensor for name, tensor in tensors.items() if head or not name.startswith("head.")}
    try:
        missing, left_over = model.load_state_dict(backbone, strict=False)
    except RuntimeError as error:  # another shape
        raise UserError(f"These weights do not fit the backbone: {error}") from None
    wrong = [f"{name} is missing" for name in missing if not name.startswith("head.")]
    wrong += [f"{name} is left over" for name in left_over]
    if wrong:
        raise UserError(f"These weights do not fit the backbone: {'; '.join(wrong)}.")
    return sorted(tensors.keys() - backbone.keys())


def _network(architecture: dict[str, Any]) -> nn.Module:
    own = {name: value for name, value in architecture.items() if name not in ("library", "head")}
    with unscanned():  # it imports the library
        network: nn.Module = _library(architecture).network(**own)
    return network


def _library(architecture: dict[str, Any]) -> ModuleType:
    return plugins.load("libraries", architecture["library"])
