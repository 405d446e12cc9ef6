"""Metrics on weighted texts.

All take predictions (N, W, 2), of which the first is the predicted tag, the right tags (N, W), and weights (B, N) of the texts,
and return (B,), as those of stages.lib.tasks.classify.metrics do. Each is a ratio of sums over the texts; 0 / 0 is 0, as in
conlleval and nervaluate.
"""

import numpy as np

from stages.lib.tasks.tag import entities


def entity_f1(predictions: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall of whole entities."""
    return _of_all("f1", predictions, targets, weights)


def entity_precision(predictions: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fraction of the predicted entities that are right in both ends and in their type."""
    return _of_all("precision", predictions, targets, weights)


def entity_recall(predictions: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fraction of the actual entities that were found with both ends and their type."""
    return _of_all("recall", predictions, targets, weights)


def token_accuracy(predictions: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fraction of the words whose tag is right; high even if no entity is found, because most words are in none."""
    same = (tags(predictions, targets) == targets) & (targets >= 0)
    return _ratio(weights @ same.sum(1), weights @ (targets >= 0).sum(1), 0.0)


# Building blocks of metrics.


def tags(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The predicted tag of each word of the targets (N, W), O where there is no prediction."""
    return entities.on_words(predictions[..., 0].astype(np.int64), targets)


def scores(totals: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and f1 (...) of right, predicted and actual entities (..., 3).

    Without any predicted entity, precision is 0, and without any actual one recall is; without either, nothing can be said of a
    type: NaN.
    """
    hits, claimed, actual = np.moveaxis(totals, -1, 0)
    nothing = np.where(claimed + actual > 0, 0.0, np.nan)
    return {
        "precision": _ratio(hits, claimed, nothing),
        "recall": _ratio(hits, actual, nothing),
        "f1": _ratio(2 * hits, claimed + actual, nothing),
    }


def _of_all(score: str, predictions: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """One of the scores for entities of all types together (B,)."""
    predicted = tags(predictions, targets)
    num_types = int(max(predicted.max(initial=0), targets.max(initial=0)) + 1) // 2
    totals = weights @ entities.counts(predicted, targets, num_types).sum(1)
    values: np.ndarray = np.nan_to_num(scores(totals)[score])
    return values


def _ratio(above: np.ndarray, below: np.ndarray, otherwise: np.ndarray | float) -> np.ndarray:
    """above / below, and something else where below is 0."""
    instead = np.broadcast_to(otherwise, np.shape(above)).astype(float)
    ratio: np.ndarray = np.divide(above, below, out=instead, where=below > 0)
    return ratio
