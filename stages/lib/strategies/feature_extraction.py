"""Train a new head on the frozen backbone, whose features are computed once (Donahue et al., DeCAF, ICML 2014)."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.networks.layers import head_rates
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model

UNUSED = ("augment", "mixup", "cutmix")  # features are computed once, so there is only one view of each image


class Params(Strict):
    epochs: int = Field(ge=1)
    head_lr: float = Field(gt=0, le=10)


def plan(model: "Model", *, epochs: int, head_lr: float) -> list[Phase]:
    """One phase that trains only the head."""
    return [Phase(head_rates(model, head_lr), epochs, plain=True)]
