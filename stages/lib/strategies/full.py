"""Train everything, with separate learning rates for the backbone and the new head (Girshick et al., R-CNN, CVPR 2014)."""

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
    head_lr: float = Field(gt=0, le=10)


def plan(model: "Model", *, epochs: int, lr: float, head_lr: float) -> list[Phase]:
    """One phase that trains every parameter: `lr` for the backbone, `head_lr` for the head."""
    return [Phase(dict.fromkeys(select(model, "all"), lr) | head_rates(model, head_lr), epochs)]
