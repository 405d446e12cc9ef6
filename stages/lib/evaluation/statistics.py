"""The uncertainty of test results: bootstrap intervals, and the paired comparison of two models.

A resample is a row of weights (N,): how often each test example was drawn. Every metric handles many resamples at once.
"""

from collections.abc import Callable, Iterator
from typing import TypedDict

import numpy as np

from stages.lib.core.contracts import Metric
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
        yield _counts(generator, min(most, num_resamples - start), num_units, num_units)[:, units]


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


# Models trained with several seeds: an arm is the array of their predictions (S, N, ...) on the same N examples.


class Mean(TypedDict):
    """The metric of an arm, with its interval."""

    value: float
    lower: float
    upper: float


class Difference(TypedDict):
    """How much better one arm is than another, with its interval and a verdict."""

    difference: float
    lower: float
    upper: float
    verdict: str  # helps, hurts or no difference shown


def mean_over_seeds(
    metric: Metric,
    arm: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray | None,
    *,
    num_resamples: int,
    confidence: float,
    seed: int,
) -> Mean:
    """The metric of one arm, averaged over its seeds: value, lower, upper. Arguments as for `paired_difference`."""
    value, samples = resampled_mean(metric, arm, targets, groups, num_resamples=num_resamples, seed=seed)
    lower, upper = interval(samples, confidence)
    return {"value": float(value), "lower": float(lower), "upper": float(upper)}


def resampled_mean(
    metric: Metric, arm: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, *, num_resamples: int, seed: int
) -> tuple[float, np.ndarray]:
    """The mean of a metric over an arm's seeds, and its resampled values (B,); arms with equally many seeds share resamples."""

    def values(weights: np.ndarray) -> np.ndarray:
        return np.stack([metric.values(each, targets, weights) for each in arm], axis=1)

    return _seed_means(values, len(targets), groups, num_resamples, seed)


def paired_difference(
    metric: Metric,
    first: np.ndarray,
    second: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray | None,
    *,
    num_resamples: int,
    confidence: float,
    seed: int,
) -> Difference:
    """How much better the first arm is than the second, and whether chance may explain it.

    Both are measured on the same resamples, because an example that is hard for one is usually hard for the other; this
    makes the interval much narrower than two separate ones would suggest. With several seeds, seeds are resampled too, as pairs:
    S - 1 of S are drawn, because a mean of S draws from S values varies less than a mean of S new seeds would.

    With one seed the interval covers only the choice of test examples: another seed may give another verdict.
    With two to four seeds, the variation between seeds is known only roughly.

    Args:
        metric: of the task.
        first, second: predictions (S, N, ...) for the same seeds and examples in the same order.
        targets: (N, ...).
        groups: (N,) examples of a group are drawn together; or None.
        num_resamples: number of bootstrap samples, each of examples and seeds.
        confidence: of the interval, 0 to 1.
        seed: decides what is drawn.

    Returns:
        difference (mean over the seeds), lower, upper, and verdict: "helps" (the whole interval is above 0, or below 0 if lower
        is better), "hurts" (the whole interval is on the other side) or "no difference shown". The last is also the verdict if so
        few examples (or groups) distinguish the arms that a sign test would not be significant even if all of them favoured the
        same arm (fewer than 6 at 95 %): resampling a handful of examples gives intervals that are much too narrow.

    Reference:
        Owen, The Pigeonhole Bootstrap, Annals of Applied Statistics 2007 (arXiv 0712.1111), for drawing both;
        Rao and Wu, Resampling Inference with Complex Survey Data, JASA 1988, for S - 1.
    """

    def differences(weights: np.ndarray) -> np.ndarray:
        pairs = zip(first, second, strict=True)
        each = [metric.values(a, targets, weights) - metric.values(b, targets, weights) for a, b in pairs]
        return np.stack(each, axis=1)

    value, samples = _seed_means(differences, len(targets), groups, num_resamples, seed)
    lower, upper = interval(samples, confidence)
    enough = 2.0 ** (1 - _num_telling(metric, first, second, groups)) <= 1 - confidence
    above, below = ("helps", "hurts") if metric.higher_is_better else ("hurts", "helps")
    verdict = above if enough and lower > 0 else below if enough and upper < 0 else "no difference shown"
    return {"difference": float(value), "lower": float(lower), "upper": float(upper), "verdict": verdict}


def _num_telling(metric: Metric, first: np.ndarray, second: np.ndarray, groups: np.ndarray | None) -> int:
    """Number of examples, or of groups, for which the arms' predictions differ in a way that the metric can detect."""
    differ = metric.differ(first, second).any(0)
    return int(differ.sum()) if groups is None else len(set(groups[differ]))


def number(value: np.ndarray) -> float | None:
    """A number for JSON, to six digits; null if it is undefined (the precision of a label that is never predicted)."""
    return None if np.isnan(value) else round(float(value), 6)


def _seed_means(
    measure: Callable[[np.ndarray], np.ndarray], num_examples: int, groups: np.ndarray | None, num_resamples: int, seed: int
) -> tuple[float, np.ndarray]:
    """The mean over the seeds, and the means (B,) over resampled examples and seeds; `measure` returns (b, S)."""
    values, samples = bootstrap(
        lambda weights: {"": measure(weights)}, groups, num_examples=num_examples, num_resamples=num_resamples, seed=seed
    )
    num_seeds = len(values[""])
    drawn = _counts(np.random.default_rng([seed, num_seeds]), num_resamples, max(1, num_seeds - 1), num_seeds)
    return values[""].mean(), (samples[""] * drawn).sum(1) / drawn.sum(1)


def _counts(generator: np.random.Generator, num_rows: int, num_draws: int, num_units: int) -> np.ndarray:
    """Draw `num_draws` of `num_units` with replacement in each row; returns how often each was drawn, (num_rows, num_units)."""
    drawn = generator.integers(num_units, size=(num_rows, num_draws)) + num_units * np.arange(num_rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=num_rows * num_units).reshape(num_rows, num_units).astype(float)
