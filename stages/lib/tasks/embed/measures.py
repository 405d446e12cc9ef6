"""What evaluation needs to know about embeddings: predictions, metrics, tables, plots.

Predictions are embeddings (N, D) of length 1. Two models may have different D; of arms that were stacked, the shorter ones are
padded with columns of -1, which no embedding has in all rows.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core.contracts import Metric, numbered
from stages.lib.evaluation import statistics
from stages.lib.params.schema import Evaluate
from stages.lib.tasks.embed import people, retrieval, verification

Values = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
MOST_PEOPLE = 200  # for a table of each


def _values(figure: Values) -> Values:
    def values(predictions: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return figure(_unpadded(predictions), people.numbers_of(targets), weights)

    return values


def _differ(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where the embeddings differ, (S, N, D) of any two D to (S, N): each is compared with all others."""
    if first.shape[2] != second.shape[2]:
        return np.ones(first.shape[:2], dtype=bool)
    differ: np.ndarray = (first != second).any(2)
    return differ


def _other_nearest(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where the nearest other picture is another one, which is all that Recall@1 sees."""
    nearest = [np.stack([retrieval.nearest(_unpadded(each))[0] for each in arm]) for arm in (first, second)]
    differ: np.ndarray = nearest[0] != nearest[1]
    return differ


METRICS = {
    "map_at_r": Metric(_values(retrieval.map_at_r), _differ, between=True),
    "recall_at_1": Metric(_values(retrieval.recall_at_1), _other_nearest, between=True),
    "auroc": Metric(_values(verification.auroc), _differ, between=True),
    "tar_at_far_1": Metric(_values(verification.tar_at_far), _differ, between=True),
}


def table(predictions: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Columns of predictions.csv: label, and e0, e1, ... with all digits of float32."""
    return {"label": np.array(people.decoded(targets), dtype=object), **_columns(predictions)}


def read(table: pd.DataFrame, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N, D) float32 and targets from predictions.csv, which may be of a model with another D.

    Raises:
        KeyError: it is the table of another task.
    """
    targets = people.encoded(table["label"].tolist())
    own = [column for column in table.columns if column not in ("key", "group", "label")]
    if not own or own != numbered(len(own)):
        raise KeyError("e0")
    return table[own].to_numpy(np.float32), targets


def served(predictions: np.ndarray, names: Sequence[str], inputs: Sequence[Any]) -> dict[str, Any]:
    """Columns that the served model returns: the embedding, e0, e1, ..."""
    return _columns(predictions)


def report(
    predictions: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, names: Sequence[str], settings: Evaluate, seed: int
) -> dict[str, Any]:
    """All metrics with their intervals, MAP@R of each person, and what the threshold of this test would be.

    Args:
        predictions: (N, D) float32.
        targets: (N, L).
        groups: (N,) the person of each picture, or None, which draws pictures one by one.
        settings: the section `evaluate`.
        seed: of the bootstrap.
    """
    exact, who = predictions.astype(np.float64), people.numbers_of(targets)

    def measured(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {name: metric.values(exact, targets, weights) for name, metric in METRICS.items()}

    values, samples = statistics.bootstrap(
        measured, groups, num_examples=len(targets), num_resamples=settings.num_resamples, seed=seed
    )
    ends = {name: statistics.interval(samples[name], settings.confidence) for name in values}
    precision, hits = retrieval.each(exact, who)
    labels = np.array(people.decoded(targets), dtype=object)
    return {
        "metrics": {
            name: dict(zip(("value", "lower", "upper"), map(statistics.number, (values[name], *ends[name])), strict=True))
            for name in METRICS
        },
        "people": len(set(labels)),
        "per_person": {
            person: {
                "pictures": int((labels == person).sum()),
                "map_at_r": round(float(precision[labels == person].mean()), 6),
                "recall_at_1": round(float(hits[labels == person].mean()), 6),
            }
            for person in (sorted(set(labels)) if len(set(labels)) <= MOST_PEOPLE else [])
        },
        "threshold": statistics.number(np.array(verification.threshold(exact, who))),
    }


def write(
    folder: Path, predictions: np.ndarray, targets: np.ndarray, report: dict[str, Any], title: str, settings: Evaluate
) -> None:
    """Write the figures of each person, and the plots: similarities of pairs, and the ROC curve."""
    from stages.lib.tasks.embed import plots  # here, so that prediction need not wait for matplotlib

    rows = [{"person": person} | each for person, each in report["per_person"].items()]
    columns = ["person", "pictures", "map_at_r", "recall_at_1"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "per_person.csv", index=False)
    same, strangers = verification.pairs(predictions, people.numbers_of(targets))
    limit = report["threshold"]
    plots.similarities(folder / "similarities.png", same.similarity, strangers.similarity, limit, f"{title}: pairs of pictures")
    plots.roc(folder / "roc.png", same.similarity, strangers.similarity, report["metrics"], f"{title}: verification")


PLOTS = ("similarities.png", "roc.png")  # written by `write`; compare shows those of the shipped model


def most_certain(
    predictions: np.ndarray, targets: np.ndarray, keys: Sequence[str], names: Sequence[str], num: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The `num` pictures that are most similar to one of another person, of those whose nearest is one, and half as many others.

    Returns:
        Rows (n,), the coordinate of each (n,) that adds most to the similarity with its nearest picture, and titles.
    """
    vectors, who = retrieval.unit(predictions), people.numbers_of(targets)
    nearest, most = retrieval.nearest(predictions)
    order = np.argsort(-most, kind="stable")
    right = who[nearest[order]] == who[order]
    rows = np.concatenate([order[~right][:num], order[right][: num // 2]])
    labels = people.decoded(targets)
    titles = [
        f"{labels[row]}, nearest: {labels[nearest[row]]} ({most[row]:.2f})\n{keys[row]}\nand {keys[nearest[row]]}" for row in rows
    ]
    return rows, (vectors[rows] * vectors[nearest[rows]]).argmax(1), titles


def _columns(predictions: np.ndarray) -> dict[str, np.ndarray]:
    return {name: predictions[:, index] for index, name in enumerate(numbered(predictions.shape[1]))}


def _unpadded(predictions: np.ndarray) -> np.ndarray:
    """Embeddings without the columns that stacking added."""
    kept = np.flatnonzero((predictions != -1).any(0))
    return predictions[:, : int(kept[-1]) + 1] if len(kept) else predictions
