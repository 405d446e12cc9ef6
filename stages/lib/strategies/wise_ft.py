"""Linear probing, then fine-tuning, then interpolation between the two models (Wortsman et al., WiSE-FT, CVPR 2022)."""

from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import Field

from stages.lib.core.contracts import Phase
from stages.lib.networks.layers import head_rates
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from stages.lib.core.contracts import LoadedSplit
    from stages.lib.networks.backbones import Model


class Params(Strict):
    probe_epochs: int = Field(ge=1)
    head_lr: float = Field(gt=0, le=10)
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    num_alphas: int = Field(ge=2)


def plan(model: "Model", *, probe_epochs: int, head_lr: float, epochs: int, lr: float) -> list[Phase]:
    """First the head alone, so that the starting point knows the classes; then everything."""
    everything = dict.fromkeys(dict(model.named_parameters()), lr)
    return [Phase(head_rates(model, head_lr), probe_epochs, plain=True), Phase(everything, epochs)]


def finish(
    fabric: Any,
    model: "Model",
    *,
    start: "dict[str, torch.Tensor]",
    train: "LoadedSplit",
    val: "LoadedSplit",
    task: ModuleType,
    batch_size: int,
    num_alphas: int,
) -> dict[str, "pd.DataFrame"]:
    """Keep (1 - alpha) * start + alpha * fine-tuned, with the alpha whose loss on `val` is lowest.

    The closer alpha is to 0, the less the earlier task is forgotten. Running statistics are interpolated like weights; the
    paper's networks have none, and between the ends a BatchNorm network may therefore do worse than at either end.

    Args:
        start: tensors of the probed starting point.
        num_alphas: number of points from 0 to 1, both included.

    Returns:
        "alpha": one row per alpha with the metrics on `val` (val_loss and others), and whether it was kept.
    """
    import pandas as pd  # here, to keep reading params fast

    from stages.lib.networks.inference import predict
    from stages.lib.networks.interpolation import between

    tuned = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    rows = []
    for index in range(num_alphas):
        alpha = index / (num_alphas - 1)
        model.load_state_dict(between(start, tuned, alpha))
        figures = task.figures(predict(model, val, batch_size), val.targets)
        rows.append({"alpha": alpha} | {f"val_{name}": value for name, value in figures.items()})
    kept = min(rows, key=lambda row: row["val_loss"])
    model.load_state_dict(between(start, tuned, kept["alpha"]))
    return {"alpha": pd.DataFrame([row | {"kept": row is kept} for row in rows])}
