"""What the differences of one comparison let one say: of each by itself, of all together, and of the method or the models alone.

A report with several comparisons claims something false more often than each of its intervals does. Verdicts are therefore
corrected for their number (Holm); the intervals stand beside them, each by itself. Where seeds are added until the verdict
decides, each look has a share of the error that one look would be allowed, and intervals and p-values are those of that share.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import bdtr

from stages.lib.core.contracts import Metric
from stages.lib.evaluation.pairing import UNDECIDED, Paired, enough
from stages.lib.evaluation.statistics import interval
from stages.lib.params.schema import Compare

Word = Literal[
    "helps", "hurts", "as good", "this model is better", "this model is worse", "this model is as good", "no difference shown"
]
ONE_SEED: dict[Word, Word] = {
    "helps": "this model is better", "hurts": "this model is worse", "as good": "this model is as good",
}  # fmt: skip


class Verdict(BaseModel):
    """One comparison in compare.json. Differences are the proposal's value minus the control's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    difference: float = Field(description="mean over the seeds, on the same test examples")
    lower: float = Field(
        description="of the paired interval at compare.confidence, of this comparison by itself, over all of compare.looks"
    )
    upper: float
    p: float = Field(ge=0, le=1, description="two-sided, that there is no difference; by itself, over all looks")
    p_holm: float = Field(ge=0, le=1, description="the same, corrected for all comparisons of this file")
    p_margin: float = Field(ge=0, le=1, description="that the difference is compare.margin or more, either way; by itself")
    p_margin_holm: float = Field(ge=0, le=1, description="the same, corrected for all comparisons of this file")
    verdict: Word = Field(
        description="corrected for all comparisons; 'this model is ...' with a single seed, which says nothing about the method"
    )


