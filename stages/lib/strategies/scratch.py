"""The control: everything, from random weights (He et al., Rethinking ImageNet Pre-training, ICCV 2019)."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model


class Params(Strict):
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)


def plan(model: "Model", *, epochs: int, lr: float) -> list[Phase]:
    """One phase that trains every parameter with one learning rate: nothing here is pretrained and needs a lower one."""
    return [Phase(dict.fromkeys(dict(model.named_parameters()), lr), epochs)]
