"""The advisor's rule: which strategy suits this much data, told before anything is trained.

Most texts give thresholds of the number of examples, and they contradict each other: train only the head "with 100 to 1,000
examples", "below 10,000", "below 1,000". The reading taken here is to measure them in this pipeline: how many of the errors that
a linear probe makes on frozen features (cross-validated on the training images) are left on the test after each strategy, by the
number of training examples. So the number decides the order, and the probe decides how much there is to gain. Strategies that the
rule cannot tell apart, going by how far off it was on data that it had not seen, are named beside the first.
"""

import math
from typing import Any

import numpy as np

from stages.lib.advice.transferability import h_score, imbalance, logme, probe_accuracy
from stages.lib.errors import UserError
from stages.lib.networks.backbones import Model
from stages.lib.strategies import bitfit, norm_only

FOLDS = 5
# Share of the probe's errors that are left after each strategy, at two numbers of training examples; between them a straight line
# in the logarithms of both, beyond them constant. Fitted by tests/benchmarks/advisor.py to what it measured
# (tests/benchmarks/advisor.csv: nine datasets at 96 px, poly at 160 px too, EfficientNet-Lite0 with the params as they were on
# 2026-11-26, two seeds or three). For datasets that it was not fitted to, the rule's choice cost 3.6 points on average; always
# the head 5.4, always partial 7.4, always full 13.4. lora is missing: that network has no layer for it.
EXAMPLES = (25, 1000)
ERRORS_LEFT = {
    "feature_extraction": (0.89, 0.96),
    "partial": (1.16, 0.65),
    "full": (1.27, 1.15),
    "discriminative": (1.25, 1.07),
    "gradual": (1.08, 1.33),
    "lp_ft": (1.18, 1.33),
    "wise_ft": (0.97, 1.10),
    "l2_sp": (1.33, 1.02),
    "bss": (1.40, 1.07),
    "delta": (1.25, 1.39),
    "bitfit": (1.11, 1.24),
    "norm_only": (1.03, 0.98),
    "knn": (0.84, 1.28),
    "prototype": (0.73, 1.54),
}
# How far the rule was typically off on datasets that it was not fitted to: median of the distance between the logarithm of a
# strategy's errors over those of the one that it ranked first, and what it said of them.
SPREAD = 0.25


def facts(features: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What the rule and its readers want to know of the training examples.

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


def rank(known: dict[str, Any], errors_left: dict[str, tuple[float, ...]]) -> list[dict[str, Any]]:
    """Strategies by the accuracy that is expected of each, best first.

    Args:
        known: from `facts`.
        errors_left: ERRORS_LEFT, or what another rule has in its place.

    Returns:
        For each strategy: strategy, left (share of the probe's errors), expected (0 to 1), why.
    """
    num, probe = known["num_examples"], known["probe_accuracy"]
    ranking, errors = [], {}
    for strategy, shares in errors_left.items():
        left = math.exp(np.interp(math.log(num), np.log(EXAMPLES), np.log(shares)))
        words = f"{1 - left:.0%} fewer errors than" if left < 1 else f"{left - 1:.0%} more errors than"
        words = words if round(left, 2) != 1 else "as many errors as"
        why = f"with {num} examples it made {words} a linear probe, which is right for {probe:.1%} here"
        errors[strategy] = left * (1 - probe)
        ranking.append({"strategy": strategy, "left": left, "expected": max(0.0, 1 - errors[strategy]), "why": why})
    return sorted(ranking, key=lambda entry: errors[entry["strategy"]])


def takes(model: Model, strategy: str) -> bool:
    """Whether the network has what a strategy of the table trains."""
    conditions = {"bitfit": bitfit.trained, "norm_only": norm_only.trained}  # not every network has biases or normalisations
    try:
        return strategy not in conditions or bool(conditions[strategy](model))
    except UserError:
        return False


def as_good(ranking: list[dict[str, Any]], spread: float) -> list[str]:
    """Strategies that the rule cannot tell from the first of its ranking, best first.

    Args:
        spread: SPREAD, or what another rule has in its place.
    """
    first = ranking[0]["left"]
    return [entry["strategy"] for entry in ranking[1:] if math.log(entry["left"] / first) < spread]


def unsure(known: dict[str, Any], ranking: list[dict[str, Any]], spread: float) -> str:
    """Why the first of the ranking may not be the best, or "" where it is clearly ahead."""
    reasons = []
    if close := as_good(ranking, spread):
        reasons.append(f"{', '.join(close)} may be as good (less than {math.exp(spread) - 1:.0%} more errors expected)")
    if not EXAMPLES[0] <= known["num_examples"] <= 2 * EXAMPLES[-1]:
        reasons.append(f"the rule was measured on {EXAMPLES[0]} to {EXAMPLES[-1]} examples, and here are {known['num_examples']}")
    if known["min"] < 5:
        reasons.append(f"the smallest class has {known['min']} examples")
    return "; ".join(reasons)
