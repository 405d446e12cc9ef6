"""Train a part of the backbone and the head; freeze the rest (Yosinski et al., NeurIPS 2014)."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.networks.layers import head_rates, select
from stages.lib.params.fields import Strict, Trainable

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model


class Params(Strict):
    epochs: int = Field(ge=1)
    trainable: Trainable
    lr: float = Field(gt=0, le=10)
    head_lr: float = Field(gt=0, le=10)


def plan(model: "Model", *, epochs: int, trainable: Trainable, lr: float, head_lr: float) -> list[Phase]:
    """One phase that trains the part of the backbone that `trainable` selects, and the head.

    Raises:
        UserError: no part of the backbone would be frozen, or none trained.
    """
    return [Phase(dict.fromkeys(select(model, trainable), lr) | head_rates(model, head_lr), epochs)]
