"""No training: the nearest training images decide (Wu et al., CVPR 2018; Caron et al., DINO, ICCV 2021)."""

from pydantic import Field

from stages.lib.strategies import NO_TRAINING, Phase
from stages.lib.strict import Strict

UNUSED = NO_TRAINING


class Knobs(Strict):
    neighbours: int = Field(ge=1)
    temperature: float = Field(gt=0, le=10)


def head(*, num_examples: int, neighbours: int, temperature: float) -> dict:
    """The head that holds the features of all training images."""
    return {"kind": "knn", "neighbours": neighbours, "temperature": temperature, "num_examples": num_examples}


def plan(model) -> list[Phase]:
    """Nothing is trained."""
    return []


def finish(fabric, model, *, start, train, val, batch_size: int) -> dict:
    """Fill the head with the features of the training images."""
    from stages.lib.inference import compute_head  # here, because params are read without torch

    compute_head(fabric, model, train, batch_size)
    return {}
