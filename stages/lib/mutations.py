"""Is this the preprocessing that the weights were trained with? Features of other ones say so before any training.

Wrong mean and std, or swapped channels, raise no error: the network answers, only worse. So features are made once more
with each usual mistake, and one that makes the nearest neighbours of the target's own images better than the card's
preprocessing does is suspicious. Silence is no proof: on 200 grey images of solar cells EfficientNet-Lite0's features of raw
pixels (0 to 255) had neighbours as good as those of the right inputs, within chance.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import interpolate

from stages.lib import statistics
from stages.lib.images import to_network

CHUNK = 32  # images compared at once
TOLERANCE = 1e-3  # inputs nearer than this are the same; one grey level is 1 / 255 / std, about 0.004 or more

# What the weights may have been trained with instead, as mean and std of a card.
NORMALISATIONS = {
    "no normalisation": ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
    "mean and std 0.5": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    "ImageNet mean and std": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "0 to 255": ([0.0, 0.0, 0.0], [1 / 255, 1 / 255, 1 / 255]),
}
TRAINED_SIZE = "the size the weights were trained at"


def as_on_card(images: torch.Tensor, preprocessing: dict) -> torch.Tensor:
    """The right preprocessing, with the same arguments as a mutation: (N, H, W, 3) uint8 to (N, 3, H, W) float32."""
    return to_network(images, preprocessing["mean"], preprocessing["std"])


def _normalised(mean: list[float], std: list[float]) -> Callable:
    return lambda images, preprocessing: to_network(images, mean, std)


def _bgr(images: torch.Tensor, preprocessing: dict) -> torch.Tensor:
    """As where training read its images with OpenCV and did not turn them: grey images stay the same."""
    return as_on_card(images.flip(-1), preprocessing)


def _trained_size(images: torch.Tensor, preprocessing: dict) -> torch.Tensor:
    return _resized(as_on_card(images, preprocessing), [preprocessing["px"]] * 2)


def _half_size(images: torch.Tensor, preprocessing: dict) -> torch.Tensor:
    return _resized(as_on_card(images, preprocessing), [max(1, side // 2) for side in images.shape[1:3]])


def _resized(inputs: torch.Tensor, sides: list[int]) -> torch.Tensor:
    if list(inputs.shape[2:]) == sides:
        return inputs
    return interpolate(inputs, sides, mode="bilinear", align_corners=False, antialias=True)


# Each takes (N, H, W, 3) uint8 and a card's preprocessing (mean, std, px) and gives (N, 3, H', W') float32.
MUTATIONS: dict[str, Callable[[torch.Tensor, dict], torch.Tensor]] = {
    **{name: _normalised(mean, std) for name, (mean, std) in NORMALISATIONS.items()},
    "BGR": _bgr,
    TRAINED_SIZE: _trained_size,
    "half size": _half_size,
}


class Row(NamedTuple):
    """One mutation against the card's preprocessing, on the same examples."""

    name: str
    accuracy: float  # share of the examples that are correct
    difference: float  # to the accuracy with the card's preprocessing
    lower: float  # ends of the interval of the difference
    upper: float
    wins: bool  # the whole interval is above 0


def mutations_for(images: torch.Tensor, preprocessing: dict) -> dict[str, Callable[[torch.Tensor, dict], torch.Tensor]]:
    """The mutations that give other numbers than the card's preprocessing, and than each other, on these images.

    Args:
        images: (N, H, W, 3) uint8.
        preprocessing: of a model's card: mean, std and px.

    Returns:
        A part of MUTATIONS, in its order. A network may refuse another size (a vision transformer): that is the caller's.
    """
    kept = {}
    for name, mutation in MUTATIONS.items():
        if all(_differ(mutation, other, images, preprocessing) for other in [as_on_card, *kept.values()]):
            kept[name] = mutation
    return kept


