"""No training: the features of the network are the answer (an embedding), as its weights came."""

from typing import TYPE_CHECKING, Any

from stages.lib.core.contracts import NO_TRAINING, Phase
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model

UNUSED = NO_TRAINING
HEAD = "identity"  # the task must support it


class Params(Strict):
    """None."""


def head() -> dict[str, Any]:
    """No head."""
    return {"kind": "identity"}


def plan(model: "Model") -> list[Phase]:
    """Nothing is trained."""
    return []
