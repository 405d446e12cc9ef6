"""Fine-tune so that a discriminator cannot tell the features of two domains apart (Ganin et al., DANN, JMLR 2016)."""

from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.params.fields import Trainable
from stages.lib.strategies import _domains

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model

UNLABELLED = True
finish = _domains.finish


class Params(_domains.Params):
    gamma: float = Field(gt=0)
    hidden: int = Field(ge=1)
    discriminator_lr: float = Field(gt=0, le=10)


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
    """The phase of stages.lib.strategies._domains, with the penalty of this strategy.

    Args:
        strength, gamma, hidden, discriminator_lr: as in stages.lib.strategies.dann.penalty.
    """
    from stages.lib.strategies.dann.penalty import attach  # here, because params are read without importing torch

    penalty = partial(attach, strength=strength, gamma=gamma, hidden=hidden, lr=discriminator_lr)
    return _domains.phases(model, penalty, epochs=epochs, lr=lr, head_lr=head_lr, trainable=trainable, select=select)
