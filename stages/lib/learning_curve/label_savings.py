"""How many labels pretraining is worth, derived from learning curves and put into words."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.isotonic import isotonic_regression

from stages.lib.core.contracts import Metric
from stages.lib.core.runs import SCRATCH, shown

EQUAL = 1e-9  # smaller differences are rounding errors


def reached_with(examples: Sequence[int] | np.ndarray, values: np.ndarray, wanted: float) -> float:
    """Number of examples with which a curve reaches a value, for a metric where higher is better.

    More examples do not make a model worse, apart from chance in a single training, so the curve is first made monotone
    (by isotonic regression). Between its points it is linear in the logarithm of the number of examples.

    Args:
        examples: (P,), ascending.
        values: (P,) of the metric.
        wanted: the value to reach.

    Returns:
        The number of examples; the first of `examples` if fewer may suffice, and infinity if the value is never reached.
    """
    monotone = isotonic_regression(np.asarray(values, dtype=float))
    able = np.flatnonzero(monotone >= wanted - EQUAL)
    if not len(able):
        return math.inf
    if able[0] == 0:
        return float(examples[0])
    left, right = able[0] - 1, able[0]
    part = min(1.0, (wanted - monotone[left]) / (monotone[right] - monotone[left]))
    return float(examples[left] * (examples[right] / examples[left]) ** part)


def interval_of_labels(
    examples: list[int], num: int, reached: np.ndarray, control: np.ndarray, confidence: float
) -> tuple[float, float]:
    """Percentile interval of the labels that pretraining is worth: how many more than `num` the control needs.

    Args:
        examples: (P,), ascending.
        num: number of examples of the pretrained arm.
        reached: (B,) its metric as other test examples and other seeds may have it (pairing.resampled_mean); higher is better.
        control: (B, P) the control's metric on the same draws of both.

    Returns:
        Lower and upper bound; infinity if the control never gets as good.
    """
    needed = [reached_with(examples, curve, wanted) for curve, wanted in zip(control, reached, strict=True)]
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(needed, [tail, 1 - tail], method="nearest")  # interpolating with infinity would be meaningless
    return lower - num, upper - num


def sentence(
    arm: str,
    table: pd.DataFrame,
    metric: Metric,
    against: Callable[[int, int], Mapping[str, Any]],
    savings: Callable[[int], tuple[float, float]],
) -> str:
    """What pretraining is worth according to one arm, as a sentence.

    With a examples the arm is as good as the control with b, so pretraining is worth b - a labels. This is reported for the
    largest a for which b is known and larger than a, and for which the arm is better than the control with a, beyond chance.
    If b is unknown for every a, because the control never gets as good, a bound is reported.

    Args:
        table: from `Curve.table`.
        metric: the metric in the table.
        against: (examples of the arm, examples of the control) -> stages.lib.evaluation.pairing.paired_difference.
        savings: examples of the arm -> the interval of the labels that pretraining is worth.
    """
    own, control = (table[table.arm == name] for name in (arm, SCRATCH))
    examples, one_seed = own.examples.tolist(), " (from a single seed)" if own.seeds.iloc[0] == 1 else ""
    reached, without = (dict(zip(examples, each.value, strict=True)) for each in (own, control))
    sign = 1 if metric.higher_is_better else -1
    needed = {num: reached_with(np.array(examples), sign * control.value.to_numpy(), sign * reached[num]) for num in examples}
    most = examples[-1]
    better = [num for num in examples if against(num, num)["verdict"] == "helps"]
    known = [num for num in better if needed[num] < math.inf and _rounded(needed[num] - num) > 0]
    beyond = [num for num in better if needed[num] == math.inf]

    def has(num: int) -> str:
        return f"with {num:,} examples {arm} reaches {metric.text(reached[num])}"

    if known:
        num = known[-1]
        ends = [f"{_rounded(end):,}" if end < math.inf else f"more than {most - num:,}" for end in savings(num)]
        labels, chance = _labels(_rounded(needed[num] - num)), f"interval {' to '.join(ends)}"
        chance = f" (from a single seed, {chance})" if one_seed else f" ({chance})"
        told = (f"Pretraining is worth about {labels} here{chance}: {has(num)}, which random weights reach with about "
                f"{_rounded(needed[num]):,}.")  # fmt: skip
    elif beyond and beyond[0] < most:
        num, certain = beyond[0], against(beyond[0], most)["verdict"] == "helps"
        amount = f"more than {_labels(most - num)}" if certain else f"about {_labels(most - num)} or more"
        doubt = "" if certain else ", a difference that chance may explain"
        told = (f"Pretraining is worth {amount} here{one_seed}: {has(num)}, and random weights only "
                f"{metric.text(without[most])} with {most:,}{doubt}.")  # fmt: skip
    elif beyond:
        return (f"Pretraining helps here{one_seed}, but how many labels it is worth is not known: {has(most)}, and random "
                f"weights {metric.text(without[most])} with as many, the most that were tried.")  # fmt: skip
    else:
        told = f"Pretraining is not shown to be worth any label here{one_seed}: {has(most)}, "
        if needed[most] == math.inf:
            return told + f"and random weights {metric.text(without[most])}, a difference that chance may explain."
        return (
            told
            + f"which random weights reach with {_as_few(needed[most], examples)}."
            + (" They are better here, beyond chance." if against(most, most)["verdict"] == "hurts" else "")
        )
    if num < most and most not in better:
        worse = against(most, most)["verdict"] == "hurts"
        told += f" With {most:,} examples {'random weights are better, beyond chance' if worse else 'no difference is shown'}"
        told += f" ({metric.text(reached[most])} and {metric.text(without[most])})."
    return told


def _rounded(labels: float) -> int:
    """Round to two digits: a curve through a handful of points is no more precise."""
    return int(float(f"{round(labels):.2g}"))


def _labels(num: int) -> str:
    return f"{num:,} label{'' if num == 1 else 's'}"


def _as_few(needed: float, examples: list[int]) -> str:
    if needed == examples[0]:
        return f"{examples[0]:,} or fewer"
    return f"about {_rounded(needed):,}" if _rounded(needed) < examples[-1] else "as many"


def summary(
    table: pd.DataFrame, name: str, metric: Metric, told: list[str], chain: list[str], data: str, seeds: list[int], num_test: int,
    confidence: float,
) -> str:  # fmt: skip
    """The report, as Markdown.

    Args:
        table: from `Curve.table`.
        name: of the metric.
        told: one sentence per strategy.
        chain: of the proposal.
    """
    arms = list(dict.fromkeys(table.arm))
    over = f"mean over seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
    lines = [f"# Learning curve: {' -> '.join([*chain, data])}", "", *(f"- **{words}**" for words in told), ""]
    lines += [f"{name.capitalize().replace('_', ' ')} on the {num_test:,} test examples of {data}, {over} ({confidence:.0%} "
              "interval):", ""]  # fmt: skip
    lines += [f"| training examples | {' | '.join(map(shown, arms))} |", "| ---: |" + " --- |" * len(arms)]
    for num, rows in table.groupby("examples"):
        cells = {
            row.arm: f"{metric.text(row.value)} ({metric.text(row.lower)} to {metric.text(row.upper)})"
            for row in rows.itertuples()
        }
        lines.append(f"| {num:,} | {' | '.join(cells[arm] for arm in arms)} |")
    lines += ["", f"- Pretrained means models/{chain[-1]}. Labels that it was itself trained with are not counted."]
    lines += ["- Every seed draws its own examples, each class in its proportion; smaller draws are part of larger ones. "
              "Validation examples, which choose the epoch, are drawn in the same proportion, and their labels come on "
              "top."]  # fmt: skip
    lines += ["- The intervals cover other test examples, and roughly what the seeds change." if len(seeds) > 1 else
              "- One seed: the intervals cover other test examples but not other training examples, which may change more, "
              "above all where they are few. Try --seeds 0,1,2."]  # fmt: skip
    lines += ["- Every training passes over its examples as often as params.yaml says, however few they are, so few examples "
              "mean few steps. More passes (scratch.epochs) may help random weights more than the others, and make pretraining "
              "worth fewer labels."]  # fmt: skip
    lines += [f"- Each interval has {confidence:.0%} confidence by itself; there is no correction for multiple comparisons."]
    lines += ["- These figures are of the test split, and nothing was chosen by them. Choosing a strategy by "
              "them would be selection on the test set and make them optimistic."]  # fmt: skip
    return "\n".join(lines) + "\n"
