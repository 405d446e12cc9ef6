"""Is another preprocessing better than the card's? A comparison of features answers this before any training.

This is for sizes, and for networks and images of which BatchNorm's statistics say nothing (`remembered`). Features are computed
again with each common mistake (the modality's `variants`). A variant is suspicious if nearest neighbours classify the target's
examples better with it than with the card's preprocessing. The absence of a warning proves little: a wrong mean and std can cost
10 points of accuracy and go unnoticed here, and on 200 grey images of solar cells, EfficientNet-Lite0's features of raw pixels (0
to 255) had neighbours as good as those of the right inputs, within chance.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from stages.lib.core.contracts import Variant
from stages.lib.evaluation import statistics

CHUNK = 32  # examples compared at once
TOLERANCE = 1e-3  # inputs closer than this are the same; one grey level is 1 / 255 / std, about 0.004 or more


class Row(NamedTuple):
    """One variant compared with the card's preprocessing on the same examples."""

    name: str
    accuracy: float  # fraction of the examples classified correctly
    difference: float  # to the accuracy with the card's preprocessing
    lower: float  # bounds of the interval of the difference
    upper: float
    wins: bool  # whether the whole interval is above 0


def possible(
    variants: Mapping[str, Variant],
    on_card: Callable[[Any, dict[str, Any]], Any],
    packed: Any,
    preprocessing: dict[str, Any],
) -> dict[str, Variant]:
    """The variants whose outputs on these examples differ from the card's preprocessing and from each other.

    Args:
        variants: of a modality.
        on_card: the card's preprocessing, with the same arguments.
        packed: some examples, as `variants` take them.
        preprocessing: of a model's card.

    Returns:
        A subset of `variants`, in order. A network may reject another size (a vision transformer); the caller handles that.
    """
    kept: dict[str, Variant] = {}
    for name, variant in variants.items():
        if all(
            _differ(variant.prepare, other, packed, preprocessing) for other in [on_card, *(v.prepare for v in kept.values())]
        ):
            kept[name] = variant
    return kept


def compare(
    correct: Mapping[str, np.ndarray], *, groups: np.ndarray | None = None, confidence: float, num_resamples: int, seed: int
) -> list[Row]:
    """How much better each variant is than the card's preprocessing, and whether chance may explain it.

    Paired bootstrap over the examples. With M variants each interval has confidence 1 - (1 - confidence) / M
    (Bonferroni), so that a correct card is reported as worse than any of them with a probability of at most about
    (1 - confidence) / 2. That tail is thin: num_resamples should be at least 40 M / (1 - confidence).

    Two pseudo-examples, one better and one worse with the variant, are added to those drawn: without them, six differences that
    happen to have the same sign (1 in 64) would already give an interval above 0. The intervals cover the choice of examples,
    but not that the examples are also each other's neighbours.

    Args:
        correct: (N,) bool by name, from transferability.knn_accuracy: "card", and the variants.
        groups: (N,) examples of a group are drawn together, as in statistics.resample; or None.
        confidence: of all intervals together, 0 to 1.
        num_resamples: number of bootstrap samples.
        seed: decides what is drawn.

    Returns:
        One row per variant, in the given order. With a single group nothing can be concluded: the intervals are -1 to 1.

    Raises:
        KeyError: "card" is missing.

    Reference:
        Agresti and Min, Simple Improved Confidence Intervals for Comparing Matched Proportions, Statistics in Medicine
        2005, for the pseudo-examples.
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
    return [
        Row(name, float(accuracy), float(difference), float(low), float(high), bool(wins))
        for name, accuracy, difference, low, high, wins in numbers
    ]


def words(rows: list[Row], variants: Mapping[str, Variant], margin: float) -> list[str]:
    """The result of the comparison as warnings; none if the card's preprocessing seems right.

    Winning variants of one family give one warning: the best of them is probably the right one, and the others resemble it.

    Args:
        rows: from `compare`.
        variants: of the modality.
        margin: by how much a variant must be better to be reported, as a fraction of the examples. On data other than the
            training data, frozen features may be slightly better with a variant although the card is right.
    """
    found = sorted((row for row in rows if row.wins and row.difference > margin), key=lambda row: -row.difference)
    texts, families = [], set[str]()
    for row in sorted(found, key=lambda row: not variants[row.name].family):  # families first
        family = variants[row.name].family
        if family and family in families:
            continue
        families.add(family)
        others = [other for other in found if other is not row and family and variants[other.name].family == family]
        also = (
            f" (also better than the card's: {', '.join(f'{each.name}, {each.accuracy:.1%}' for each in others)})"
            if others
            else ""
        )
        texts.append(f"{_measured(row)}{also}. {variants[row.name].remedy}")
    return texts


def _measured(row: Row) -> str:
    return (
        f"Nearest neighbours on frozen features are right for {row.accuracy:.1%} of the training examples with {row.name}, and "
        f"for {row.accuracy - row.difference:.1%} with the preprocessing on the card"
    )


def _differ(one: Callable[..., Any], other: Callable[..., Any], packed: Any, preprocessing: dict[str, Any]) -> bool:
    """Whether two preprocessings give different numbers for any of the examples."""
    for start in range(0, len(packed), CHUNK):
        chunk = packed[start : start + CHUNK]
        batches = one(chunk, preprocessing), other(chunk, preprocessing)
        tensors = [(batch,) if isinstance(batch, torch.Tensor) else batch for batch in batches]
        for first, second in zip(*tensors, strict=True):
            if first.shape != second.shape or (first.float() - second.float()).abs().max() > TOLERANCE:
                return True
    return False