class Shipped(BaseModel):
    """The model to ship in compare.json: what its own test says, and what transfer was worth to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trained_from: str = Field(description="its starting point, one of inits")
    facts: dict[str, dict[str, float | None]] = Field(
        description="value, lower and upper of what its test says, by name: its metric and what its task adds, such as "
        "recall_worst (of the label that it misses most), false_alarms (others that it takes for it) and ece (calibration error)"
    )
    transfer: dict[str, float | None] = Field(
        description="difference, lower and upper against random weights of the targets from the same starting point, the mean "
        "over the seeds; an interval by itself"
    )


class Comparison(BaseModel):
    """metrics/compare.json. Besides these keys, it has the metric's name, under which stands the value of each arm, and a key for
    each comparison: `transfer` (against random weights), `intermediate`, `training`, `against_<arm>`, ..."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Verdict | dict[str, float | None]] = Field(init=False)

    ship: str = Field(description="the target to ship, models/target/<ship>, chosen by its validation loss")
    shipped: Shipped
    measured: dict[str, str | None] = Field(
        description="sha256 of the weights that each folder of metrics/evaluate is of; null for a control without a network"
    )
    use: str = Field(
        description="what the licences of the shipped model's data, weights and code allow: may be sold, copyleft, "
        "unknown, or not for commercial use"
    )
    luck: dict[str, float | None] = Field(
        description="standard_error of one model's figure, and correlation of two models' over "
        "resampled tests: how much choosing the best of many on this test flatters it"
    )
    intervals: dict[str, dict[str, float | None]] = Field(
        description="lower and upper of the figure of each arm, at compare.confidence"
    )
    chance: float | None = Field(description="the metric of answering what is most frequent in the test; null if it has none")
    without_leaks: dict[str, float | None] | None = Field(
        description="the metric of each arm on the test examples that are in no training data; null if all are, or none"
    )
    warnings: list[str] = Field(
        description="what went wrong on the way, a text each: preprocessing, trainings, earlier tasks that were forgotten, "
        "shortcuts; metrics/leaks has what training shares with the test"
    )

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The comparisons by key."""
        return {key: value for key, value in (self.__pydantic_extra__ or {}).items() if isinstance(value, Verdict)}


def judged(differences: Mapping[str, Paired], metric: Metric, settings: Compare, num_seeds: int) -> dict[str, Verdict]:
    """The verdict of each comparison, corrected for all of them together.

    With probability `confidence` none of the claims of a difference is false, and the same holds for the claims "as good": each
    kind has a correction of its own. Both hold over all planned looks.

    Args:
        differences: of each comparison, by its key.
        settings: the section `compare`; its margin is how far apart models may be that count as equally good.
        num_seeds: of each arm. With one seed, the verdicts are about these models: another training may turn out otherwise.

    References:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 1979. Schuirmann, A
        Comparison of the Two One-Sided Tests Procedure, J. Pharmacokinetics and Biopharmaceutics 1987.
    """
    spent, confidence, sure = share(settings.looks, num_seeds), settings.confidence, at_this_look(settings, num_seeds)
    single = {key: min(1.0, p_difference(each) / spent) for key, each in differences.items()}
    apart = {key: min(1.0, p_margin(each, metric, settings.margin, sure) / spent) for key, each in differences.items()}
    corrected, corrected_apart = holm(single), holm(apart)
    found = {}
    for key, each in differences.items():
        lower, upper = (float(end) for end in interval(each.samples, sure))
        word: Word = UNDECIDED
        if corrected[key] <= 1 - confidence:
            word = "helps" if (each.value > 0) == metric.higher_is_better else "hurts"
        elif corrected_apart[key] <= 1 - confidence:
            word = "as good"
        found[key] = Verdict(
            difference=each.value, lower=lower, upper=upper, p=single[key], p_holm=corrected[key], p_margin=apart[key],
            p_margin_holm=corrected_apart[key], verdict=ONE_SEED.get(word, word) if num_seeds == 1 else word,
        )  # fmt: skip
    return found


def share(looks: Sequence[int], num_seeds: int) -> float:
    """The part of the error allowed to all planned looks that the look at `num_seeds` may use: that of the seeds that it adds.

    The parts add up to 1, so by Bonferroni's inequality all looks together claim something false no more often than one would
    that used all of it, whatever is decided after each.

    Args:
        looks: the planned numbers of seeds, rising, `num_seeds` among them; empty if there is one look.

    Reference:
        Kim and DeMets, Design and Analysis of Group Sequential Tests Based on the Type I Error Spending Rate Function, Biometrika
        1987 (their linear function); Jennison and Turnbull, Interim Analyses: The Repeated Confidence Interval Approach, JRSS B
        1989.
    """
    if not looks:
        return 1.0
    return (num_seeds - max((each for each in looks if each < num_seeds), default=0)) / looks[-1]


def at_this_look(settings: Compare, num_seeds: int) -> float:
    """The confidence of an interval at this look, so that those of all looks hold together with compare.confidence."""
    return 1 - (1 - settings.confidence) * share(settings.looks, num_seeds)


def p_difference(found: Paired) -> float:
    """Two-sided p-value that there is no difference: the level at which the percentile interval would just reach 0.

    It is never below what a sign test could give if all examples that tell the models apart favoured the same one: resampling a
    handful of examples says more than they can.

    Reference:
        Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 4.4 (duality) and (4.11) (the added 1).
    """
    return max(_two_sided(found.samples), min(1.0, 2.0 ** (1 - found.telling)))


def p_margin(found: Paired, metric: Metric, margin: float, confidence: float) -> float:
    """p-value that the models are `margin` or more apart: the larger of two one-sided tests.

    If too few examples tell the models apart for a bootstrap, it is the probability of so few if their share were `margin`: of a
    metric that is a mean over the examples, the difference is at most that share.
    """
    if enough(found.telling, confidence):
        samples = found.samples[~np.isnan(found.samples)]
        most = max((samples <= -margin).sum(), (samples >= margin).sum())
        return float((1 + most) / (1 + len(samples)))
    return float(bdtr(found.telling, found.num, margin)) if metric.fraction else 1.0


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """p-values that are corrected for their number: each times the number of those not smaller, never below a smaller one's."""
    corrected, most = {}, 0.0
    for rank, (key, value) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        most = max(most, min(1.0, (len(values) - rank) * value))
        corrected[key] = most
    return corrected


def _two_sided(samples: np.ndarray) -> float:
    known = samples[~np.isnan(samples)]
    fewest = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (1 + fewest) / (1 + len(known))))


def luck(samples: Sequence[np.ndarray]) -> dict[str, float | None]:
    """The mean standard error of the models' figures, and the mean correlation of two of them, over the same resamples (B,) of
    the test; resamples in which one is undefined are left out."""
    values = np.stack(samples)
    values = values[:, ~np.isnan(values).any(axis=0)]
    varying = values[values.std(axis=1) > 0]
    pairs = np.corrcoef(varying)[np.triu_indices(len(varying), 1)] if len(varying) > 1 else np.ones(1)
    return {"standard_error": float(values.std(axis=1).mean()), "correlation": float(pairs.mean())}


def alone(found: Verdict, confidence: float) -> bool:
    """Whether a comparison by itself would show a difference that all together do not."""
    return found.p <= 1 - confidence < found.p_holm


def smaller_than_margin(found: Verdict, confidence: float) -> bool:
    """Whether a difference is shown, and shown to be smaller than the margin."""
    return max(found.p_holm, found.p_margin_holm) <= 1 - confidence
