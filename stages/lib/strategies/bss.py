"""Fine-tune under a penalty on the smallest singular values of the features (Chen et al., BSS, NeurIPS 2019)."""

from functools import partial
from typing import Literal

from pydantic import Field

from stages.lib.layers import head_rates, select
from stages.lib.strategies import Phase
from stages.lib.strict import Strict, Trainable, TrainableOrAll


class Knobs(Strict):
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    head_lr: float = Field(gt=0, le=10)
    trainable: TrainableOrAll
    eta: float = Field(ge=0)
    k: int = Field(ge=1)


def plan(
    model, *, epochs: int, lr: float, head_lr: float, trainable: Trainable | Literal["all"], eta: float, k: int
) -> list[Phase]:
    """One phase that trains what `trainable` selects of the backbone ("all" for everything), and the head.

    Args:
        eta, k: as in stages.lib.losses.bss.

    Raises:
        UserError: nothing of the backbone would be frozen (that is "all"), or nothing trained.
    """
    from stages.lib.losses.bss import attach  # here, because params are read without torch

    lrs = dict.fromkeys(select(model, trainable), lr) | head_rates(model, head_lr)
    return [Phase(lrs, epochs, penalties=(partial(attach, eta=eta, k=k),))]
