"""The uncertainty of test results: bootstrap intervals, and the paired comparison of two models.

A resample is a row of weights (N,): how often each test example was drawn. Every metric handles many resamples at once.
"""

from collections.abc import Callable, Iterator

import numpy as np

from stages.lib.errors import UserError

CHUNK = 2_000_000  # weights in memory at once (16 MB), so memory does not grow with the number of resamples


def units(groups: np.ndarray | None) -> np.ndarray | None:
    """The groups that resamples draw whole; None, so that examples are drawn one by one, if there are not several groups."""
    return None if groups is None or len(set(groups)) < 2 else groups


def resample(num_examples: int, groups: np.ndarray | None, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draw bootstrap resamples of the test set, with replacement.

    If examples belong to groups, whole groups are drawn: examples of one patient or module resemble each other and carry less
    information than independent ones, so drawing them individually would give intervals that are too narrow.

    Args:
        num_examples: N.
        groups: (N,) the group of each example, or None; examples with "" belong to no group and are drawn individually.
        num_resamples: B.

    Yields:
        Weights (b, N), how often each example was drawn, in chunks of B rows in total.

    Raises:
        UserError: all examples are in one group, so resampling is impossible.

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
            "Make it larger (datasets.<name>.split.test)."
        )
    generator = np.random.default_rng(seed)
    most = max(1, CHUNK // num_examples)
    for start in range(0, num_resamples, most):
        yield counts(generator, min(most, num_resamples - start), num_units, num_units)[:, units]


def bootstrap(
    measure: Callable[[np.ndarray], dict[str, np.ndarray]],
    groups: np.ndarray | None,
    *,
    num_examples: int,
    num_resamples: int,
    seed: int,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Measure the test set itself and its resamples.

    Args:
        measure: weights (b, N) -> values by name, (b, ...) each.
        groups: as for `resample`.

    Returns:
        By name: the value (...), and the values of the resamples (num_resamples, ...).
    """
    values = {name: value[0] for name, value in measure(np.ones((1, num_examples))).items()}
    parts = [measure(weights) for weights in resample(num_examples, groups, num_resamples, seed)]
    return values, {name: np.concatenate([part[name] for part in parts]) for name in values}


def interval(samples: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of the resampled values.

    With few examples, or a metric near 0 or 1, the interval is somewhat too narrow; without a single error on the test set its
    width is zero.

    Args:
        samples: (B, ...); resamples in which the metric is NaN are ignored.
        confidence: of the interval, 0 to 1.

    Returns:
        Lower and upper bound, (...) each.
    """
    tail = (1 - confidence) / 2
    unknown = np.isnan(samples).all(axis=0)  # NaN in every resample: no interval, and no warning either
    lower, upper = np.nanquantile(np.where(unknown, 0, samples), [tail, 1 - tail], axis=0)
    return np.where(unknown, np.nan, lower), np.where(unknown, np.nan, upper)


def proportion(
    hits: np.ndarray, groups: np.ndarray | None, *, num_resamples: int, confidence: float, seed: int
) -> dict[str, float | None]:
    """The fraction of examples that are hits, with its interval: exact and binomial, or bootstrapped if groups are drawn whole.

    Args:
        hits: (N,) True or False.
        groups, num_resamples, seed: as for `bootstrap`.

    Returns:
        value, lower and upper.

    Reference:
        Clopper and Pearson, The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial, Biometrika 1934.
    """
    share, tail = float(hits.mean()), (1 - confidence) / 2
    if groups is None:
        from scipy.special import betaincinv  # here, because serving needs none; quantiles of a beta distribution

        num, of = int(hits.sum()), len(hits)
        lower = float(betaincinv(num, of - num + 1, tail)) if num else 0.0
        upper = float(betaincinv(num + 1, of - num, 1 - tail)) if num < of else 1.0
    else:

        def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
            return {"share": weights @ hits / weights.sum(1)}

        drawn = bootstrap(measure, groups, num_examples=len(hits), num_resamples=num_resamples, seed=seed)[1]["share"]
        lower, upper = (float(end) for end in interval(drawn, confidence))
    return {name: round(value, 6) for name, value in (("value", share), ("lower", lower), ("upper", upper))}


def bias_corrected_interval(value: float, samples: np.ndarray, confidence: float) -> tuple[float, float]:
    """Interval for a metric that is biased upwards by chance, such as metrics.ece: the percentile interval mirrored at the value.

    Resamples overshoot the test value as the test value overshoots the true one. With a true value of 0.04 and 400 examples,
    percentile intervals contain it in 46 of 100 tests and these in 89; a perfectly calibrated model (0) is outside both too
    often. The value itself is always inside.

    Args:
        value: on the test set, 0 or more.
        samples: (B,).

    Reference:
        Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 5.2 (the basic interval).
    """
    lower, upper = (float(end) for end in interval(samples, confidence))
    return min(value, max(0.0, 2 * value - upper)), max(value, 2 * value - lower)


def number(value: np.ndarray) -> float | None:
    """A number for JSON, to six digits; null if it is undefined (the precision of a label that is never predicted)."""
    return None if np.isnan(value) else round(float(value), 6)


def counts(generator: np.random.Generator, num_rows: int, num_draws: int, num_units: int) -> np.ndarray:
    """Draw `num_draws` of `num_units` with replacement in each row; returns how often each was drawn, (num_rows, num_units)."""
    drawn = generator.integers(num_units, size=(num_rows, num_draws)) + num_units * np.arange(num_rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=num_rows * num_units).reshape(num_rows, num_units).astype(float)
