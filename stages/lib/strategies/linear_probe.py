"""The best linear head on the frozen backbone, found at once: multinomial logistic regression with an L2 penalty, which has one
optimum and no learning rate (Kornblith et al., Do Better ImageNet Models Transfer Better?, CVPR 2019)."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from stages.lib.core.contracts import NO_TRAINING, Phase
from stages.lib.params.fields import Strict, none_twice

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    import pandas as pd
    import torch

    from stages.lib.core.contracts import LoadedSplit
    from stages.lib.networks.backbones import Model
    from stages.lib.params.schema import TrainingOptions

UNUSED = tuple(name for name in NO_TRAINING if name != "balance")
TASKS = ("classify",)  # in another task the loss is not that of a logistic regression

TOLERANCE, MOST_ITERATIONS = 1e-6, 10_000  # of L-BFGS for one strength: the largest gradient with which it ends, and much later


class Params(Strict):
    l2: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1), AfterValidator(none_twice)]


def head(*, num_examples: int) -> dict[str, Any]:
    """A linear layer without hidden units, whatever `training.head` says, or the problem would not be convex."""
    return {"kind": "linear", "hidden": 0, "dropout": 0.0, "zero": True}


def plan(model: "Model") -> list[Phase]:
    """No steps: `finish` computes the head."""
    return []


def computed(model: "Model") -> list[str]:
    """The parameters that `finish` computes."""
    return [name for name, _ in model.named_parameters() if name.startswith("head.")]


def finish(
    fabric: Any, model: "Model", *, start: Any, train: "LoadedSplit", val: "LoadedSplit", task: "ModuleType", batch_size: int,
    options: "TrainingOptions", l2: list[float],
) -> "dict[str, pd.DataFrame]":  # fmt: skip
    """Fit the head with every strength of the penalty, and keep the one whose loss on `val` is lowest.

    Features are centred and divided by one number, their root mean square deviation over the training examples, so that a
    strength means the same for every network; the head that is kept takes them as they are. Each is not standardised by itself:
    those that hardly vary are mostly noise, and accuracy was lower (tests/benchmarks/README.md). With options.balance all classes
    count equally: a fit to all examples at once weighs them, where training in steps may also draw them.

    Args:
        l2: strengths; of `strength / 2 * squared norm of the weights` beside the mean loss. The bias is free.

    Returns:
        "l2": a row for each strength with the metrics on `val` (val_loss and others), and whether it was kept.
    """
    import pandas as pd  # here, because params are read without importing any of these
    import torch
    from sklearn.linear_model import LogisticRegression

    from stages.lib.networks.inference import features

    known, asked = (
        features(fabric, model, split, batch_size).inputs(torch.arange(len(split.targets)), "none", None).double().cpu()
        for split in (train, val)
    )
    labels, mean = train.targets.cpu().numpy(), known.mean(0)
    scale = (known - mean).square().mean().sqrt() or torch.ones(())
    weights = None if options.balance == "none" else "balanced"
    probe = LogisticRegression(warm_start=True, class_weight=weights, tol=TOLERANCE, max_iter=MOST_ITERATIONS)  # L-BFGS
    rows, heads = [], []
    for strength in sorted(l2, reverse=True):  # from the strongest to the weakest, each starting from the one before it
        probe.set_params(C=1 / (strength * len(labels))).fit(((known - mean) / scale).numpy(), labels)
        heads.append(_head(probe, mean.numpy(), scale.item()))
        figures = task.figures(asked @ heads[-1][0].T + heads[-1][1], val.targets.cpu())
        rows.append({"l2": strength} | {f"val_{name}": value for name, value in figures.items()})
    kept = min(range(len(rows)), key=lambda index: rows[index]["val_loss"])
    layer: Any = model.head
    with torch.no_grad():
        for tensor, value in zip((layer.weight, layer.bias), heads[kept], strict=True):
            tensor.copy_(value)
    return {"l2": pd.DataFrame([row | {"kept": index == kept} for index, row in enumerate(rows)])}


def _head(probe: Any, mean: "np.ndarray", scale: float) -> "tuple[torch.Tensor, torch.Tensor]":
    """Weight (C, D) and bias (C,) for features that are neither centred nor divided."""
    import numpy as np
    import torch

    weight, bias = probe.coef_, probe.intercept_
    if len(weight) == 1:  # of two classes scikit-learn gives the difference, which softmax needs apart
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale
    return torch.from_numpy(weight), torch.from_numpy(bias - weight @ mean)
