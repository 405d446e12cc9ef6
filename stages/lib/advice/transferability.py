"""Measures of frozen features (N, D) that predict transfer before any training. Every function is pure and deterministic.

Integer labels (N,) need not be 0, 1, 2, ...; a class without examples is unknown here and has no effect.
"""

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

ROWS = 1024  # examples whose similarities to all others are in memory at once
EXPONENTS = -12.0, 12.0  # of 10: the range in which `logme` searches for its ratio of precisions

# Measures per example, so that two kinds of features can be compared on the same examples.


def knn_accuracy(features: np.ndarray, labels: np.ndarray, *, k: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Whether each example is classified correctly by its k nearest neighbours among the others (leave one out).

    A neighbour's vote is weighted by its cosine similarity, or 0 if that is negative. If classes tie, the one with the nearest
    neighbour wins; if neighbours tie, those that come first in the data are used.

    Args:
        features: (N, D); a row of zeros is similar to nothing.
        labels: (N,) integers.
        k: number of neighbours that vote; all if there are fewer.
        groups: (N,) the group of each example (patient, module), or None. Examples of the same group do not vote, because
            they would make the features look better than they are; examples with "" belong to no group.

    Returns:
        (N,) bool. An example with no possible neighbour, or the only one of its class, counts as wrong.

    Reference:
        Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, section 3.4, with
        the similarity itself as the weight.
    """
    features, labels = checked(features, labels)
    if k < 1:
        raise ValueError(f"k must be 1 or more, not {k}")
    num = len(labels)
    units = np.arange(num) if groups is None else _units(np.asarray(groups))
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
    classes, index = np.unique(labels, return_inverse=True)
    predicted = np.full(num, -1)
    for start in range(0, num, ROWS):
        rows = np.arange(start, min(start + ROWS, num))
        similarity = (directions[rows] @ directions.T).round(12)  # so that equal values tie, whatever the summation order
        similarity[units[rows][:, None] == units] = -np.inf
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        similarity = np.take_along_axis(similarity, nearest, 1)
        of = index[nearest]
        votes = np.zeros((len(rows), len(classes)))
        np.add.at(votes, (np.arange(len(rows))[:, None], of), similarity.clip(min=0))
        total = np.take_along_axis(votes.round(9), of, 1)  # of each neighbour's class
        total[np.isneginf(similarity)] = -1
        best = total.argmax(1)[:, None]  # the nearest one if several are highest
        known = np.take_along_axis(total, best, 1) >= 0
        predicted[rows] = np.where(known, np.take_along_axis(of, best, 1), -1)[:, 0]
    correct: np.ndarray = predicted == index
    return correct


# One number for features and labels, to rank sources; higher is better.


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """Logarithm of the maximum evidence of a Bayesian linear model from features to one-hot labels.

    For each class, labels y (0 or 1) are F w plus noise, with w ~ N(0, I / alpha) and noise ~ N(0, I / beta); the
    evidence p(y | F, alpha, beta) at its maximum over alpha and beta says how well F explains y, penalised for the
    flexibility of the model. Rotating or scaling the features changes nothing; shifting them does, as there is no
    intercept. Values depend on N and on the class proportions: compare sources only on the same examples.

    Given the singular values of F, the evidence is a function of alpha / beta alone. Its maximum is searched for on a grid,
    which is then refined. If there are several local maxima, as is common for columns of unequal scale, the paper's fixed-point
    iteration from alpha = beta = 1 may end at the wrong one.

    Args:
        features: (N, D), also with D > N.
        labels: (N,) integers.

    Returns:
        The mean over classes of the log evidence per example, in nats. Labels that the features explain without any error would
        have infinite evidence; the limits in EXPONENTS keep it finite.

    Reference:
        You et al., LogME: Practical Assessment of Pre-trained Models for Transfer Learning, ICML 2021 (arXiv 2102.11005).
    """
    features, labels = checked(features, labels)
    num = len(labels)
    left, squares = _decompose(features, features)
    evidences = []
    for kind in np.unique(labels):
        target = (labels == kind).astype(float)
        inside = (left.T @ target) ** 2  # energy of the labels along each direction
        outside = max(0.0, target.sum() - inside.sum())  # energy that no direction explains

        def evidence(exponents: np.ndarray, inside: np.ndarray = inside, outside: float = outside) -> np.ndarray:
            """The evidence for each alpha / beta (G,), in units of the largest square."""
            ratio = 10 ** exponents[:, None] * squares.max(initial=0)
            errors = outside + (inside * ratio / (squares + ratio)).sum(1)  # squared errors + alpha / beta * |mean of w|^2
            penalty = np.log1p(squares / ratio).sum(1) / num
            nats: np.ndarray = 0.5 * (np.log(num / errors) - np.log(2 * np.pi) - 1 - penalty)  # at the best beta, num / errors
            return nats

        grid, step = np.linspace(*EXPONENTS, 97), (EXPONENTS[1] - EXPONENTS[0]) / 96
        for _ in range(8):
            best = grid[evidence(grid).argmax()]
            grid, step = best + step * np.linspace(-1, 1, 17), step / 8
        evidences.append(evidence(grid).max())
    return float(np.mean(evidences))


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """How much of the features' variance the classes explain, with each direction in units of its own variance.

    The trace of (covariance of the features)^-1 (covariance of the class means), between 0 and C - 1. The first covariance is
    shrunk towards a multiple of the identity (Ledoit-Wolf), and the second one by the same factor; without that it would be
    C - 1 for any features with D >= N. Rotating, scaling or shifting the features changes nothing. A class with one
    example is its own mean, so many such classes make any features look good.

    Args:
        features: (N, D), also with D > N.
        labels: (N,) integers.

    Returns:
        The regularised H-score; 0 for features without variance.

    Reference:
        Bao et al., An Information-Theoretic Approach to Transferability in Task Transfer Learning, ICIP 2019;
        Ibrahim et al., Newer is not always better: Rethinking Transferability Metrics, Their Peculiarities, Stability and
        Performance, 2021 (arXiv 2110.06893), for the shrinkage; Ledoit and Wolf, JMVA 2004.
    """
    features, labels = checked(features, labels)
    num, width = features.shape
    centred = features - features.mean(0)
    left, squares = _decompose(centred, features)
    if len(squares) == 0:
        return 0.0
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), left.shape[1]))
    np.add.at(sums, index, left)
    between = (sums**2 / counts[:, None]).sum(0)  # fraction of each principal direction's variance that the class means explain
    shrinkage = ledoit_wolf_shrinkage(centred, assume_centered=True)
    variances = (1 - shrinkage) * squares / num
    return float((between * variances / (variances + shrinkage * squares.sum() / num / width)).sum())


# Measures of labels only.


def imbalance(labels: np.ndarray) -> dict[str, float]:
    """How imbalanced the classes are.

    Args:
        labels: (N,) integers.

    Returns:
        num_classes; min and max, the sizes of the smallest and largest class; ratio, max / min; effective, the number
        of equally large classes with the same entropy, exp(-sum p log p) (Hill, Ecology 1973).
    """
    counts = np.unique(labels, return_counts=True)[1]
    shares = counts / counts.sum()
    return {
        "num_classes": len(counts),
        "min": int(counts.min()),
        "max": int(counts.max()),
        "ratio": float(counts.max() / counts.min()),
        "effective": float(np.exp(-(shares * np.log(shares)).sum())),
    }


# Helpers.


def checked(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features as float64, and labels; a ValueError for input that would give meaningless numbers."""
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features must be (N, D), not {features.shape}")
    if not np.isfinite(features).all():
        raise ValueError("features hold numbers that are not finite")
    labels = np.asarray(labels)
    if labels.shape != features.shape[:1]:
        raise ValueError(f"{features.shape[0]} examples need as many labels, not {labels.shape}")
    return features, labels


def _units(groups: np.ndarray) -> np.ndarray:
    """A number for each group; each example with "" gets its own."""
    units = np.unique(groups, return_inverse=True)[1]
    alone = groups == ""
    units[alone] = len(groups) + np.arange(alone.sum())
    return units


def _decompose(matrix: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors (N, rank) and squared singular values (rank,), without those within rounding error of `origin`."""
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    real = values > np.linalg.norm(origin) * max(matrix.shape) * np.finfo(float).eps
    return left[:, real], values[real] ** 2
