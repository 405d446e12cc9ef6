"""Train a new head on the frozen backbone, whose features are computed once (Donahue et al., DeCAF, ICML 2014)."""

from pydantic import Field

from stages.lib.layers import head_rates
from stages.lib.strategies import Phase
from stages.lib.strict import Strict

UNUSED = ("augment", "mixup", "cutmix")  # a feature computed once stands for one view of its image


class Knobs(Strict):
    epochs: int = Field(ge=1)
    head_lr: float = Field(gt=0, le=10)


def plan(model, *, epochs: int, head_lr: float) -> list[Phase]:
    """One phase that trains the head alone."""
    return [Phase(head_rates(model, head_lr), epochs, plain=True)]
