"""Train the last blocks and the head; freeze what comes before (Yosinski et al., NeurIPS 2014)."""

from pydantic import Field

from stages.lib.errors import UserError
from stages.lib.strategies import Phase
from stages.lib.strict import Augment, Strict


class Knobs(Strict):
    epochs: int = Field(ge=1)
    blocks: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    head_lr: float = Field(gt=0, le=10)
    augment: Augment


def plan(model, *, epochs: int, blocks: int, lr: float, head_lr: float, augment: str) -> list[Phase]:
    """One phase that trains the last `blocks` blocks of the backbone and the head.

    Args:
        model: a model of stages.lib.backbones, whose `blocks()` define what a block is.
        blocks: how many blocks to train, counted from the head.

    Raises:
        UserError: the backbone has no more than `blocks` blocks, so that nothing would stay frozen.
    """
    names = model.blocks()
    if blocks >= len(names):
        raise UserError(
            f"strategy partial: blocks: {blocks} was given, but this backbone has {len(names)} blocks "
            f"({', '.join(names)}). Allowed: 1 to {len(names) - 1}; to train all of them use strategy full."
        )
    lrs = {f"backbone.{tensor}": lr for block in list(names)[-blocks:] for tensor in names[block]}
    lrs |= {f"head.{name}": head_lr for name, _ in model.head.named_parameters()}
    return [Phase(lrs, epochs, augment)]
