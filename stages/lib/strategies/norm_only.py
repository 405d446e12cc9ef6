"""Train the scales and shifts of the backbone's normalisation layers, and the head (Frankle et al., Training BatchNorm and
Only BatchNorm, ICLR 2021)."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.errors import UserError
from stages.lib.networks.layers import head_rates, normalisations
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model


class Params(Strict):
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    head_lr: float = Field(gt=0, le=10)


def plan(model: "Model", *, epochs: int, lr: float, head_lr: float) -> list[Phase]:
    """One phase that trains the affine parameters of batch, layer, group and instance normalisation, and the head.

    Running statistics stay those that the frozen weights were trained with. (The paper's networks have random weights, and
    update their statistics; here that cost EfficientNet-Lite0 3 points on the validation images of the default task.)
    """
    return [Phase(dict.fromkeys(trained(model), lr) | head_rates(model, head_lr), epochs, statistics=False)]


def trained(model: "Model") -> list[str]:
    """The backbone's parameters that norm_only trains.

    Raises:
        UserError: the backbone has none.
    """
    owners = {name for name, module in model.backbone.named_modules() if isinstance(module, normalisations())}
    affine = [f"backbone.{name}" for name, _ in model.backbone.named_parameters() if name.rpartition(".")[0] in owners]
    if not affine:
        raise UserError("strategy norm_only: this backbone has no normalisation with parameters. Choose partial or bitfit.")
    return affine
