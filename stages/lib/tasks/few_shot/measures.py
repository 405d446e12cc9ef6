"""What evaluation needs to know about few-shot classification: how right each classifier is in each episode.

Predictions are (E, S, 10), for each episode and setting: its way and shot, the accuracy of each classifier, and the most certain
mistake of cosine prototypes (COLUMNS).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core.contracts import Metric, Units, numbered
from stages.lib.core.datasets import Episodes, PackedSplit
from stages.lib.evaluation import statistics
from stages.lib.params.schema import Evaluate
from stages.lib.tasks.few_shot import classifiers

CLASSIFIERS = tuple(classifiers.CLASSIFIERS)
ACCURACIES = slice(2, 2 + len(CLASSIFIERS))
MISTAKE = slice(ACCURACIES.stop, None)
# Of the mistake: the rows of the query and of the first support example of the class that it was taken for, how much more similar
# that class was than its own, and the coordinate of the embedding that speaks most for it; -1 if there is none.
COLUMNS = ("way", "shot", *CLASSIFIERS, "mistaken", "taken_for", "by", "coordinate")


def _metric(classifier: str) -> Metric:
    """The mean over episodes of a classifier's accuracy in the first setting."""
    column = COLUMNS.index(classifier)

    def values(predictions: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        mean: np.ndarray = weights @ predictions[:, 0, column] / weights.sum(1)
        return mean

    def differ(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        other: np.ndarray = first[:, :, 0, column] != second[:, :, 0, column]
        return other

    return Metric(values, differ)


METRICS = {
    "accuracy": _metric("cosine_prototypes"),
    "accuracy_euclidean": _metric("euclidean_prototypes"),
    "accuracy_matching": _metric("matching"),
    "accuracy_linear_probe": _metric("linear_probe"),
}


def units(embeddings: np.ndarray, split: PackedSplit) -> Units:
    """The episodes of a split with the accuracy of each classifier, from the embeddings (N, D) of all of its examples.

    The target of an episode (E,) is a number that stands for its examples, so that only the same episodes are compared.
    """
    assert split.episodes, "the params have been checked"
    episodes = split.episodes
    settings = [_setting(embeddings, episodes, way, shot) for way in episodes.ways for shot in episodes.shots]
    found = np.stack(settings, axis=1).astype(np.float32)
    found[:, 1:, MISTAKE] = -1  # shown for the first setting alone
    return Units(found, _fingerprints(episodes, split.keys), [f"{index:04}" for index in range(len(found))])


def _setting(embeddings: np.ndarray, episodes: Episodes, way: int, shot: int) -> np.ndarray:
    """The columns (E, 10) of one way and shot."""
    support, queries = episodes.part(way, shot)
    scores = {name: classifiers.scores(name, embeddings, support, queries) for name in CLASSIFIERS}
    accuracies = [classifiers.credit(each).mean(1) for each in scores.values()]
    given = [np.full(len(support), float(value)) for value in (way, shot)]
    return np.column_stack([*given, *accuracies, _mistakes(embeddings, scores["cosine_prototypes"], support, queries)])


def _mistakes(embeddings: np.ndarray, scores: np.ndarray, support: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The query of each episode that is most certainly taken for another class: the last columns (E, 4)."""
    num, way, each = queries.shape
    own = np.repeat(np.arange(way), each)
    mine = scores[:, np.arange(way * each), own]
    margins = scores.max(2) - mine
    worst = margins.argmax(1)
    row = np.arange(num)
    asked, taken = queries.reshape(num, -1)[row, worst], scores[row, worst].argmax(1)
    wrong, right = (embeddings[support[row, classes]].mean(1) for classes in (taken, own[worst]))
    coordinate = (embeddings[asked] * (wrong - right)).argmax(1)
    found = np.column_stack([asked, support[row, taken, 0], margins[row, worst], coordinate])
    return np.where(margins[row, worst][:, None] > 0, found, -1.0)


def _fingerprints(episodes: Episodes, keys: Sequence[str]) -> np.ndarray:
    """A number (E,) for the examples of each episode in their order, below 2**48."""
    names = np.array(keys, dtype=object)
    rows = np.concatenate([episodes.support, episodes.queries], axis=2).reshape(len(episodes.support), -1)
    digests = [hashlib.sha256("\n".join([str(episodes.shots), *names[own]]).encode()).digest()[:6] for own in rows]
    return np.array([int.from_bytes(digest, "big") for digest in digests], dtype=np.int64)


def table(predictions: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Columns of predictions.csv: label (the episode's fingerprint), and for each setting the accuracy of each classifier."""
    columns: dict[str, Any] = {"label": [f"{target:012x}" for target in targets]}
    for setting in range(predictions.shape[1]):
        way, shot = (int(number) for number in predictions[0, setting, :2]) if len(predictions) else (0, 0)
        columns |= {f"{way}_way_{shot}_shot_{name}": predictions[:, setting, COLUMNS.index(name)] for name in COLUMNS[2:]}
    return columns


def read(table: pd.DataFrame, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (E, S, 10) float32 and targets (E,) from predictions.csv.

    Raises:
        KeyError: the table was written for another task.
    """
    targets = np.array([int(label, 16) for label in table["label"]], dtype=np.int64)
    first = COLUMNS[2]
    settings = [column.removesuffix(f"_{first}") for column in table if column.endswith(f"_shot_{first}")]
    if not settings:
        raise KeyError(first)
    parts = []
    for setting in settings:
        way, _, shot, _ = setting.split("_")
        given = np.tile(np.array([way, shot], dtype=np.float32), (len(table), 1))
        own = table[[f"{setting}_{name}" for name in COLUMNS[2:]]].to_numpy(np.float32)
        parts.append(np.concatenate([given, own], axis=1))
    return np.stack(parts, axis=1), targets


def report(
    predictions: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, names: Sequence[str], settings: Evaluate, seed: int
) -> dict[str, Any]:
    """The accuracy of each classifier in each setting, with its interval over episodes, and how much better it is than cosine
    prototypes, paired over the same episodes.

    Args:
        predictions: (E, S, 10) float32.
        targets: (E,).
        groups: (E,) or None.
        settings: the section `evaluate`.
        seed: of the bootstrap.
    """
    exact = predictions[..., ACCURACIES].astype(np.float64)
    flat = exact.reshape(len(exact), -1)

    def measured(weights: np.ndarray) -> dict[str, np.ndarray]:
        means = (weights @ flat / weights.sum(1, keepdims=True)).reshape(len(weights), *exact.shape[1:])
        return {"accuracy": means, "over_cosine": means - means[..., :1]}

    values, samples = statistics.bootstrap(
        measured, groups, num_examples=len(targets), num_resamples=settings.num_resamples, seed=seed
    )
    ends = {name: statistics.interval(samples[name], settings.confidence) for name in values}

    def entry(name: str, *index: int) -> dict[str, float | None]:
        numbers = (values[name], *ends[name])
        return {
            key: statistics.number(np.asarray(each)[index])
            for key, each in zip(("value", "lower", "upper"), numbers, strict=True)
        }

    given = predictions[0, :, :2].astype(int).tolist()
    every = [
        {"way": way, "shot": shot, "classifier": name, **entry("accuracy", row, column),
         "over_cosine": entry("over_cosine", row, column) if column else None}
        for row, (way, shot) in enumerate(given)
        for column, name in enumerate(CLASSIFIERS)
    ]  # fmt: skip
    return {
        "metrics": {name: entry("accuracy", 0, column) for column, name in enumerate(METRICS)},
        "way": given[0][0],
        "shot": given[0][1],
        "settings": every,
    }


def write(
    folder: Path, predictions: np.ndarray, targets: np.ndarray, report: dict[str, Any], title: str, settings: Evaluate
) -> None:
    """Write the accuracies of all settings as a table, and the curve over shots."""
    from stages.lib.tasks.few_shot import plots  # here, so that prediction need not wait for matplotlib

    found = pd.json_normalize(report["settings"], sep="_").drop(columns="over_cosine", errors="ignore")
    found.to_csv(folder / "shots.csv", index=False)
    plots.shots(folder / "shots.png", found, f"{title} on {len(targets)} episodes", settings.confidence)


PLOTS = ("shots.png",)  # written by `write`; compare shows those of the shipped model


def most_certain(
    predictions: np.ndarray, targets: np.ndarray, keys: Sequence[str], names: Sequence[str], num: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The `num` examples that cosine prototypes took for another class most certainly, in the first setting.

    Returns:
        Rows (n,) of the split, the coordinate of the embedding that is explained (n,), and titles; none without a mistake.
    """
    mistaken, taken_for, by, coordinate = predictions[:, 0, MISTAKE].T
    order = np.argsort(-by, kind="stable")
    order = order[mistaken[order] >= 0]
    order = order[np.sort(np.unique(mistaken[order], return_index=True)[1])][:num]  # an example is in many episodes
    titles = [f"{keys[int(mistaken[row])]}\ntaken for\n{keys[int(taken_for[row])]} (+{by[row]:.2f})" for row in order]
    return mistaken[order].astype(int), coordinate[order].astype(int), titles


def served(predictions: np.ndarray, names: Sequence[str], inputs: Sequence[Any]) -> dict[str, Any]:
    """Columns that the served model returns: the embedding, e0, e1, ..."""
    return {name: predictions[:, index] for index, name in enumerate(numbered(predictions.shape[1]))}
