"""Train everything, the backbone more gently than the new head (Girshick et al., R-CNN, CVPR 2014)."""

from pydantic import Field

from stages.lib.strategies import Phase
from stages.lib.strict import Augment, Strict


class Knobs(Strict):
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    head_lr: float = Field(gt=0, le=10)
    augment: Augment


def plan(model, *, epochs: int, lr: float, head_lr: float, augment: str) -> list[Phase]:
    """One phase that trains every parameter: `lr` for the backbone, `head_lr` for the head."""
    lrs = {name: head_lr if name.startswith("head.") else lr for name, _ in model.named_parameters()}
    return [Phase(lrs, epochs, augment)]
