"""Train everything, while a decoder of its own keeps the mean of the inputs readable from the features."""

from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.networks.layers import head_rates, select
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model


class Params(Strict):
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    strength: float = Field(ge=0)


def plan(model: "Model", *, epochs: int, lr: float, strength: float) -> list[Phase]:
    """One phase with the penalty."""
    from stages.lib.strategies.anchored.penalty import attach

    lrs = dict.fromkeys(select(model, "all"), lr) | head_rates(model, lr)
    return [Phase(lrs, epochs, penalties=(partial(attach, strength=strength, lr=lr),))]
