"""Small networks that the other libraries do not have, one file each in `_small`, with random weights."""

from typing import TYPE_CHECKING, Any

from stages.lib.errors import UserError, listed, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

LICENCE = "MIT (code of this project)"
CHANNELS = {"conv4": 1, "lenet5": 1, "mobilefacenet": 3, "sface": 3}  # of the images that each network takes: 1 is grey


def channels(model: str) -> int:
    """Channels of the images that a network takes."""
    return CHANNELS.get(model, 3)


def network(model: str) -> "nn.Module":
    """Build a network by its name.

    Raises:
        UserError: there is none of this name.
    """
    from stages.lib.libraries._small.conv4 import Conv4
    from stages.lib.libraries._small.lenet5 import LeNet5
    from stages.lib.libraries._small.mobilefacenet import MobileFaceNet
    from stages.lib.libraries._small.sface import SFace

    if model not in CHANNELS:
        raise UserError(f"small has no model {model!r}.{nearest(model, CHANNELS)} Allowed: {listed(CHANNELS)}.")
    kinds: dict[str, type[nn.Module]] = {"conv4": Conv4, "lenet5": LeNet5, "mobilefacenet": MobileFaceNet, "sface": SFace}
    return kinds[model]()


def head(network: "nn.Module") -> str | None:
    """Path of the linear layer that a new head replaces; "" for networks whose output is an embedding."""
    path: Any = network.HEAD
    return str(path)


def rename(state: "dict[str, Tensor]", architecture: dict[str, Any]) -> "tuple[dict[str, Tensor], list[str]]":
    """Translate the names in a file of weights to those of the network; the second list, of what is left out, is empty."""
    from stages.lib.libraries._small import sface

    return (sface.renamed(state) if architecture["model"] == "sface" else state), []
