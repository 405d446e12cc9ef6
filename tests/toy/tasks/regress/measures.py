"""What evaluation needs to know of regression."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core.contracts import Metric
from stages.lib.evaluation import statistics
from stages.lib.params.schema import Evaluate

PLOTS: tuple[str, ...] = ()


def _error(predictions: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ np.abs(predictions - targets) / weights.sum(1)


METRICS = {"mean_absolute_error": Metric(_error, lambda first, second: first != second, higher_is_better=False, fraction=False)}


def table(predictions: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Columns of predictions.csv."""
    return {"label": targets, "answer": predictions}


def read(table: pd.DataFrame, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets of predictions.csv."""
    return table["answer"].to_numpy(np.float32), table["label"].astype(np.float32).to_numpy()


def served(predictions: np.ndarray, names: Sequence[str], inputs: Sequence[Any]) -> dict[str, Any]:
    """What the served model answers with."""
    return {"value": predictions}


def report(
    predictions: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, names: Sequence[str], settings: Evaluate, seed: int
) -> dict[str, Any]:
    """The error with its interval."""
    value, samples = statistics.bootstrap(
        lambda weights: {"": _error(predictions.astype(np.float64), targets, weights)}, groups,
        num_examples=len(targets), num_resamples=settings.num_resamples, seed=seed,
    )  # fmt: skip
    lower, upper = statistics.interval(samples[""], settings.confidence)
    ends = {"value": value[""], "lower": lower, "upper": upper}
    return {"metrics": {"mean_absolute_error": {key: statistics.number(np.asarray(end)) for key, end in ends.items()}}}


def write(
    folder: Path, predictions: np.ndarray, targets: np.ndarray, report: dict[str, Any], title: str, settings: Evaluate
) -> None:
    """Nothing more."""


def most_certain(
    predictions: np.ndarray, targets: np.ndarray, keys: Sequence[str], names: Sequence[str], num: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The largest errors."""
    rows = np.argsort(-np.abs(predictions - targets), kind="stable")[:num]
    titles = [f"{keys[row]}: {predictions[row]:.2f}, is {targets[row]:.2f}" for row in rows]
    return rows, np.zeros(len(rows), dtype=np.int64), titles
