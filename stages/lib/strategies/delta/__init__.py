"""Train the head alone, then fine-tune with a penalty on the change of feature maps (Li et al., DELTA, ICLR 2019)."""

from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.networks.layers import head_rates, select
from stages.lib.params.fields import Strict, Trainable, TrainableOrAll

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model


class Params(Strict):
    probe_epochs: int = Field(ge=1)
    head_lr: float = Field(gt=0, le=10)
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    trainable: TrainableOrAll
    alpha: float = Field(ge=0)
    beta: float = Field(ge=0)
    blocks: int = Field(ge=1)
    attention_examples: int = Field(ge=0)


def plan(
    model: "Model",
    *,
    probe_epochs: int,
    head_lr: float,
    epochs: int,
    lr: float,
    trainable: Trainable | Literal["all"],
    alpha: float,
    beta: float,
    blocks: int,
    attention_examples: int,
) -> list[Phase]:
    """First the head alone, so that its loss shows which channels matter; then the part of the backbone that `trainable` selects
    ("all" for everything), and the head.

    Args:
        alpha, beta, blocks, attention_examples: as in stages.lib.strategies.delta.penalty.

    Raises:
        UserError: no part of the backbone would be frozen (use "all" for that), or none trained.
    """
    from stages.lib.strategies.delta.penalty import attach  # here, because params are read without importing torch

    head = head_rates(model, head_lr)
    penalty = partial(attach, alpha=alpha, beta=beta, blocks=blocks, attention_examples=attention_examples)
    return [
        Phase(head, probe_epochs, plain=True),
        Phase(dict.fromkeys(select(model, trainable), lr) | head, epochs, penalties=(penalty,)),
    ]
