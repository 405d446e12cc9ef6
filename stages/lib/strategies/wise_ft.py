"""Linear probe, then everything, then a point on the straight line between the two (Wortsman et al., WiSE-FT, CVPR 2022)."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.lib.layers import head_rates
from stages.lib.strategies import Phase
from stages.lib.strict import Strict

if TYPE_CHECKING:
    import pandas as pd
    import torch


class Knobs(Strict):
    probe_epochs: int = Field(ge=1)
    head_lr: float = Field(gt=0, le=10)
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    num_alphas: int = Field(ge=2)


def plan(model, *, probe_epochs: int, head_lr: float, epochs: int, lr: float) -> list[Phase]:
    """The head alone, so that the starting point knows the classes; then everything."""
    everything = dict.fromkeys(dict(model.named_parameters()), lr)
    return [Phase(head_rates(model, head_lr), probe_epochs, plain=True), Phase(everything, epochs)]


def finish(fabric, model, *, start, train, val, batch_size: int, num_alphas: int) -> "dict[str, pd.DataFrame]":
    """Keep (1 - alpha) * start + alpha * fine-tuned, with the alpha whose loss on `val` is lowest.

    The earlier task is forgotten less towards alpha = 0. Statistics of normalisations are interpolated like weights,
    which the paper's networks have none of; between the ends a BatchNorm network may therefore do worse than either.

    Args:
        start: tensors of the probed starting point.
        num_alphas: points from 0 to 1, both included.

    Returns:
        "alpha": a row for each alpha with val_loss, val_accuracy, and whether it was kept.
    """
    import pandas as pd  # here, because params are read without torch
    from torch.nn.functional import cross_entropy

    from stages.lib.inference import predict

    tuned = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    rows = []
    for index in range(num_alphas):
        alpha = index / (num_alphas - 1)
        model.load_state_dict(between(start, tuned, alpha))
        logits = predict(model, val, batch_size)
        accuracy = (logits.argmax(1) == val.labels).float().mean().item()
        rows.append({"alpha": alpha, "val_loss": cross_entropy(logits, val.labels).item(), "val_accuracy": accuracy})
    kept = min(rows, key=lambda row: row["val_loss"])
    model.load_state_dict(between(start, tuned, kept["alpha"]))
    return {"alpha": pd.DataFrame([row | {"kept": row is kept} for row in rows])}


def between(start: "dict[str, torch.Tensor]", end: "dict[str, torch.Tensor]", alpha: float) -> "dict[str, torch.Tensor]":
    """Tensors on the line from start (alpha 0) to end (alpha 1), exact at both; counters are those of the end."""
    import torch

    mixed = {}
    for name, last in end.items():
        first = start[name].to(last.device)
        mixed[name] = torch.lerp(first, last, alpha) if last.is_floating_point() else last
    return mixed
