"""What evaluation needs to know about classification: predictions, metrics, tables, plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core.contracts import Metric
from stages.lib.evaluation import statistics
from stages.lib.params.schema import Evaluate
from stages.lib.tasks.classify import metrics


def _other_class(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where the predicted classes differ, which is all that most metrics see."""
    differ: np.ndarray = first.argmax(2) != second.argmax(2)
    return differ


def _other_scores(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    differ: np.ndarray = (first != second).any(2)
    return differ


METRICS = {
    "accuracy": Metric(metrics.accuracy, _other_class),
    "balanced_accuracy": Metric(metrics.balanced_accuracy, _other_class),
    "macro_f1": Metric(metrics.macro_f1, _other_class),
    "auroc": Metric(metrics.auroc, _other_scores),
}


def constant(targets: np.ndarray, num_classes: int) -> np.ndarray:
    """The predictions (N, C) of a model that always answers the most frequent class of the targets (N,)."""
    most = np.bincount(targets, minlength=num_classes).argmax()
    return np.eye(num_classes)[np.full(len(targets), most)]


def table(predictions: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Columns of predictions.csv: label, predicted, and p_<class> with all digits of float32."""
    names = np.array(classes, dtype=object)
    columns = {"label": names[targets], "predicted": names[predictions.argmax(1)]}
    return columns | {f"p_{name}": predictions[:, index] for index, name in enumerate(classes)}


def read(table: pd.DataFrame, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (N, C) float32 and targets (N,) from predictions.csv, all of whose columns but p_<class> are text.

    Raises:
        KeyError: the table was written for other classes.
    """
    index = {name: number for number, name in enumerate(classes)}
    targets = np.array([index[label] for label in table["label"]], dtype=np.int64)
    return table[[f"p_{name}" for name in classes]].to_numpy(np.float32), targets


def served(predictions: np.ndarray, classes: Sequence[str], inputs: Sequence[Any]) -> dict[str, Any]:
    """Columns that the served model returns: label, its probability, and p_<class>."""
    labels = np.array(classes, dtype=object)[predictions.argmax(1)]
    columns: dict[str, Any] = {"label": labels, "probability": predictions.max(1)}
    return columns | {f"p_{name}": predictions[:, index] for index, name in enumerate(classes)}


def report(
    predictions: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, classes: Sequence[str], settings: Evaluate, seed: int
) -> dict[str, Any]:
    """All metrics with their intervals, also per class, and the confusion matrix.

    Args:
        predictions: (N, C) float32.
        targets: (N,).
        groups: (N,) the group of each example, or None.
        settings: the section `evaluate`.
        seed: of the bootstrap.
    """
    exact = predictions.astype(np.float64)

    def measured(weights: np.ndarray) -> dict[str, np.ndarray]:
        areas = metrics.auroc_per_class(exact, targets, weights)  # once: with many classes they take nearly all of the time
        each = {name: metric.values(exact, targets, weights) for name, metric in METRICS.items() if name != "auroc"}
        each["auroc"] = metrics.mean_auroc(areas)
        each["ece"] = metrics.ece(exact, targets, weights, settings.ece_bins)
        by_class = metrics.per_class(exact, targets, weights)
        return each | by_class | {"auroc_per_class": areas}

    values, samples = statistics.bootstrap(
        measured, groups, num_examples=len(targets), num_resamples=settings.num_resamples, seed=seed
    )
    ends: dict[str, tuple[np.ndarray | float, np.ndarray | float]]
    ends = {name: statistics.interval(samples[name], settings.confidence) for name in values}
    ends["ece"] = statistics.bias_corrected_interval(float(values["ece"]), samples["ece"], settings.confidence)

    def entry(name: str, *index: int) -> dict[str, float | None]:
        numbers = map(np.asarray, (values[name], *ends[name]))
        return {key: statistics.number(each[index]) for key, each in zip(("value", "lower", "upper"), numbers, strict=True)}

    return {
        "metrics": {name: entry(name) for name in [*METRICS, "ece"]},
        "per_class": {
            label: {name: entry(name, index) for name in ("precision", "recall", "f1", "false_alarms")}
            | {"auroc": entry("auroc_per_class", index), "support": int(values["support"][index])}
            for index, label in enumerate(classes)
        },
        "confusion": metrics.confusion(exact.argmax(1), targets, len(classes)).tolist(),
        "classes": list(classes),
    }


def write(
    folder: Path, predictions: np.ndarray, targets: np.ndarray, report: dict[str, Any], title: str, settings: Evaluate
) -> None:
    """Write the confusion matrix and the reliability diagram, each as a table and a plot."""
    from stages.lib.tasks.classify import plots  # here, so that prediction need not wait for matplotlib

    classes, counts = np.array(report["classes"], dtype=object), np.array(report["confusion"])
    actual, predicted = np.nonzero(counts)
    cells = {"actual": classes[actual], "predicted": classes[predicted], "count": counts[actual, predicted]}
    pd.DataFrame(cells).to_csv(folder / "confusion.csv", index=False)

    bins = pd.DataFrame(metrics.reliability(predictions.astype(np.float64), targets, settings.ece_bins))
    bins.insert(0, "bin", np.arange(1, settings.ece_bins + 1))
    bins.round(6).to_csv(folder / "reliability.csv", index=False)

    plots.confusion(folder / "confusion.png", counts, report["classes"], f"{title} on {len(targets)} test examples")
    plots.reliability(folder / "reliability.png", bins, f"{title}: calibration")


EARLIER = "balanced_accuracy"  # the metric of what was forgotten: a model that answers one class for everything is at chance
PLOTS = ("confusion.png", "reliability.png")  # written by `write`; compare shows those of the shipped model


def most_certain(
    predictions: np.ndarray, targets: np.ndarray, keys: Sequence[str], classes: Sequence[str], num: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The most confident mistakes, `num` in turn from the classes and in their order, and half as many correct predictions.

    Returns:
        Rows (n,), the index of the predicted output of each (n,), and titles.
    """
    confidence, predicted = predictions.max(1), predictions.argmax(1)
    order = np.argsort(-confidence, kind="stable")
    right = predicted[order] == targets[order]
    wrong = order[~right]
    rank = np.zeros(len(wrong), dtype=int)  # of each mistake among those of its class
    for label in np.unique(targets[wrong]):
        rank[targets[wrong] == label] = np.arange((targets[wrong] == label).sum())
    chosen = wrong[np.argsort(rank, kind="stable")][:num]
    rows = np.concatenate([chosen[np.argsort(targets[chosen], kind="stable")], order[right][: num // 2]])
    titles = [
        f"{classes[predicted[row]]} ({100 * confidence[row]:.0f} %)"
        + (", right" if predicted[row] == targets[row] else f"\nis {classes[targets[row]]}")
        + f"\n{keys[row]}"
        for row in rows
    ]
    return rows, predicted[rows], titles
