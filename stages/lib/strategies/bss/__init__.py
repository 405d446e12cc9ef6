"""Fine-tune with a penalty on the smallest singular values of the features (Chen et al., BSS, NeurIPS 2019)."""

from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.networks.layers import head_rates, select
from stages.lib.params.fields import Strict, Trainable, TrainableOrAll

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model


class Params(Strict):
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    head_lr: float = Field(gt=0, le=10)
    trainable: TrainableOrAll
    eta: float = Field(ge=0)
    k: int = Field(ge=1)


def plan(
    model: "Model", *, epochs: int, lr: float, head_lr: float, trainable: Trainable | Literal["all"], eta: float, k: int
) -> list[Phase]:
    """One phase that trains the part of the backbone that `trainable` selects ("all" for everything), and the head.

    Args:
        eta, k: as in stages.lib.strategies.bss.penalty.

    Raises:
        UserError: no part of the backbone would be frozen (use "all" for that), or none trained.
    """
    from stages.lib.strategies.bss.penalty import attach  # here, because params are read without importing torch

    lrs = dict.fromkeys(select(model, trainable), lr) | head_rates(model, head_lr)
    return [Phase(lrs, epochs, penalties=(partial(attach, eta=eta, k=k),))]
