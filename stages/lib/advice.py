"""The advisor's rule: which strategy suits this much data, told before anything is trained.

Most texts give thresholds of the number of examples, and they contradict each other: train only the head "with 100 to 1,000
examples", "below 10,000", "below 1,000". The reading taken here is to measure them in this pipeline: how many of the errors that
a new head on frozen features makes are left after each strategy, by the number of training examples. So the number decides the
order; what a linear probe achieves on frozen features, cross-validated on the training images, decides how much there is to
gain, and whether strategies can be told apart at all. Where they cannot, the advisor says that it is unsure.
"""

import math
from typing import Any

import numpy as np

from stages.lib.transferability import h_score, imbalance, logme, probe_accuracy

FOLDS = 5
# Share of the errors of feature_extraction that are left after each strategy, by the number of training examples; between the
# numbers linear in the logarithm, beyond them constant. Measured with tests/benchmarks/advisor.py on digits and poly at 96 px,
# with the params as they were on 2026-11-21 and one seed (at 1,000: poly alone), averaged as ratios and made monotone; lp_ft
# at 1,000 is that at 500.
EXAMPLES = (25, 50, 100, 250, 500, 1000)
ERRORS_LEFT = {
    "feature_extraction": (1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    "partial": (1.62, 1.20, 1.20, 0.90, 0.87, 0.87),
    "full": (1.91, 1.69, 1.69, 1.10, 0.94, 0.94),
    "lp_ft": (1.41, 1.37, 1.37, 1.26, 0.95, 0.95),
    "knn": (1.15, 1.15, 1.17, 1.17, 1.21, 1.21),
    "prototype": (1.00, 1.00, 1.24, 1.32, 1.54, 1.62),
}


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


def rank(known: dict[str, Any]) -> list[dict[str, Any]]:
    """Strategies by the accuracy that is expected of each, best first.

    Args:
        known: from `facts`.

    Returns:
        For each strategy: strategy, expected (0 to 1), why.
    """
    num, probe = known["num_examples"], known["probe_accuracy"]
    ranking = []
    for strategy, shares in ERRORS_LEFT.items():
        left = float(np.interp(math.log(num), np.log(EXAMPLES), shares))
        words = f"{1 - left:.0%} fewer errors than" if left < 1 else f"{left - 1:.0%} more errors than"
        words = words if round(left, 2) != 1 else "as many errors as"
        why = f"with {num} examples it made {words} a linear probe, which is right for {probe:.1%} here"
        ranking.append({"strategy": strategy, "expected": 1 - left * (1 - probe), "why": why})
    return sorted(ranking, key=lambda entry: -entry["expected"])


def unsure(known: dict[str, Any], ranking: list[dict[str, Any]]) -> str:
    """Why the first of the ranking may not be the best, or "" where it is clearly ahead.

    Two strategies are not told apart within a standard error of the probe, which is what the expectation rests on.
    """
    close = [entry["strategy"] for entry in ranking[1:] if ranking[0]["expected"] - entry["expected"] < known["probe_error"]]
    reasons = []
    if close:
        reasons.append(f"{', '.join(close)} may be as good (within {100 * known['probe_error']:.1f} points)")
    if not EXAMPLES[0] <= known["num_examples"] <= 2 * EXAMPLES[-1]:
        reasons.append(f"the rule was measured on {EXAMPLES[0]} to {EXAMPLES[-1]} examples, and here are {known['num_examples']}")
    if known["min"] < 5:
        reasons.append(f"the smallest class has {known['min']} examples")
    return "; ".join(reasons)
