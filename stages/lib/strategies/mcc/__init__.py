"""Fine-tune so that the unlabelled domain is classified without confusing classes (Jin et al., MCC, ECCV 2020)."""

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
    temperature: float = Field(gt=0)


def plan(
    model: "Model",
    *,
    epochs: int,
    lr: float,
    head_lr: float,
    trainable: Trainable | Literal["all"],
    strength: float,
    temperature: float,
    select: str,
) -> list[Phase]:
    """The phase of stages.lib.strategies._domains, with the penalty of this strategy.

    Args:
        strength, temperature: as in stages.lib.strategies.mcc.penalty.
    """
    from stages.lib.strategies.mcc.penalty import attach  # here, because params are read without importing torch

    penalty = partial(attach, strength=strength, temperature=temperature)
    return _domains.phases(model, penalty, epochs=epochs, lr=lr, head_lr=head_lr, trainable=trainable, select=select)
