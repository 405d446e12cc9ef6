"""Models that were trained with several seeds: the mean of an arm, and the paired comparison of two arms.

An arm is the array of its models' predictions (S, N, ...) for the same N examples.
"""

from collections.abc import Callable
from typing import NamedTuple, TypedDict

import numpy as np

from stages.lib.core.contracts import Metric
from stages.lib.evaluation.statistics import bootstrap, counts, interval


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
    """The mean of a metric over an arm's seeds, and its resampled values (B,); arms with equally many seeds share resamples."""

    def values(weights: np.ndarray) -> np.ndarray:
        return np.stack([metric.values(each, targets, weights) for each in arm], axis=1)

    return _seed_means(values, len(targets), groups, num_resamples, seed)


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
    verdict = above if shown and lower > 0 else below if shown and upper < 0 else "no difference shown"
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
        seed: decides what is drawn.

    Reference:
        Owen, The Pigeonhole Bootstrap, Annals of Applied Statistics 2007 (arXiv 0712.1111), for drawing both;
        Rao and Wu, Resampling Inference with Complex Survey Data, JASA 1988, for S - 1.
    """

    def differences(weights: np.ndarray) -> np.ndarray:
        pairs = zip(first, second, strict=True)
        each = [metric.values(a, targets, weights) - metric.values(b, targets, weights) for a, b in pairs]
        return np.stack(each, axis=1)

    value, samples = _seed_means(differences, len(targets), groups, num_resamples, seed)
    differ = metric.differ(first, second).any(0)  # in a way that the metric can detect
    telling = int(differ.sum()) if groups is None else len(set(groups[differ]))
    return Paired(float(value), samples, telling, len(targets) if groups is None else len(set(groups)))


def enough(telling: int, confidence: float) -> bool:
    """Whether a sign test of so many examples could show a difference, if all of them favoured the same arm."""
    return bool(2.0 ** (1 - telling) <= 1 - confidence)


def _seed_means(
    measure: Callable[[np.ndarray], np.ndarray], num_examples: int, groups: np.ndarray | None, num_resamples: int, seed: int
) -> tuple[float, np.ndarray]:
    """The mean over the seeds, and the means (B,) over resampled examples and seeds; `measure` returns (b, S)."""
    values, samples = bootstrap(
        lambda weights: {"": measure(weights)}, groups, num_examples=num_examples, num_resamples=num_resamples, seed=seed
    )
    num_seeds = len(values[""])
    drawn = counts(np.random.default_rng([seed, num_seeds]), num_resamples, max(1, num_seeds - 1), num_seeds)
    return values[""].mean(), (samples[""] * drawn).sum(1) / drawn.sum(1)
