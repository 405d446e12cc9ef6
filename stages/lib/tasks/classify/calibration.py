"""What classification takes from validation: when to answer a class, and prediction sets that hold the right one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.lib.calibration import ranks
from stages.lib.errors import UserError, listed
from stages.lib.evaluation import statistics
from stages.lib.params.schema import Calibrate, Decision, Evaluate
from stages.lib.tasks.classify import metrics


def fitted(predictions: np.ndarray, targets: np.ndarray, classes: Sequence[str], settings: Calibrate) -> dict[str, Any]:
    """The decision and the prediction sets, from the examples of validation.

    Args:
        predictions: (n, C).
        targets: (n,).
        settings: the section `calibrate`.

    Returns:
        decision: None, or its label, threshold and, if a recall was wanted, that (`wanted`), the one that the examples of the
            class can promise (`promised`), how many it needs (`needed`), and how many there are (`known`).
        sets: by the names of columns, the probability (`lowest`) from which a class is in the set, and the share that was wanted.

    Raises:
        UserError: the decision names no class of the model, or one without an example in validation.

    Reference:
        Sadinle, Lei and Wasserman, Least Ambiguous Set-Valued Classifiers with Bounded Error Levels, JASA 2019 (LAC, the smallest
        sets on average). The decision is the same for one class: its recall is the coverage of that class.
    """
    right = predictions[np.arange(len(targets)), targets]
    return {
        "decision": None if settings.decision is None else _decision(predictions, targets, classes, settings.decision),
        "sets": {column(share): {"share": share, "lowest": max(0.0, -ranks.upper(-right, share))} for share in settings.sets},
    }


def _decision(predictions: np.ndarray, targets: np.ndarray, classes: Sequence[str], wanted: Decision) -> dict[str, Any]:
    if wanted.label not in classes:
        raise UserError(f"calibrate.decision: {wanted.label!r} is none of the model's classes. Allowed: {listed(classes)}.")
    if wanted.threshold is not None:
        return {"label": wanted.label, "threshold": wanted.threshold}
    index, share = list(classes).index(wanted.label), wanted.recall or 0.0
    own = predictions[targets == index, index]
    if not len(own):
        raise UserError(
            f"calibrate.decision: validation has no example of {wanted.label}, so no threshold can be chosen there. "
            "Give more of the data to validation (datasets.<name>.split.val), or name a threshold."
        )
    threshold, promised = -ranks.upper(-own, share), share
    if math.isinf(threshold):
        threshold, promised = float(own.min()), round(ranks.most(len(own)), 6)
    return {
        "label": wanted.label, "threshold": threshold, "wanted": share, "promised": promised, "needed": ranks.needed(share),
        "known": len(own),
    }  # fmt: skip


def column(share: float) -> str:
    """The column of a prediction set: set_95."""
    return f"set_{100 * share:g}".replace(".", "_")


def decided(predictions: np.ndarray, classes: Sequence[str], fitted: Mapping[str, Any]) -> np.ndarray:
    """The index of the class that is answered (N,): the most probable one, unless there is a decision."""
    decision = fitted["decision"]
    if decision is None:
        most_probable: np.ndarray = predictions.argmax(1)
        return most_probable
    index = list(classes).index(decision["label"])
    others = predictions.copy()
    others[:, index] = -1
    return np.where(predictions[:, index] >= decision["threshold"], index, others.argmax(1))


def members(predictions: np.ndarray, answers: np.ndarray, lowest: float) -> np.ndarray:
    """Which classes are in each prediction set (N, C): those that are probable enough, and the answer, so that none is empty."""
    held = predictions >= lowest
    held[np.arange(len(answers)), answers] = True
    return held


def answered(predictions: np.ndarray, classes: Sequence[str], fitted: Mapping[str, Any]) -> dict[str, Any]:
    """Columns that the served model returns: label and its probability, as decided, and a list of classes for each set."""
    answers, names = decided(predictions, classes, fitted), np.array(classes, dtype=object)
    columns: dict[str, Any] = {"label": names[answers], "probability": predictions[np.arange(len(answers)), answers]}
    for name, each in fitted["sets"].items():
        columns[name] = [names[row].tolist() for row in members(predictions, answers, each["lowest"])]
    return columns


def measured(
    predictions: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, classes: Sequence[str], fitted: Mapping[str, Any],
    num: int, settings: Evaluate, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """The figures of the decision and of the sets on the test.

    Args:
        predictions, targets, groups: of the test, as `measures.report` takes them.
        num: examples of validation.

    Returns:
        For each set its coverage with its interval, the interval in which it should be (`expected_lower`, `expected_upper`), how
        many classes it holds on average (`classes`), and how many examples of validation it needs and has (`needed`, `known`).
        For the decision its metrics.
    """
    how = {"num_resamples": settings.num_resamples, "seed": seed}
    answers, rows = decided(predictions, classes, fitted), np.arange(len(targets))
    found: dict[str, Any] = {}
    for name, each in fitted["sets"].items():
        held = members(predictions, answers, each["lowest"])
        lower, upper = ranks.expected(num, each["share"], len(targets), settings.confidence)
        found[name] = {
            "coverage": statistics.proportion(held[rows, targets], groups, confidence=settings.confidence, **how),
            "share": each["share"],
            "needed": ranks.needed(each["share"]),  # examples of validation
            "known": num,
            "expected_lower": round(lower, 6),
            "expected_upper": round(upper, 6),
            "classes": round(float(held.sum(1).mean()), 6),
        }
    if fitted["decision"] is None:
        return found
    as_decided = np.eye(len(classes))[answers]
    index = list(classes).index(fitted["decision"]["label"])

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        each = metrics.per_class(as_decided, targets, weights)
        own = {name: each[name][:, index] for name in ("precision", "recall")}
        whole = {
            name: getattr(metrics, name)(as_decided, targets, weights) for name in ("accuracy", "balanced_accuracy", "macro_f1")
        }
        return whole | own

    values, samples = statistics.bootstrap(figures, groups, num_examples=len(targets), **how)
    entries = {}
    for name, value in values.items():
        ends = statistics.interval(samples[name], settings.confidence)
        entries[name] = dict(zip(("value", "lower", "upper"), map(statistics.number, (value, *ends)), strict=True))
    return found | {"decision": {**fitted["decision"], "metrics": entries}}
