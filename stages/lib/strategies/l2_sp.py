"""Fine-tune under a penalty on the distance from the starting point (Li et al., L2-SP, ICML 2018)."""

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
    alpha: float = Field(ge=0)
    beta: float = Field(ge=0)


def plan(
    model, *, epochs: int, lr: float, head_lr: float, trainable: Trainable | Literal["all"], alpha: float, beta: float
) -> list[Phase]:
    """One phase that trains what `trainable` selects of the backbone ("all" for everything), and the head.

    Args:
        alpha, beta: as in stages.lib.losses.l2_sp.

    Raises:
        UserError: nothing of the backbone would be frozen (that is "all"), or nothing trained.
    """
    from stages.lib.losses.l2_sp import attach  # here, because params are read without torch

    lrs = dict.fromkeys(select(model, trainable), lr) | head_rates(model, head_lr)
    return [Phase(lrs, epochs, penalties=(partial(attach, alpha=alpha, beta=beta),))]
