"""The strategy that the stage advise ranks first, of those that have a block."""

from stages.lib.errors import UserError
from stages.lib.strategies import NO_TRAINING, Phase
from stages.lib.strict import Strict

UNUSED = NO_TRAINING


class Knobs(Strict):
    """None of its own: those of the advised strategy count."""


def plan(model) -> list[Phase]:
    """Refuses, because the stage recipe has put the advised strategy in its place before any training.

    Raises:
        UserError: always; who asks has passed over the stage recipe.
    """
    raise UserError("strategy auto stands for the advised strategy. Run the stages advise and recipe first: dvc repro")
