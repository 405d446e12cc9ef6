"""The strategy that the stage advise ranks highest among those that have a block."""

from typing import TYPE_CHECKING

from stages.lib.core.contracts import NO_TRAINING, Phase
from stages.lib.errors import UserError
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    from stages.lib.networks.backbones import Model

UNUSED = NO_TRAINING


class Params(Strict):
    """None: the params of the advised strategy are used."""


def plan(model: "Model") -> list[Phase]:
    """Always fails, because the stage recipe replaces auto by the advised strategy before any training.

    Raises:
        UserError: always; the caller has skipped the stage recipe.
    """
    raise UserError("strategy auto stands for the advised strategy. Run the stages advise and recipe first: dvc repro")
