"""No training: the class whose mean feature is nearest (Mensink et al., TPAMI 2013; Snell et al., NeurIPS 2017)."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from stages.lib.core.contracts import NO_TRAINING, Phase
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    import pandas as pd

    from stages.lib.core.contracts import LoadedSplit
    from stages.lib.networks.backbones import Model

UNUSED = NO_TRAINING
HEAD = "prototype"  # the task must support it


class Params(Strict):
    temperature: float = Field(gt=0, le=10)


def head(*, num_examples: int, temperature: float) -> dict[str, Any]:
    """The head that stores one mean per class, whatever the number of examples."""
    return {"kind": "prototype", "temperature": temperature}


def plan(model: "Model") -> list[Phase]:
    """Nothing is trained."""
    return []


def finish(
    fabric: Any, model: "Model", *, start: Any, train: "LoadedSplit", val: "LoadedSplit", task: Any, batch_size: int
) -> dict[str, "pd.DataFrame"]:
    """Average the features of the training images per class."""
    from stages.lib.networks.inference import compute_head  # here, because params are read without importing torch

    compute_head(fabric, model, train, batch_size)
    return {}
