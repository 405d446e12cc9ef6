"""Fine-tune with a penalty on the distance from the starting point (Li et al., L2-SP, ICML 2018)."""

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
    alpha: float = Field(ge=0)
    beta: float = Field(ge=0)


def plan(
    model: "Model", *, epochs: int, lr: float, head_lr: float, trainable: Trainable | Literal["all"], alpha: float, beta: float
) -> list[Phase]:
    """One phase that trains the part of the backbone that `trainable` selects ("all" for everything), and the head.

    Args:
        alpha, beta: as in stages.lib.strategies.l2_sp.penalty.

    Raises:
        UserError: no part of the backbone would be frozen (use "all" for that), or none trained.
    """
    from stages.lib.strategies.l2_sp.penalty import attach  # here, because params are read without importing torch

    lrs = dict.fromkeys(select(model, trainable), lr) | head_rates(model, head_lr)
    return [Phase(lrs, epochs, penalties=(partial(attach, alpha=alpha, beta=beta),))]