def compare(
    correct: dict[str, np.ndarray], *, groups: np.ndarray | None = None, confidence: float, num_resamples: int, seed: int
) -> list[Row]:
    """How much better each mutation is than the card's preprocessing, and whether chance may explain it.

    Paired bootstrap over the examples. With M mutations each interval has confidence 1 - (1 - confidence) / M
    (Bonferroni), so that a right card is told to be worse than any of them with a probability of at most about
    (1 - confidence) / 2. That tail is thin: num_resamples should be 40 M / (1 - confidence) or more.

    Two made-up examples, one better and one worse with the mutation, are among those drawn: else six differences that happen
    to be of one sign (1 in 64) already give an interval above 0. The intervals cover the choice of examples; that
    they are also each other's neighbours is left out.

    Args:
        correct: (N,) bool by name, from transferability.knn_accuracy: "card", and the mutations.
        groups: (N,) what is drawn together, as in statistics.resample, or None.
        confidence: of all intervals together, 0 to 1.
        num_resamples: bootstrap samples.
        seed: decides what is drawn.

    Returns:
        A row for each mutation, in the order given. Examples of one group only say nothing: their intervals are -1 to 1.

    Raises:
        KeyError: "card" is missing.

    Reference:
        Agresti and Min, Simple Improved Confidence Intervals for Comparing Matched Proportions, Statistics in Medicine
        2005, for the made-up examples.
    """
    card = np.asarray(correct["card"], dtype=float)
    names = [name for name in correct if name != "card"]
    if not names:
        return []
    differences = np.stack([np.asarray(correct[name], dtype=float) - card for name in names], axis=1)
    values = differences.mean(0)
    if len(card) < 2 or (groups is not None and (groups != "").all() and len(set(groups)) < 2):
        lower, upper = np.full(len(names), -1.0), np.full(len(names), 1.0)
    else:
        drawn = np.concatenate([differences, np.ones((1, len(names))), -np.ones((1, len(names)))])
        groups = None if groups is None else np.concatenate([np.asarray(groups, dtype=object), ["", ""]])
        _, samples = statistics.bootstrap(
            lambda weights: {"": weights @ drawn / weights.sum(1, keepdims=True)}, groups,
            num_examples=len(drawn), num_resamples=num_resamples, seed=seed,
        )  # fmt: skip
        lower, upper = statistics.interval(samples[""], 1 - (1 - confidence) / len(names))
        lower, upper = np.minimum(lower, values), np.maximum(upper, values)
    numbers = zip(names, values + card.mean(), values, lower, upper, lower > 0, strict=True)
    return [Row(name, *map(float, each), wins=bool(wins)) for name, *each, wins in numbers]


def words(rows: list[Row], margin: float) -> list[str]:
    """What the comparison says, as warnings; none where the card's preprocessing holds.

    Normalisations that win are one warning, for the best of them is probably the right one and the others come near it.

    Args:
        rows: from `compare`.
        margin: share of the examples, 0 to 1, by which a mutation must be better to be told. Frozen features of other
            images than those of the training may like a mutation somewhat better although the card is right.
    """
    found = sorted((row for row in rows if row.wins and row.difference > margin), key=lambda row: -row.difference)
    normalisations = [row for row in found if row.name in NORMALISATIONS]
    texts = [_of_normalisation(*normalisations)] if normalisations else []
    return texts + [_of(row) for row in found if row.name not in NORMALISATIONS]


def _of_normalisation(best: Row, *others: Row) -> str:
    mean, std = NORMALISATIONS[best.name]
    also = f" (better than the card's, too: {', '.join(f'{row.name}, {row.accuracy:.1%}' for row in others)})" if others else ""
    return (
        f"{_measured(best)}{also}. The weights were probably trained with {best.name}, and not with the mean and std on their "
        f"card. Look up how they were trained; if so, set source.<name>.preprocessing.mean to {_numbers(mean)} and "
        f"source.<name>.preprocessing.std to {_numbers(std)}."
    )


def _of(row: Row) -> str:
    if row.name == "BGR":
        return (
            f"{_measured(row)}. The weights were probably trained with channels in the order blue, green, red, and this pipeline "
            "gives red, green, blue. Look up how they were trained; if so, reverse the input channels of the first convolution "
            "in their file (weight.flip(1)), and source.<name>.preprocessing.mean and std with them."
        )
    if row.name == TRAINED_SIZE:
        return (
            f"{_measured(row)}. This does not mean that the card is wrong: these features are better at the side of "
            "source.<name>.preprocessing.px. Consider that value for datasets.<name>.px, if the time that it takes allows it."
        )
    return (
        f"{_measured(row)}. This does not mean that the card is wrong: what tells the classes apart may be coarse, or near the "
        "scale of the images that the weights were trained on. Consider a smaller datasets.<name>.px, which also takes less time."
    )


def _measured(row: Row) -> str:
    return (
        f"Nearest neighbours on frozen features are right for {row.accuracy:.1%} of the training images with {row.name}, and "
        f"for {row.accuracy - row.difference:.1%} with the preprocessing on the card"
    )


def _numbers(values: list[float]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"


def _differ(one: Callable, other: Callable, images: torch.Tensor, preprocessing: dict) -> bool:
    """Whether two ways of preprocessing give other numbers on any of the images."""
    for chunk in images.split(CHUNK):
        first, second = one(chunk, preprocessing), other(chunk, preprocessing)
        if first.shape != second.shape or (first - second).abs().max() > TOLERANCE:
            return True
    return False
