"""Gradual unfreezing: first the head, then the blocks from the last to the first, a few more in each phase (Howard & Ruder,
ULMFiT, ACL 2018)."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.errors import UserError
from stages.lib.networks.layers import blocks, head_rates
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model


class Params(Strict):
    epochs: int = Field(ge=1)
    steps: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    head_lr: float = Field(gt=0, le=10)
    decay: float = Field(gt=0, le=1)


def plan(model: "Model", *, epochs: int, steps: int, lr: float, head_lr: float, decay: float) -> list[Phase]:
    """One phase for the head alone, then one per step, which trains everything unfrozen so far.

    Args:
        epochs: of each phase.
        steps: number of groups in which the blocks are unfrozen; their sizes differ by at most one block, and in the last
            step everything is trained.
        lr: of the first step, for both the blocks and the head (as in fastai's ULMFiT, where the head, already trained by
            then, has no separate learning rate).
        head_lr: of the phase that trains only the head.
        decay: each step's learning rate is that of the previous step times this.

    Raises:
        UserError: there are fewer blocks than steps.
    """
    named = blocks(model)
    if steps > len(named):
        raise UserError(
            f"strategy gradual: steps: {steps} was given, but this backbone has {len(named)} blocks ({', '.join(named)}), "
            f"and each step unfreezes at least one. Allowed: 1 to {len(named)}."
        )
    phases = [Phase(head_rates(model, head_lr), epochs, plain=True)]
    for step in range(steps):
        rate = lr * decay**step
        unfrozen = list(named)[-(len(named) * (step + 1) // steps) :]
        tensors = [tensor for block in unfrozen for tensor in named[block]]
        phases.append(Phase(dict.fromkeys(tensors, rate) | head_rates(model, rate), epochs))
    return phases
