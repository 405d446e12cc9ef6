"""No training: the class whose mean feature is nearest (Mensink et al., TPAMI 2013; Snell et al., NeurIPS 2017)."""

from pydantic import Field

from stages.lib.strategies import NO_TRAINING, Phase
from stages.lib.strict import Strict

UNUSED = NO_TRAINING


class Knobs(Strict):
    temperature: float = Field(gt=0, le=10)


def head(*, num_examples: int, temperature: float) -> dict:
    """The head that holds a mean for each class, however many examples there are."""
    return {"kind": "prototype", "temperature": temperature}


def plan(model) -> list[Phase]:
    """Nothing is trained."""
    return []


def finish(fabric, model, *, start, train, val, batch_size: int) -> dict:
    """Average the features of the training images of each class."""
    from stages.lib.inference import compute_head  # here, because params are read without torch

    compute_head(fabric, model, train, batch_size)
    return {}
