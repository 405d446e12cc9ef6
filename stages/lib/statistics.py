"""What a test says, and how sure one may be: metrics with bootstrap intervals, and the paired comparison of two models.

A resample is a row of weights (N,): how often each test example was drawn. Every metric takes all rows of W (B, N)
at once and gives B values; a row of ones gives the value on the test itself.
"""

from collections.abc import Callable, Iterator

import numpy as np

from stages.lib.errors import UserError

CHUNK = 2_000_000  # weights held at once (16 MB), so that memory does not grow with the number of resamples

# Metrics. All take probabilities (N, C), labels (N,) as indices, and weights (B, N), and give (B,).


def accuracy(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the examples whose most likely class is the true one."""
    return _ratio(weights @ (probabilities.argmax(1) == labels), weights.sum(1))


def balanced_accuracy(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean recall of the classes; one that a resample does not hold is left out of its mean."""
    return _mean_of_known(per_class(probabilities, labels, weights)["recall"])


def macro_f1(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes; one that is neither there nor predicted in a resample is left out of its mean."""
    return _mean_of_known(per_class(probabilities, labels, weights)["f1"])


def auroc(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: of class 1 where there are two, else the mean over the classes, each against the rest.

    A class without an example, or without one of the rest, is left out of the mean of that resample.
    """
    areas = auroc_per_class(probabilities, labels, weights)
    return areas[:, 1] if areas.shape[1] == 2 else _mean_of_known(areas)


METRICS = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1, "auroc": auroc}


def ece(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray, num_bins: int) -> np.ndarray:
    """Expected calibration error: how far confidence (of the most likely class) and accuracy lie apart, on average.

    Chance alone pulls them apart in bins of few examples, so the value is too high for a well calibrated model, and
    higher still in a resample; see `interval`.

    Args:
        num_bins: bins of equal width over 0 to 1, each open at its left and closed at its right end.

    Reference:
        Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015; Guo et al., On
        Calibration of Modern Neural Networks, ICML 2017 (arXiv 1706.04599).
    """
    confidence, correct, bins = _binned(probabilities, labels, num_bins)
    gaps = _sum_by(weights * (correct - confidence), bins, num_bins)
    return _ratio(np.abs(gaps).sum(1), weights.sum(1))


# What a metric is made of.


def per_class(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, f1 and support of each class, (B, C) each.

    Not a number: the precision of a class that is never predicted, the recall of one that is not there, the f1 of one
    that is neither.
    """
    num_classes, predicted = probabilities.shape[1], probabilities.argmax(1)
    support, claimed = _sum_by(weights, labels, num_classes), _sum_by(weights, predicted, num_classes)
    hits = _sum_by(weights * (predicted == labels), labels, num_classes)
    return {
        "precision": _ratio(hits, claimed),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + claimed),
        "support": support,
    }


def auroc_per_class(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest, (B, C); not a number where either is missing.

    It is the probability that an example of the class gets a higher score than another one; a tie counts half
    (Hanley and McNeil, Radiology 1982).
    """
    areas = []
    for index in range(probabilities.shape[1]):
        scores, positive = probabilities[:, index], labels == index
        others = np.flatnonzero(~positive)
        others = others[np.argsort(scores[others], kind="stable")]
        below = np.zeros((len(weights), len(others) + 1))  # drawn examples of the rest among the lowest 0, 1, 2, ...
        np.cumsum(weights[:, others], axis=1, out=below[:, 1:])
        first, last = (np.searchsorted(scores[others], scores[positive], side) for side in ("left", "right"))
        drawn = weights[:, positive]
        won = (drawn * (below[:, first] + below[:, last])).sum(1) / 2
        areas.append(_ratio(won, drawn.sum(1) * below[:, -1]))
    return np.stack(areas, axis=1)


def confusion(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (C, C) of true class (row) and predicted class (column)."""
    return np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def reliability(probabilities: np.ndarray, labels: np.ndarray, num_bins: int) -> dict[str, np.ndarray]:
    """Mean confidence, accuracy and count of the examples in each bin of `ece`, (num_bins,) each; empty bins are nan."""
    confidence, correct, bins = _binned(probabilities, labels, num_bins)
    sums = [_sum_by(values[None], bins, num_bins)[0] for values in (confidence, correct, np.ones(len(labels)))]
    return {"confidence": _ratio(sums[0], sums[2]), "accuracy": _ratio(sums[1], sums[2]), "count": sums[2].astype(int)}


# Intervals.


def resample(num_examples: int, groups: np.ndarray | None, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draw test sets of the same kind by chance, with replacement.

    Where examples belong to groups, whole groups are drawn: images of one patient or module resemble each other, so
    they say less than as many independent ones, and drawing them singly would give intervals that are too narrow.

    Args:
        num_examples: N.
        groups: (N,) what each example belongs to, or None; examples with "" belong to none and are drawn singly.
        num_resamples: B.

    Yields:
        Weights (b, N), how often each example was drawn, in chunks that make up B rows.

    Raises:
        UserError: all examples are of one group, so there is nothing to draw from.

    Reference:
        Efron, Bootstrap Methods, Annals of Statistics 1979; Field and Welsh, Bootstrapping Clustered Data, JRSS B 2007.
    """
    units = np.arange(num_examples)
    if groups is not None:
        alone = groups == ""
        units = np.unique(groups, return_inverse=True)[1]
        units[alone] = units.max() + 1 + np.arange(alone.sum())
        units = np.unique(units, return_inverse=True)[1]
    num_units = int(units.max()) + 1
    if num_units < 2:
        raise UserError(
            "The test split holds one example or one group only, which says nothing about others. "
            "Give it a larger share (datasets.<name>.split.test), so that it gets more."
        )
    generator = np.random.default_rng(seed)
    most = max(1, CHUNK // num_examples)
    for start in range(0, num_resamples, most):
        yield _counts(generator, min(most, num_resamples - start), num_units, num_units)[:, units]


def bootstrap(
    measure: Callable[[np.ndarray], dict[str, np.ndarray]],
    groups: np.ndarray | None,
    *,
    num_examples: int,
    num_resamples: int,
    seed: int,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Measure the test itself and its resamples.

    Args:
        measure: weights (b, N) to values by name, (b, ...) each.
        groups: as for `resample`.

    Returns:
        By name: the value (...), and the values of the resamples (num_resamples, ...).
    """
    values = {name: value[0] for name, value in measure(np.ones((1, num_examples))).items()}
    parts = [measure(weights) for weights in resample(num_examples, groups, num_resamples, seed)]
    return values, {name: np.concatenate([part[name] for part in parts]) for name in values}


def interval(samples: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval: what lies between the tails of the resampled values.

    A metric of few examples of a class, or one near 0 or 1, gets an interval that is somewhat too narrow; without a
    single error on the test it has no width at all.

    Args:
        samples: (B, ...); resamples in which the metric is not a number are left out.
        confidence: of the interval, 0 to 1.

    Returns:
        Lower and upper end, (...) each.
    """
    tail = (1 - confidence) / 2
    unknown = np.isnan(samples).all(axis=0)  # in every resample: no interval, and no warning either
    lower, upper = np.nanquantile(np.where(unknown, 0, samples), [tail, 1 - tail], axis=0)
    return np.where(unknown, np.nan, lower), np.where(unknown, np.nan, upper)


def bias_corrected_interval(value: float, samples: np.ndarray, confidence: float) -> tuple[float, float]:
    """Interval for a metric that chance pushes up, as it does `ece`: the percentile interval mirrored at the value.

    Resamples overshoot the test as the test overshoots the truth. Where the truth is 0.04 on 400 examples, percentile
    intervals hold it in 46 of 100 tests and these in 89; a perfectly calibrated model (0) is outside both too often.
    The value itself is always inside.

    Args:
        value: on the test, 0 or more.
        samples: (B,).

    Reference:
        Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 5.2 (the basic interval).
    """
    lower, upper = interval(samples, confidence)
    return min(value, max(0.0, 2 * value - upper)), max(value, 2 * value - lower)


# Models trained with several seeds: an arm is their probabilities (S, N, C) on the same N examples.


def mean_over_seeds(
    metric: str,
    arm: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None,
    *,
    num_resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, float]:
    """What one arm reaches on average over its seeds: value, lower, upper. Arguments as for `paired_difference`."""

    def values(weights: np.ndarray) -> np.ndarray:
        return np.stack([METRICS[metric](each, labels, weights) for each in arm], axis=1)

    value, samples = _seed_means(values, len(labels), groups, num_resamples, seed)
    lower, upper = interval(samples, confidence)
    return {"value": float(value), "lower": float(lower), "upper": float(upper)}


def paired_difference(
    metric: str,
    first: np.ndarray,
    second: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None,
    *,
    num_resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, float | str]:
    """How much better the first arm is than the second, and whether chance may explain it.

    Both are measured on the same resamples, because an image that is hard for one is mostly hard for the other; this
    makes the interval much narrower than two single ones. Several seeds are drawn too, as pairs. Of S seeds S - 1 are
    drawn, because a mean of S draws from S values varies less than a mean of S new seeds would.

    With one seed the interval covers the choice of the test examples only: another seed may give another verdict.
    With two to four, what the seeds change is known roughly.

    Args:
        metric: a key of METRICS.
        first, second: probabilities (S, N, C) for the same seeds and examples in the same order.
        labels: (N,) indices.
        groups: (N,) what is drawn together, or None.
        num_resamples: of examples and seeds together.
        confidence: of the interval, 0 to 1.
        seed: decides what is drawn.

    Returns:
        difference (mean over the seeds), lower, upper, and verdict: "helps" (all of the interval is above 0), "hurts"
        (all below) or "no difference shown". This last also where so few images (or groups) tell the arms apart that they would
        not be significant by the sign test if all of them spoke for the same one (fewer than 6 at 95 %): resampling a handful
        gives intervals that are much too narrow.

    Reference:
        Owen, The Pigeonhole Bootstrap, Annals of Applied Statistics 2007 (arXiv 0712.1111), for drawing both;
        Rao and Wu, Resampling Inference with Complex Survey Data, JASA 1988, for S - 1.
    """

    def differences(weights: np.ndarray) -> np.ndarray:
        pairs = zip(first, second, strict=True)
        return np.stack([METRICS[metric](a, labels, weights) - METRICS[metric](b, labels, weights) for a, b in pairs], axis=1)

    value, samples = _seed_means(differences, len(labels), groups, num_resamples, seed)
    lower, upper = interval(samples, confidence)
    enough = 2.0 ** (1 - _num_telling(metric, first, second, groups)) <= 1 - confidence
    verdict = "helps" if enough and lower > 0 else "hurts" if enough and upper < 0 else "no difference shown"
    return {"difference": float(value), "lower": float(lower), "upper": float(upper), "verdict": verdict}


def _num_telling(metric: str, first: np.ndarray, second: np.ndarray, groups: np.ndarray | None) -> int:
    """Number of examples, or of their groups, for which the arms' answers differ as far as the metric can see."""
    if metric != "auroc":  # the others see the predicted class alone
        first, second = first.argmax(2), second.argmax(2)
    differ = (first != second).reshape(*first.shape[:2], -1).any((0, 2))
    return int(differ.sum()) if groups is None else len(set(groups[differ]))


def _seed_means(measure: Callable, num_examples: int, groups: np.ndarray | None, num_resamples: int, seed: int):
    """The mean over the seeds, and the means (B,) over resampled examples and seeds; `measure` gives (b, S)."""
    values, samples = bootstrap(
        lambda weights: {"": measure(weights)}, groups, num_examples=num_examples, num_resamples=num_resamples, seed=seed
    )
    num_seeds = len(values[""])
    drawn = _counts(np.random.default_rng([seed, num_seeds]), num_resamples, max(1, num_seeds - 1), num_seeds)
    return values[""].mean(), (samples[""] * drawn).sum(1) / drawn.sum(1)


# Small parts.


def _counts(generator: np.random.Generator, num_rows: int, num_draws: int, num_units: int) -> np.ndarray:
    """Draw `num_draws` of `num_units` with replacement, in each row: how often each came, (num_rows, num_units)."""
    drawn = generator.integers(num_units, size=(num_rows, num_draws)) + num_units * np.arange(num_rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=num_rows * num_units).reshape(num_rows, num_units).astype(float)


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
    """above / below, and not a number where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the classes (B, C) of those that are numbers."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(1), known.sum(1))
