"""What evaluation needs to know about tagging: predictions, metrics, tables, plots."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core.contracts import NO_TARGET, Metric
from stages.lib.evaluation import statistics
from stages.lib.params.schema import Evaluate
from stages.lib.tasks.tag import entities, metrics, mistakes


def _other_tags(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where any predicted tag differs; a word without a prediction counts as O."""
    differ: np.ndarray = (np.maximum(first[..., 0], 0) != np.maximum(second[..., 0], 0)).any(-1)
    return differ


METRICS = {
    "entity_f1": Metric(metrics.entity_f1, _other_tags),
    "entity_precision": Metric(metrics.entity_precision, _other_tags),
    "entity_recall": Metric(metrics.entity_recall, _other_tags),
    "token_accuracy": Metric(metrics.token_accuracy, _other_tags),
}


def table(predictions: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Columns of predictions.csv: the words' tags in label and predicted, and confidence: the probability of each predicted tag
    with all digits of float32, as JSON; null for a word that was cut off."""
    tags = metrics.tags(predictions, targets)
    words = targets != NO_TARGET
    confidence = predictions[..., 1]
    return {
        "label": [_text(row[own], names) for row, own in zip(targets, words, strict=True)],
        "predicted": [_text(row[own], names) for row, own in zip(tags, words, strict=True)],
        "confidence": [
            f"[{', '.join('null' if value < 0 else str(value) for value in row[: own.sum()])}]"
            for row, own in zip(confidence, words, strict=True)
        ],
    }


def read(table: pd.DataFrame, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (N, W, 2) float32 and targets (N, W) from predictions.csv.

    Raises:
        KeyError: the table was written for other tags.
    """
    index = {name: number for number, name in enumerate(names)}
    labels = [[index[tag] for tag in label.split()] for label in table["label"]]
    shape = len(labels), max(map(len, labels), default=0)
    targets, predictions = np.full(shape, NO_TARGET, dtype=np.int64), np.full((*shape, 2), -1, dtype=np.float32)
    for row, (label, tags, confidence) in enumerate(zip(labels, table["predicted"], table["confidence"], strict=True)):
        targets[row, : len(label)] = label
        for word, (tag, probability) in enumerate(zip(tags.split(), json.loads(confidence), strict=False)):
            if probability is not None:
                predictions[row, word] = index[tag], probability
    return predictions, targets


def served(predictions: np.ndarray, names: Sequence[str], inputs: Sequence[str]) -> dict[str, Any]:
    """Columns that the served model returns, as text: `entities`, a JSON list of what was found, and `tags`, one for each word.

    An entity has its `text` and `label`, where it begins and ends (characters of the text in `inputs`; `end` is the one after its
    last), and its `probability`, the mean over its words. Words are what is between white space.
    """
    found, all_tags = [], []
    for each, text in zip(predictions, inputs, strict=True):
        words = [match.span() for match in re.finditer(r"\S+", text)]
        tags = metrics.tags(each[None], np.zeros((1, len(words)), dtype=np.int64))
        all_tags.append(_text(tags[0], names))
        listed = []
        for _, start, end, kind in zip(*entities.find(tags), strict=True):
            first, last = words[start][0], words[end - 1][1]
            listed.append({
                "text": text[first:last], "label": names[2 * kind + 1][2:], "start": first, "end": last,
                "probability": round(float(each[start:end, 1].mean()), 6),
            })  # fmt: skip
        found.append(json.dumps(listed, ensure_ascii=False))
    return {"entities": np.array(found, dtype=object), "tags": np.array(all_tags, dtype=object)}


def report(
    predictions: np.ndarray, targets: np.ndarray, groups: np.ndarray | None, names: Sequence[str], settings: Evaluate, seed: int
) -> dict[str, Any]:
    """All metrics with their intervals, also for each type of entity, and what token accuracy hides.

    Args:
        predictions: (N, W, 2) float32.
        targets: (N, W).
        groups: (N,) the group of each example, or None.
        settings: the section `evaluate`.
        seed: of the bootstrap.
    """
    types = [name[2:] for name in names[1::2]]
    counts = entities.counts(metrics.tags(predictions, targets), targets, len(types))

    def measured(weights: np.ndarray) -> dict[str, np.ndarray]:
        values = {name: metric.values(predictions, targets, weights) for name, metric in METRICS.items()}
        return values | metrics.scores(np.tensordot(weights, counts, 1))

    values, samples = statistics.bootstrap(
        measured, groups, num_examples=len(targets), num_resamples=settings.num_resamples, seed=seed
    )
    ends = {name: statistics.interval(samples[name], settings.confidence) for name in values}

    def entry(name: str, *index: int) -> dict[str, float | None]:
        numbers = map(np.asarray, (values[name], *ends[name]))
        return {key: statistics.number(each[index]) for key, each in zip(("value", "lower", "upper"), numbers, strict=True)}

    words = targets != NO_TARGET
    answered = words[:, : predictions.shape[1]] & (predictions[:, : words.shape[1], 0] >= 0)
    _, predicted, actual = counts.sum(0).T
    return {
        "metrics": {name: entry(name) for name in METRICS},
        "per_type": {
            label: {name: entry(name, index) for name in ("precision", "recall", "f1")}
            | {"support": int(actual[index]), "predicted": int(predicted[index])}
            for index, label in enumerate(types)
        },
        "num_entities": int(actual.sum()),
        "num_predicted": int(predicted.sum()),
        "num_words": int(words.sum()),
        "num_words_cut": int(words.sum() - answered.sum()),
        "token_accuracy_of_o": statistics.number((targets == 0).sum() / words.sum()),  # of a model that finds nothing
        "names": list(names),
    }


def write(
    folder: Path, predictions: np.ndarray, targets: np.ndarray, report: dict[str, Any], title: str, settings: Evaluate
) -> None:
    """Write the figures of each type and the kinds of mistakes as tables, and a plot of both."""
    from stages.lib.tasks.tag import plots  # here, so that prediction need not wait for matplotlib

    rows = [
        {"type": name, "support": row["support"], "predicted": row["predicted"]}
        | {f"{score}{end}": row[score][key] for score in ("precision", "recall", "f1") for key, end in ENDS.items()}
        for name, row in report["per_type"].items()
    ]
    pd.DataFrame(rows).to_csv(folder / "per_type.csv", index=False)
    kinds = mistakes.kinds(metrics.tags(predictions, targets), targets, report["names"])
    pd.DataFrame({"kind": kinds.keys(), "count": kinds.values()}).to_csv(folder / "errors.csv", index=False)
    plots.entities(folder / "entities.png", report, kinds, f"{title} on {len(targets)} test examples")


ENDS = {"value": "", "lower": "_lower", "upper": "_upper"}  # of a figure in per_type.csv
PLOTS = ("entities.png",)  # written by `write`; compare shows those of the shipped model


def most_certain(
    predictions: np.ndarray, targets: np.ndarray, keys: Sequence[str], names: Sequence[str], num: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The most confident mistake in each of the `num` texts with the most confident ones, and half as many right entities.

    Returns:
        Rows (n,), each at most once, what to explain in each: a word and its tag (n, 2), and titles.
    """
    return mistakes.most_certain(predictions, targets, keys, names, num)


def _text(tags: np.ndarray, names: Sequence[str]) -> str:
    """Tags by their names, with spaces between them."""
    return " ".join(names[tag] for tag in tags)
