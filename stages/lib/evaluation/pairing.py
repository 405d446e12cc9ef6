"""Models that were trained with several seeds: the mean of an arm, and the paired comparison of two arms.

An arm is the array of its models' predictions (S, N, ...) for the same N examples.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, TypedDict

import numpy as np

from stages.lib.core.contracts import Metric
from stages.lib.evaluation.statistics import bootstrap, interval

UNDECIDED: Final = "no difference shown"  # the verdict where chance may explain a difference


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


class Paired(NamedTuple):
    """The difference of two arms, resampled."""

    value: float  # on the test set itself, the mean over the seeds
    samples: np.ndarray  # (B,)
    telling: int  # examples (or groups) that tell the arms apart
    num: int  # examples (or groups)


def mean_over_seeds(
    metric: Metric, arm: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, *, confidence: float, **drawn: int
) -> Mean:
    """The metric of one arm, averaged over its seeds: value, lower, upper. Arguments as for `resampled_mean`."""
    return mean_of(*resampled_mean(metric, arm, targets, groups, **drawn), confidence)


def mean_of(value: float, samples: np.ndarray, confidence: float) -> Mean:
    """A mean over the seeds with its interval, from what `resampled_mean` returns."""
    lower, upper = interval(samples, confidence)
    return {"value": float(value), "lower": float(lower), "upper": float(upper)}


def resampled_mean(
    metric: Metric, arm: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, *, num_resamples: int, seed: int
) -> tuple[float, np.ndarray]:
    """The mean of a metric over an arm's seeds, and its resampled values (B,), with other seeds as in `paired`; arms with equally
    many seeds share what is drawn."""
    return over_seeds(metric, *resampled(metric, arm, targets, groups, num_resamples=num_resamples, seed=seed), seed)


def resampled(
    metric: Metric, arm: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, *, num_resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The metric of each of an arm's models on the test itself (S,), and on its resamples (B, S), which all arms share."""

    def values(weights: np.ndarray) -> np.ndarray:
        return np.stack([metric.values(each, targets, weights) for each in arm], axis=1)

    return _resampled(values, len(targets), groups, num_resamples, seed)


def over_seeds(metric: Metric, values: np.ndarray, samples: np.ndarray, seed: int) -> tuple[float, np.ndarray]:
    """The mean over an arm's seeds and its values (B,) with other examples and seeds, from what `resampled` gives."""
    means = with_other_seeds(values, samples, seed)
    return float(values.mean()), means.clip(0, 1) if metric.fraction else means


def paired_difference(
    metric: Metric, first: np.ndarray, second: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, *, confidence: float,
    **drawn: int,
) -> Difference:  # fmt: skip
    """How much better the first arm is than the second, and whether chance may explain it, of this comparison by itself.

    Args:
        confidence: of the interval, 0 to 1; all others as for `paired`.

    Returns:
        difference (mean over the seeds), lower, upper, and verdict: "helps" (the whole interval is above 0, or below 0 if lower
        is better), "hurts" (the whole interval is on the other side) or "no difference shown". The last is also the verdict if so
        few examples (or groups) distinguish the arms that a sign test would not be significant even if all of them favoured the
        same arm (fewer than 6 at 95 %): resampling a handful of examples gives intervals that are much too narrow.
    """
    found = paired(metric, first, second, targets, groups, **drawn)
    lower, upper = interval(found.samples, confidence)
    shown = enough(found.telling, confidence)
    above, below = ("helps", "hurts") if metric.higher_is_better else ("hurts", "helps")
    verdict = above if shown and lower > 0 else below if shown and upper < 0 else UNDECIDED
    return {"difference": found.value, "lower": float(lower), "upper": float(upper), "verdict": verdict}


