"""What evaluation needs to know about masked-language modelling: predictions, metrics, tables.

Predictions are (N, K, 4) for the K pieces of each text that are asked for: the probability of the right piece, its number in the
tokenizer, the number of the most likely piece, and its probability; -1 where nothing is asked.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core.contracts import Metric
from stages.lib.evaluation import statistics
from stages.lib.params.schema import Evaluate

LEAST = float(np.finfo(np.float32).tiny)  # probability, so that a piece that seemed impossible has a finite loss


def masked_accuracy(predictions: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fraction of the masked pieces for which the most likely piece is right (B,); 0 if nothing is masked."""
    hits, num = _right(predictions).sum(1), _there(predictions).sum(1)
    accuracy: np.ndarray = weights @ hits / np.maximum(weights @ num, 1)
    return accuracy


def perplexity(predictions: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """exp of the mean cross-entropy of the masked pieces (B,): among how many equally likely pieces the model wavers."""
    there = _there(predictions)
    losses = np.where(there, -np.log(np.maximum(predictions[..., 0], LEAST)), 0).sum(1)
    value: np.ndarray = np.exp(weights @ losses / np.maximum(weights @ there.sum(1), 1))
    return value


def _there(predictions: np.ndarray) -> np.ndarray:
    there: np.ndarray = predictions[..., 0] >= 0
    return there


def _right(predictions: np.ndarray) -> np.ndarray:
    right: np.ndarray = _there(predictions) & (predictions[..., 1] == predictions[..., 2])
    return right


def _other_pieces(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    differ: np.ndarray = (_right(first) != _right(second)).any(-1)
    return differ


def _other_probabilities(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    differ: np.ndarray = (first[..., 0] != second[..., 0]).any(-1)
    return differ


METRICS = {
    "masked_accuracy": Metric(masked_accuracy, _other_pieces),
    "perplexity": Metric(perplexity, _other_probabilities, higher_is_better=False, fraction=False),
}
PLOTS: tuple[str, ...] = ()


def table(predictions: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Columns of predictions.csv: the right and the predicted pieces by their numbers in tokenizer.json, and the probability of
    both, with all digits of float32, as JSON."""
    rows = [row[own] for row, own in zip(predictions, _there(predictions), strict=True)]
    columns = [[", ".join(map(str, row[:, column])) for row in rows] for column in (0, 3)]
    numbers = [[" ".join(str(int(number)) for number in row[:, column]) for row in rows] for column in (1, 2)]
    return {
        "label": numbers[0],
        "predicted": numbers[1],
        "probability": [f"[{row}]" for row in columns[0]],
        "confidence": [f"[{row}]" for row in columns[1]],
    }


def read(table: pd.DataFrame, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (N, K, 4) float32 and targets (N, 1) from predictions.csv.

    Raises:
        KeyError: the table was written for another task.
    """
    columns = zip(*(table[name] for name in ("probability", "label", "predicted", "confidence")), strict=True)
    rows = [
        np.array([json.loads(right), label.split(), predicted.split(), json.loads(confidence)], dtype=np.float32).T
        for right, label, predicted, confidence in columns
    ]
    found = np.full((len(rows), max(map(len, rows), default=0), 4), -1, dtype=np.float32)
    for row, values in enumerate(rows):
        found[row, : len(values)] = values
    return found, np.zeros((len(rows), 1), dtype=np.int64)


def report(
    predictions: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, names: Sequence[str], settings: Evaluate, seed: int
) -> dict[str, Any]:
    """All metrics with their intervals, and how many pieces were asked for.

    Args:
        predictions: (N, K, 4) float32.
        targets: (N, 1), unused.
        groups: (N,) the group of each example, or None.
        settings: the section `evaluate`.
        seed: of the bootstrap.
    """
    exact = predictions.astype(np.float64)
    values, samples = statistics.bootstrap(
        lambda weights: {name: metric.values(exact, targets, weights) for name, metric in METRICS.items()},
        groups, num_examples=len(targets), num_resamples=settings.num_resamples, seed=seed,
    )  # fmt: skip
    entries = {}
    for name in METRICS:
        ends = (values[name], *statistics.interval(samples[name], settings.confidence))
        entries[name] = dict(zip(("value", "lower", "upper"), map(statistics.number, ends), strict=True))
    return {"metrics": entries, "num_masked": int(_there(predictions).sum()), "names": list(names)}


def write(
    folder: Path, predictions: np.ndarray, targets: np.ndarray, report: dict[str, Any], title: str, settings: Evaluate
) -> None:
    """Nothing besides the predictions and the report."""
