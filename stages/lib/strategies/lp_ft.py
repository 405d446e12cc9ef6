"""Linear probing, then fine-tuning, so that a random head does not distort the features (Kumar et al., ICLR 2022)."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.networks.layers import head_rates, select
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model


class Params(Strict):
    probe_epochs: int = Field(ge=1)
    head_lr: float = Field(gt=0, le=10)
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)


def plan(model: "Model", *, probe_epochs: int, head_lr: float, epochs: int, lr: float) -> list[Phase]:
    """First the head alone with `head_lr`, then everything, including the head, with `lr`."""
    probe = Phase(head_rates(model, head_lr), probe_epochs, plain=True)
    return [probe, Phase(dict.fromkeys(select(model, "all"), lr) | head_rates(model, lr), epochs)]
