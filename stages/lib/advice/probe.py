"""A linear probe on frozen features (N, D), the least that a training should reach. Pure and deterministic."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.lib.advice.transferability import checked

PROBE_C = 0.1  # inverse strength of the probe's L2 penalty: strong, as there are often more features than examples


def probe_accuracy(features: np.ndarray, labels: np.ndarray, *, folds: int, seed: int) -> np.ndarray:
    """Whether each example is classified correctly by a linear probe that was fitted without it.

    Logistic regression with an L2 penalty (PROBE_C) on features standardised over the examples it is fitted to, in
    stratified cross-validation; L-BFGS, because the penalty keeps the problem smooth and bounded for any shape. Unlike
    `transferability.knn_accuracy` it ignores groups: examples that resemble each other (of one patient) make it optimistic.

    Args:
        features: (N, D).
        labels: (N,) integers.
        folds: number of folds, 2 or more; fewer are used if a class has fewer examples, see `possible_folds`.
        seed: assigns examples to folds.

    Returns:
        (N,) bool. The only example of a class cannot be learned without it: it counts as wrong and is left out of all fits.

    Reference:
        Alain and Bengio, Understanding Intermediate Layers Using Linear Classifier Probes, 2016 (arXiv 1610.01644).
    """
    features, labels = checked(features, labels)
    folds = possible_folds(labels, folds)
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    able = np.flatnonzero(counts[index] >= 2)
    correct = np.zeros(len(labels), dtype=bool)
    if len(np.unique(index[able])) < 2:  # nothing to distinguish: the only class is always right
        correct[able] = True
        return correct
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32)
    for fitted, held in parts.split(able, index[able]):
        fitted, held = able[fitted], able[held]
        correct[held] = answers(features[fitted], index[fitted], features[held]) == index[held]
    return correct


def answers(features: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """What the linear probe of `probe_accuracy` answers.

    Args:
        features, labels: (N, D) and (N,), to fit it to; of one class alone, that is the answer.
        asked: (M, D).

    Returns:
        Labels (M,).
    """
    if len(np.unique(labels)) < 2:
        return np.full(len(asked), labels[0])
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_C, solver="lbfgs", max_iter=2000))
    found: np.ndarray = fitted.fit(features, labels).predict(asked)
    return found


def possible_folds(labels: np.ndarray, folds: int) -> int:
    """Number of folds in `probe_accuracy`: at most the size of the smallest class with two or more examples, at least 2."""
    if folds < 2:
        raise ValueError(f"folds must be 2 or more, not {folds}")
    counts = np.unique(labels, return_counts=True)[1]
    sizes: list[int] = counts[counts >= 2].tolist()
    return min([folds, *sizes])
