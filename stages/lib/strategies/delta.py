"""Train the head alone, then fine-tune under a penalty on how far feature maps move (Li et al., DELTA, ICLR 2019)."""

from functools import partial
from typing import Literal

from pydantic import Field

from stages.lib.layers import head_rates, select
from stages.lib.strategies import Phase
from stages.lib.strict import Strict, Trainable, TrainableOrAll


class Knobs(Strict):
    probe_epochs: int = Field(ge=1)
    head_lr: float = Field(gt=0, le=10)
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    trainable: TrainableOrAll
    alpha: float = Field(ge=0)
    beta: float = Field(ge=0)
    blocks: int = Field(ge=1)
    attention_images: int = Field(ge=0)


def plan(
    model,
    *,
    probe_epochs: int,
    head_lr: float,
    epochs: int,
    lr: float,
    trainable: Trainable | Literal["all"],
    alpha: float,
    beta: float,
    blocks: int,
    attention_images: int,
) -> list[Phase]:
    """The head alone, whose loss then says which channels matter; then what `trainable` selects of the backbone ("all" for
    everything), and the head.

    Args:
        alpha, beta, blocks, attention_images: as in stages.lib.losses.delta.

    Raises:
        UserError: nothing of the backbone would be frozen (that is "all"), or nothing trained.
    """
    from stages.lib.losses.delta import attach  # here, because params are read without torch

    head = head_rates(model, head_lr)
    penalty = partial(attach, alpha=alpha, beta=beta, blocks=blocks, attention_images=attention_images)
    return [
        Phase(head, probe_epochs, plain=True),
        Phase(dict.fromkeys(select(model, trainable), lr) | head, epochs, penalties=(penalty,)),
    ]
