"""What the strategies of domain adaptation share: their params, their one phase, and how far apart the domains are."""

from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from stages.lib.core.contracts import Penalty, Phase
from stages.lib.networks import layers
from stages.lib.params.fields import Strict, Trainable, TrainableOrAll

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from stages.lib.core.contracts import LoadedSplit
    from stages.lib.networks.backbones import Model

MEASURED, SHOWN = 1000, 200  # examples of each domain, evenly spaced in its training split, which is often sorted by class


class Params(Strict):
    """Params of each; one may add its own."""

    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, le=10)
    head_lr: float = Field(gt=0, le=10)
    trainable: TrainableOrAll
    strength: float = Field(ge=0)
    select: Literal["loss", "information"]


def phases(
    model: "Model",
    penalty: Penalty,
    *,
    epochs: int,
    lr: float,
    head_lr: float,
    trainable: Trainable | Literal["all"],
    select: str,
) -> list[Phase]:
    """One phase that trains the part of the backbone that `trainable` selects ("all" for everything), and the head.

    Args:
        select: what chooses the epoch, as in stages.lib.core.contracts.Phase.

    Raises:
        UserError: no part of the backbone would be frozen (use "all" for that), or none trained.
    """
    lrs = dict.fromkeys(layers.select(model, trainable), lr) | layers.head_rates(model, head_lr)
    return [Phase(lrs, epochs, penalties=(penalty,), select=select)]


def finish(
    fabric: Any,
    model: "Model",
    *,
    start: "dict[str, torch.Tensor]",
    train: "LoadedSplit",
    val: "LoadedSplit",
    unlabelled: "LoadedSplit",
    task: ModuleType,
    batch_size: int,
) -> "dict[str, pd.DataFrame]":
    """How well a linear classifier tells the domains apart by the features, and where their examples lie.

    Args:
        model: after training; unchanged when this returns.
        start: its tensors before training.
        train, unlabelled: the training examples of the two domains.
        val, task: not used.

    Returns:
        "domains": one row each for before and after, with told_apart (the domain accuracy) and a_distance, as below.
        "domain_points": model (before, after), domain (labelled, unlabelled), and x and y, the two principal components of the
        features of both domains.
    """
    import pandas as pd
    import torch

    from stages.lib.core.contracts import part
    from stages.lib.networks.inference import features

    trained = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    sides = [part(split, torch.arange(num := min(MEASURED, len(split.targets))) * len(split.targets) // num)
             for split in (train, unlabelled)]  # fmt: skip
    rows, points = [], []
    for name, tensors in (("before", start), ("after", trained)):
        model.load_state_dict(tensors)
        one, other = (
            features(fabric, model, side, batch_size).inputs(torch.arange(len(side.targets)), "none", None).cpu().double().numpy()
            for side in sides
        )
        share = told_apart(one, other)
        rows.append({"model": name, "told_apart": share, "a_distance": a_distance(share)})
        one, other = one[:: -(-len(one) // SHOWN)], other[:: -(-len(other) // SHOWN)]
        for domain, place in zip(["labelled"] * len(one) + ["unlabelled"] * len(other), plane(one, other), strict=True):
            points.append({"model": name, "domain": domain, "x": place[0], "y": place[1]})
    return {"domains": pd.DataFrame(rows), "domain_points": pd.DataFrame(points)}


def told_apart(one: "np.ndarray", other: "np.ndarray") -> float:
    """How often a linear classifier that was fitted to a random half of the examples tells the domain of the others; both domains
    count equally, so guessing gives 0.5.

    Args:
        one, other: features (N, D) and (M, D).
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values, domains = np.concatenate([one, other]), np.repeat([0, 1], [len(one), len(other)])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    order = np.random.default_rng(0).permutation(len(values))
    fitted, judged = order[::2], order[1::2]
    classifier.fit(values[fitted], domains[fitted])
    return float(balanced_accuracy_score(domains[judged], classifier.predict(values[judged])))


def a_distance(accuracy: float) -> float:
    """The proxy A-distance, 2 * (1 - 2 * error): 0 where no linear classifier tells the domains apart, 2 where it always does.

    Reference:
        Ben-David et al., Analysis of Representations for Domain Adaptation, NIPS 2006.
    """
    return max(0.0, 2 * (1 - 2 * (1 - accuracy)))


def plane(one: "np.ndarray", other: "np.ndarray") -> "np.ndarray":
    """The first two principal components (N + M, 2) of both together, with fixed signs: equal features give equal places."""
    import numpy as np

    values = np.concatenate([one, other])
    values = values - values.mean(0)
    _, _, axes = np.linalg.svd(values, full_matrices=False)
    axes = np.pad(axes[:2], ((0, 2 - len(axes[:2])), (0, 0)))
    largest = axes[np.arange(2), np.abs(axes).argmax(1)]
    places: np.ndarray = values @ (axes * np.where(largest < 0, -1, 1)[:, None]).T
    return places
