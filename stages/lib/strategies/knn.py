"""No training: the nearest training images decide (Wu et al., CVPR 2018; Caron et al., DINO, ICCV 2021)."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from stages.lib.core.contracts import NO_TRAINING, Phase
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    import pandas as pd

    from stages.lib.core.contracts import LoadedSplit
    from stages.lib.networks.backbones import Model

UNUSED = NO_TRAINING
HEAD = "knn"  # the task must support it


class Params(Strict):
    neighbours: int = Field(ge=1)
    temperature: float = Field(gt=0, le=10)


def head(*, num_examples: int, neighbours: int, temperature: float) -> dict[str, Any]:
    """The head that stores the features of all training images."""
    return {"kind": "knn", "neighbours": neighbours, "temperature": temperature, "num_examples": num_examples}


def plan(model: "Model") -> list[Phase]:
    """Nothing is trained."""
    return []


def finish(
    fabric: Any, model: "Model", *, start: Any, train: "LoadedSplit", val: "LoadedSplit", task: Any, batch_size: int
) -> dict[str, "pd.DataFrame"]:
    """Store the features of the training images in the head."""
    from stages.lib.networks.inference import compute_head  # here, because params are read without importing torch

    compute_head(fabric, model, train, batch_size)
    return {}
