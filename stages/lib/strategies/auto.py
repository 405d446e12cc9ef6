"""The strategy that the stage advise ranks first, of those that have a block."""

from typing import TYPE_CHECKING

from stages.lib.core.contracts import NO_TRAINING, Phase
from stages.lib.errors import UserError
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model

UNUSED = NO_TRAINING


class Params(Strict):
    """None of its own: those of the advised strategy count."""


def plan(model: "Model") -> list[Phase]:
    """Refuses, because the stage recipe has put the advised strategy in its place before any training.

    Raises:
        UserError: always; who asks has passed over the stage recipe.
    """
    raise UserError("strategy auto stands for the advised strategy. Run the stages advise and recipe first: dvc repro")
