"""Train the backbone's bias vectors and the head (Ben Zaken et al., BitFit, ACL 2022)."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.errors import UserError
from stages.lib.networks.layers import head_rates
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model


class Params(Strict):
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    head_lr: float = Field(gt=0, le=10)


def plan(model: "Model", *, epochs: int, lr: float, head_lr: float) -> list[Phase]:
    """One phase that trains every bias of the backbone, including those of normalisation layers, and the whole head.

    Nothing else changes: running statistics stay those that the frozen weights were trained with. (Updating them cost
    EfficientNet-Lite0 7 points on the validation images of the default task.)
    """
    return [Phase(dict.fromkeys(trained(model), lr) | head_rates(model, head_lr), epochs, statistics=False)]


def trained(model: "Model") -> list[str]:
    """The backbone's parameters that bitfit trains.

    Raises:
        UserError: the backbone has no biases.
    """
    # Matched by the end of the name, because attention modules have several (in_proj_bias, q_bias).
    biases = [
        f"backbone.{name}"
        for name, parameter in model.backbone.named_parameters()
        if name.endswith("bias") and parameter.ndim == 1
    ]
    if not biases:
        raise UserError("strategy bitfit: this backbone has no bias vectors to train. Choose partial or norm_only.")
    return biases
