"""The advisor's rule: which strategy suits this data, reported before any training.

Most texts give thresholds for the number of examples, and they contradict each other: train only the head "with 100 to 1,000
examples", "below 10,000", "below 1,000". Here the effect was measured in this pipeline instead: which fraction of the errors that
a linear probe makes on frozen features (cross-validated on the training images) remains on the test set after each strategy, by
the number of training examples and by how far they are from the data that the starting point was trained on. Near to those, the
frozen features tell the classes apart, and training them loses more than it gains; far from them, it gains with enough examples.
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
# Fraction of the probe's errors that remain after each strategy at 100 training examples and a drift of 0.3 (USUAL), the powers
# of the number of examples and of the drift with which it changes, and how the first power changes with the logarithm of the
# drift; constant beyond what was measured. Fitted by tests/benchmarks/advisor.py to its measurements
# (tests/benchmarks/advisor.csv: ten datasets at 96 px, poly at 160 px too, EfficientNet-Lite0, two or three seeds); what its
# choice costs on datasets that it was not fitted to is in tests/benchmarks/README.md. lora is missing: that network has no layer
# for it.
EXAMPLES = (25, 1000)
DRIFTS = (0.15, 0.6)
USUAL = 100, 0.3
Left = tuple[float, float, float, float]
ERRORS_LEFT: dict[str, Left] = {
    "linear_probe": (0.79, 0.02, -0.35, 0.22),
    "feature_extraction": (0.83, 0.03, -0.42, 0.20),
    "partial": (1.02, -0.06, -0.55, -0.09),
    "full": (1.26, 0.01, -0.20, -0.05),
    "discriminative": (1.18, -0.04, 0.00, -0.00),
    "gradual": (1.16, 0.05, -0.07, 0.13),
    "lp_ft": (1.25, 0.05, -0.13, -0.01),
    "wise_ft": (1.03, 0.05, -0.24, 0.09),
    "l2_sp": (1.25, -0.03, -0.25, -0.11),
    "bss": (1.30, -0.03, -0.21, -0.11),
    "delta": (1.30, 0.03, -0.07, 0.05),
    "bitfit": (1.13, 0.01, 0.01, 0.20),
    "norm_only": (1.01, -0.02, -0.05, 0.12),
    "knn": (0.99, 0.12, -0.27, 0.21),
    "prototype": (0.96, 0.20, -0.32, 0.28),
}
# Typical error of the rule on datasets that it was not fitted to: the median absolute difference between the measured and the
# predicted logarithm of a strategy's errors relative to those of the strategy ranked first.
SPREAD = 0.27


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


def rank(known: dict[str, Any], errors_left: dict[str, Left]) -> list[dict[str, Any]]:
    """Rank strategies by their expected accuracy, best first.

    Args:
        known: from `facts`, and drift (stages.lib.advice.drift; None: unknown).
        errors_left: ERRORS_LEFT, or its counterpart in another rule.

    Returns:
        For each strategy: strategy, left (fraction of the probe's errors), expected (0 to 1), why.
    """
    num, probe, drift = known["num_examples"], known["probe_accuracy"], known["drift"]
    far = "" if drift is None else f" and a drift of {drift:.2f}"
    logarithms = terms(num, drift)
    ranking = []
    for strategy, (share, *powers) in errors_left.items():
        left = share * math.exp(sum(power * term for power, term in zip(powers, logarithms, strict=True)))
        words = f"{1 - left:.0%} fewer errors than" if left < 1 else f"{left - 1:.0%} more errors than"
        words = words if round(left, 2) != 1 else "as many errors as"
        why = f"in our measurements with {num} examples{far}, {words} a linear probe (accuracy here: {probe:.1%})"
        expected = max(0.0, 1 - left * (1 - probe))
        ranking.append({"strategy": strategy, "left": left, "expected": expected, "why": why})
    return sorted(ranking, key=lambda entry: float(entry["left"]))


def terms(num_examples: float, drift: float | None) -> tuple[float, float, float]:
    """What the powers of ERRORS_LEFT are of, as logarithms: examples, drift, both; at the nearest that was measured."""
    examples = math.log(min(max(num_examples, EXAMPLES[0]), EXAMPLES[1]) / USUAL[0])
    far = 0.0 if drift is None else math.log(min(max(drift, DRIFTS[0]), DRIFTS[1]) / USUAL[1])
    return examples, far, examples * far


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
    if known["drift"] is None:
        reasons.append("this network has no batch normalisation that says how far the data are from its own")
    if known["min"] < 5:
        reasons.append(f"the smallest class has {known['min']} examples")
    return "; ".join(reasons)
