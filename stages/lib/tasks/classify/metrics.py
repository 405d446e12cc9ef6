"""Metrics on weighted examples.

All take probabilities (N, C), labels (N,) as indices, and weights (B, N) of the examples, and return (B,). A row of ones gives
the value on the test set itself; other rows are resamples of it (stages.lib.evaluation.statistics), all measured at once.
"""

import numpy as np


def accuracy(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fraction of the examples whose most likely class is the true one."""
    return _ratio(weights @ (probabilities.argmax(1) == labels), weights.sum(1))


def balanced_accuracy(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean recall over classes; a class that is absent from a resample is left out of that mean."""
    return _mean_of_known(per_class(probabilities, labels, weights)["recall"])


def macro_f1(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean F1 over classes; a class that is neither present nor predicted in a resample is left out of that mean."""
    return _mean_of_known(per_class(probabilities, labels, weights)["f1"])


def auroc(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: of class 1 if there are two, else the mean over classes, each against the rest.

    A class that has no examples in a resample, or all of them, is left out of that mean.
    """
    return mean_auroc(auroc_per_class(probabilities, labels, weights))


def mean_auroc(areas: np.ndarray) -> np.ndarray:
    """`auroc` (B,) from the areas of each class (B, C)."""
    return areas[:, 1] if areas.shape[1] == 2 else _mean_of_known(areas)


def ece(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray, num_bins: int) -> np.ndarray:
    """Expected calibration error: the mean gap between confidence (of the most likely class) and accuracy.

    In bins with few examples chance alone causes a gap, so the value is too high for a well calibrated model, and
    higher still in a resample; see stages.lib.evaluation.statistics.interval.

    Args:
        num_bins: number of equal-width bins over 0 to 1, each open on the left and closed on the right.

    Reference:
        Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015; Guo et al., On
        Calibration of Modern Neural Networks, ICML 2017 (arXiv 1706.04599).
    """
    confidence, correct, bins = _binned(probabilities, labels, num_bins)
    gaps = _sum_by(weights * (correct - confidence), bins, num_bins)
    return _ratio(np.abs(gaps).sum(1), weights.sum(1))


# Building blocks of metrics.


def per_class(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, f1, false alarms (how many of the others are taken for it) and support of each class, (B, C) each.

    NaN: the precision of a class that is never predicted, the recall of one that has no examples, the f1 of one for which both
    hold, the false alarms of one that has all examples.
    """
    num_classes, predicted = probabilities.shape[1], probabilities.argmax(1)
    support, claimed = _sum_by(weights, labels, num_classes), _sum_by(weights, predicted, num_classes)
    hits = _sum_by(weights * (predicted == labels), labels, num_classes)
    return {
        "precision": _ratio(hits, claimed),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + claimed),
        "false_alarms": _ratio(claimed - hits, weights.sum(1, keepdims=True) - support),
        "support": support,
    }


def auroc_per_class(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest, (B, C); NaN if either has no examples.

    It is the probability that an example of the class gets a higher score than one of the rest; a tie counts half
    (Hanley and McNeil, Radiology 1982).
    """
    from scipy.sparse import csc_array  # here, because the served model needs this module and not its metrics

    drawn, total, columns = np.ascontiguousarray(weights.T), weights.sum(1), np.arange(len(labels) + 1)
    areas = []
    for index in range(probabilities.shape[1]):
        scores, positive = probabilities[:, index], labels == index
        # Each example of the rest falls between two scores of the class (even bins) or ties with one (odd bins).
        levels, own = np.unique(scores[positive], return_inverse=True)
        level = np.searchsorted(levels, scores)
        bins = 2 * level + (np.append(levels, np.inf)[level] == scores)
        rest = csc_array((~positive * 1.0, bins, columns), shape=(2 * len(levels) + 1, len(labels)))
        below = np.cumsum(rest @ drawn, axis=0)  # drawn examples of the rest in these bins and the lower ones
        mine = drawn[positive]
        won = (mine * (below[2 * own] + below[2 * own + 1])).sum(0) / 2
        num = mine.sum(0)
        areas.append(_ratio(won, num * (total - num)))
    return np.stack(areas, axis=1)


def confusion(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (C, C) of true class (row) and predicted class (column)."""
    return np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def reliability(probabilities: np.ndarray, labels: np.ndarray, num_bins: int) -> dict[str, np.ndarray]:
    """Mean confidence, accuracy and count of the examples in each bin of `ece`, (num_bins,) each; empty bins are nan."""
    confidence, correct, bins = _binned(probabilities, labels, num_bins)
    sums = [_sum_by(values[None], bins, num_bins)[0] for values in (confidence, correct, np.ones(len(labels)))]
    return {"confidence": _ratio(sums[0], sums[2]), "accuracy": _ratio(sums[1], sums[2]), "count": sums[2].astype(int)}


# Helpers.


def _binned(probabilities: np.ndarray, labels: np.ndarray, num_bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, whether it is correct, and the bin of each example."""
    confidence = probabilities.max(1)
    inner_edges = np.linspace(0, 1, num_bins + 1)[1:-1]
    return confidence, (probabilities.argmax(1) == labels).astype(float), np.searchsorted(inner_edges, confidence, side="left")


def _sum_by(values: np.ndarray, index: np.ndarray, num: int) -> np.ndarray:
    """Sum values (B, N) over the examples of each index (N,), giving (B, num)."""
    order = np.argsort(index, kind="stable")
    present, starts = np.unique(index[order], return_index=True)
    sums = np.zeros((len(values), num))
    sums[:, present] = np.add.reduceat(values[:, order], starts, axis=1)
    return sums


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where below is 0."""
    ratio: np.ndarray = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    return ratio


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the classes of (B, C), ignoring NaN."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(1), known.sum(1))
