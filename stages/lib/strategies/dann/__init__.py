"""Fine-tune so that a discriminator cannot tell the features of two domains apart (Ganin et al., DANN, JMLR 2016)."""

from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.networks import layers
from stages.lib.params.fields import Strict, Trainable, TrainableOrAll
from stages.lib.strategies import _domains

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model

UNLABELLED = True
finish = _domains.finish


class Params(Strict):
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    head_lr: float = Field(gt=0, le=10)
    trainable: TrainableOrAll
    strength: float = Field(ge=0)
    gamma: float = Field(gt=0)
    hidden: int = Field(ge=1)
    discriminator_lr: float = Field(gt=0, le=10)
    select: Literal["loss", "information"]


def plan(
    model: "Model",
    *,
    epochs: int,
    lr: float,
    head_lr: float,
    trainable: Trainable | Literal["all"],
    strength: float,
    gamma: float,
    hidden: int,
    discriminator_lr: float,
    select: str,
) -> list[Phase]:
    """One phase that trains the part of the backbone that `trainable` selects ("all" for everything), and the head.

    Args:
        strength, gamma, hidden, discriminator_lr: as in stages.lib.strategies.dann.penalty.
        select: what chooses the epoch, as in stages.lib.core.contracts.Phase.

    Raises:
        UserError: no part of the backbone would be frozen (use "all" for that), or none trained.
    """
    from stages.lib.strategies.dann.penalty import attach  # here, because params are read without importing torch

    lrs = dict.fromkeys(layers.select(model, trainable), lr) | layers.head_rates(model, head_lr)
    penalty = partial(attach, strength=strength, gamma=gamma, hidden=hidden, lr=discriminator_lr)
    return [Phase(lrs, epochs, penalties=(penalty,), select=select)]
