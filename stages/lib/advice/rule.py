"""The advisor's rule: which strategy suits this data, reported before any training.

Most texts give thresholds for the number of examples, and they contradict each other: train only the head "with 100 to 1,000
examples", "below 10,000", "below 1,000". Here the effect was measured in this pipeline instead: which fraction of the errors that
a linear probe makes on frozen features (cross-validated on the training images) remains on the test set after each strategy, by
the number of training examples and by how many errors the probe makes. Where the frozen features already tell the classes apart,
little is gained by changing them; where they do not and there are examples enough, a lot.
Strategies that the rule cannot distinguish, given its typical error on data that it had not seen, are named with the first.
"""

import math
from typing import Any

import numpy as np

from stages.lib.advice.probe import probe_accuracy
from stages.lib.advice.transferability import h_score, imbalance, logme
from stages.lib.errors import UserError
from stages.lib.networks.backbones import Model
from stages.lib.strategies import bitfit, norm_only

FOLDS = 5
# Fraction of the probe's errors that remain after each strategy: at 100 training examples and a probe that is wrong on a fifth
# of them (USUAL), and the powers of the number of examples and of the probe's errors with which it changes, up to the ends of
# what was measured. Fitted by tests/benchmarks/advisor.py to its measurements (tests/benchmarks/advisor.csv: nine datasets at
# 96 px, poly at 160 px too, EfficientNet-Lite0, two or three seeds); what its choice costs on datasets that it was not fitted to
# is in tests/benchmarks/README.md. lora is missing: that network has no layer for it.
EXAMPLES = (25, 1000)
ERRORS = (0.02, 0.8)
USUAL = 100, 0.2
ERRORS_LEFT = {
    "linear_probe": (0.83, -0.04, -0.21),
    "feature_extraction": (0.85, -0.05, -0.21),
    "partial": (0.96, -0.21, -0.16),
    "full": (1.26, -0.08, -0.15),
    "discriminative": (1.21, -0.09, -0.15),
    "gradual": (1.26, -0.09, -0.43),
    "lp_ft": (1.32, -0.09, -0.37),
    "wise_ft": (1.07, -0.07, -0.31),
    "l2_sp": (1.25, -0.14, -0.21),
    "bss": (1.31, -0.14, -0.21),
    "delta": (1.40, -0.11, -0.43),
    "bitfit": (1.24, -0.09, -0.37),
    "norm_only": (1.05, -0.08, -0.22),
    "knn": (1.05, -0.01, -0.37),
    "prototype": (1.02, 0.09, -0.36),
}
# Typical error of the rule on datasets that it was not fitted to: the median absolute difference between the measured and the
# predicted logarithm of a strategy's errors relative to those of the strategy ranked first.
SPREAD = 0.25


def facts(features: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Statistics of the training examples for the rule and its report.

    Args:
        features: (N, D) of the frozen starting point.
        labels: (N,) indices.
    """
    correct = probe_accuracy(features, labels, folds=FOLDS, seed=0)
    accuracy = float(correct.mean())
    return {
        "num_examples": len(labels),
        **imbalance(labels),
        "probe_accuracy": accuracy,
        "probe_error": float(np.sqrt(max(accuracy * (1 - accuracy), 1 / len(labels)) / len(labels))),  # standard error
        "logme": logme(features, labels),
        "h_score": h_score(features, labels),
    }


def rank(known: dict[str, Any], errors_left: dict[str, tuple[float, float, float]]) -> list[dict[str, Any]]:
    """Rank strategies by their expected accuracy, best first.

    Args:
        known: from `facts`.
        errors_left: ERRORS_LEFT, or its counterpart in another rule.

    Returns:
        For each strategy: strategy, left (fraction of the probe's errors), expected (0 to 1), why.
    """
    num, probe = known["num_examples"], known["probe_accuracy"]
    examples, wrong = (value / usual for value, usual in zip(seen(num, probe), USUAL, strict=True))
    ranking, errors = [], {}
    for strategy, (share, by_examples, by_errors) in errors_left.items():
        left = share * examples**by_examples * wrong**by_errors
        words = f"{1 - left:.0%} fewer errors than" if left < 1 else f"{left - 1:.0%} more errors than"
        words = words if round(left, 2) != 1 else "as many errors as"
        why = f"in our measurements with {num} examples, {words} a cross-validated linear probe that is {probe:.1%} right"
        errors[strategy] = left * (1 - probe)
        ranking.append({"strategy": strategy, "left": left, "expected": max(0.0, 1 - errors[strategy]), "why": why})
    return sorted(ranking, key=lambda entry: float(entry["left"]))


def seen(num_examples: float, probe_accuracy: float) -> tuple[float, float]:
    """Examples and fraction of the probe's errors, or the nearest that the rule was measured on."""
    return min(max(num_examples, EXAMPLES[0]), EXAMPLES[1]), min(max(1 - probe_accuracy, ERRORS[0]), ERRORS[1])


def takes(model: Model, strategy: str) -> bool:
    """Whether the network has the parameters that a strategy of the table trains."""
    conditions = {"bitfit": bitfit.trained, "norm_only": norm_only.trained}  # not every network has biases or norm layers
    try:
        return strategy not in conditions or bool(conditions[strategy](model))
    except UserError:
        return False


def as_good(ranking: list[dict[str, Any]], spread: float) -> list[str]:
    """Strategies that the rule cannot distinguish from the first of its ranking, best first.

    Args:
        spread: SPREAD, or its counterpart in another rule.
    """
    first = ranking[0]["left"]
    return [entry["strategy"] for entry in ranking[1:] if math.log(entry["left"] / first) < spread]


def unsure(known: dict[str, Any], ranking: list[dict[str, Any]], spread: float) -> str:
    """Why the first of the ranking may not be the best, or "" if it is clearly ahead."""
    reasons = []
    if close := as_good(ranking, spread):
        reasons.append(f"{', '.join(close)} may be as good (less than {math.exp(spread) - 1:.0%} more errors expected)")
    if not EXAMPLES[0] <= known["num_examples"] <= 2 * EXAMPLES[-1]:
        reasons.append(f"the rule was measured on {EXAMPLES[0]} to {EXAMPLES[-1]} examples, and here are {known['num_examples']}")
    if known["min"] < 5:
        reasons.append(f"the smallest class has {known['min']} examples")
    return "; ".join(reasons)
