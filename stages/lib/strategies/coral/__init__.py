"""Fine-tune so that the features of two domains have the same covariance (Sun and Saenko, Deep CORAL, ECCV 2016)."""

from functools import partial
from typing import TYPE_CHECKING, Literal

from stages.lib.core.contracts import Phase
from stages.lib.params.fields import Trainable
from stages.lib.strategies import _domains

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model

UNLABELLED = True
finish = _domains.finish


Params = _domains.Params


def plan(
    model: "Model",
    *,
    epochs: int,
    lr: float,
    head_lr: float,
    trainable: Trainable | Literal["all"],
    strength: float,
    select: str,
) -> list[Phase]:
    """The phase of stages.lib.strategies._domains, with the penalty of this strategy.

    Args:
        strength: as in stages.lib.strategies.coral.penalty.
    """
    from stages.lib.strategies.coral.penalty import attach  # here, because params are read without importing torch

    penalty = partial(attach, strength=strength)
    return _domains.phases(model, penalty, epochs=epochs, lr=lr, head_lr=head_lr, trainable=trainable, select=select)