def paired(
    metric: Metric,
    first: np.ndarray,
    second: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray | None,
    *,
    num_resamples: int,
    seed: int,
) -> Paired:
    """The difference of two arms and its resampled values.

    Both are measured on the same resamples, because an example that is hard for one is usually hard for the other; this
    makes the interval much narrower than two separate ones would suggest. With several seeds, other seeds are drawn too: their
    mean lies around that of these as Student's t says (`with_other_seeds`).

    With one seed the interval covers only the choice of test examples: another seed may give another verdict.

    Args:
        metric: of the task.
        first, second: predictions (S, N, ...) for the same seeds and examples in the same order.
        targets: (N, ...).
        groups: (N,) examples of a group are drawn together; or None.
        num_resamples: number of bootstrap samples of the examples, and of draws of other seeds.
        seed: decides what is drawn.
    """

    def differences(weights: np.ndarray) -> np.ndarray:
        pairs = zip(first, second, strict=True)
        each = [metric.values(a, targets, weights) - metric.values(b, targets, weights) for a, b in pairs]
        return np.stack(each, axis=1)

    values, single = _resampled(differences, len(targets), groups, num_resamples, seed)
    samples = with_other_seeds(values, single, seed)
    samples = samples.clip(-1, 1) if metric.fraction else samples
    differ = metric.differ(first, second).any(0)  # in a way that the metric can detect
    telling = int(differ.sum()) if groups is None else len(set(groups[differ]))
    return Paired(float(values.mean()), samples, telling, len(targets) if groups is None else len(set(groups)))


def with_other_seeds(values: np.ndarray, samples: np.ndarray, seed: int) -> np.ndarray:
    """The mean over the seeds as other test examples and other seeds might have it.

    A handful of seeds cannot be resampled: of three, the bootstrap never leaves their range, in which their mean is not to be
    found in one of four cases. Student's t knows how little they say. The spread of the seeds on one test holds what seeds and
    examples do to each other, and so do the resampled means, from which it is taken, so that it counts once.

    Args:
        values: (S,) of each seed, on the test set itself.
        samples: (B, S) the same on its resamples.
        seed: decides what is drawn.

    Returns:
        (B,). With one seed its resamples, because nothing is known of others.

    References:
        Student, The Probable Error of a Mean, Biometrika 1908; Weerahandi, Generalized Confidence Intervals, JASA 1993, for
        adding such draws to others; Owen, The Pigeonhole Bootstrap, Annals of Applied Statistics 2007 (arXiv 0712.1111), on what
        counts twice.
    """
    means: np.ndarray = samples.mean(axis=1)
    num_seeds = len(values)
    known = ~np.isnan(means)
    if num_seeds == 1 or not known.any():
        return means
    whole = means[known].var()
    both = (samples[known] - means[known, None]).var(axis=0).sum() / (num_seeds - 1) / num_seeds
    of_examples = np.sqrt(max(0.0, 1 - both / whole)) if whole else 0.0
    # Student's t of the seeds' spread, as a weighted sum of their deviations: what is drawn for two arms with these weights is
    # paired by seed, and the difference of two arms is the mirrored one of the same two swapped.
    generator = np.random.default_rng([seed, num_seeds])
    weights = generator.normal(size=samples.shape) / np.sqrt(num_seeds * generator.chisquare(num_seeds - 1, (len(means), 1)))
    means = values.mean() + of_examples * (means - values.mean()) + weights @ (values - values.mean())
    return means


def enough(telling: int, confidence: float) -> bool:
    """Whether a sign test of so many examples could show a difference, if all of them favoured the same arm."""
    return bool(2.0 ** (1 - telling) <= 1 - confidence)


def _resampled(
    measure: Callable[[np.ndarray], np.ndarray], num_examples: int, groups: np.ndarray | None, num_resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """What `measure` gives of each seed: weights (b, N) -> (b, S), on the test itself (S,) and on its resamples (B, S)."""
    values, samples = bootstrap(
        lambda weights: {"": measure(weights)}, groups, num_examples=num_examples, num_resamples=num_resamples, seed=seed
    )
    return values[""], samples[""]
