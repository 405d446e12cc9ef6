"""The mistakes of a tagger: how many of each kind, and the most certain ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.lib.tasks.tag import entities, metrics


def kinds(tags: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    """Number of entities that are right, and of each kind of mistake, as nervaluate counts them.

    All but the false alarms add up to the actual entities, and all but the missed ones to those predicted.

    Args:
        tags: (N, W) the predicted tag of each word.
        targets: (N, W) the right tags.
        names: of the tags.

    Reference:
        Segura-Bedmar et al., SemEval-2013 Task 9, for the categories.
    """
    from nervaluate.evaluator import Evaluator

    actual, found = ([[names[tag] for tag in row[row >= 0]] for row in each] for each in (targets, tags))
    counted = Evaluator(actual, found, [name[2:] for name in names[1::2]], loader="list").evaluate()["overall"]
    right = counted["strict"].correct
    # "exact" looks only at where an entity begins and ends, "ent_type" only at its type, if it overlaps an actual one.
    wrong_type, wrong_ends = counted["exact"].correct - right, counted["ent_type"].correct - right
    return {
        "right": right,
        "wrong type": wrong_type,
        "wrong boundary": wrong_ends,
        "wrong type and boundary": counted["strict"].incorrect - wrong_type - wrong_ends,
        "missed": counted["strict"].missed,
        "false alarm": counted["strict"].spurious,
    }


class Shown(NamedTuple):
    """An entity that the model found or missed."""

    confidence: float  # mean probability of the predicted tags of its words
    row: int
    word: int  # whose tag is to be explained
    output: int  # the tag to explain
    title: str


def most_certain(
    predictions: np.ndarray, targets: np.ndarray, keys: Sequence[str], names: Sequence[str], num: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """See stages.lib.tasks.tag.measures. Explained is the tag that began an entity, or that should have begun a missed one."""
    tags = metrics.tags(predictions, targets)
    found, actual = entities.find(tags), entities.find(targets)
    good = entities.right(found, actual)

    def shown(which: entities.Entities, missed: bool) -> list[Shown]:
        made = []
        for row, start, end, kind in zip(*which, strict=True):
            confidence = float(np.maximum(predictions[row, start:end, 1], 0).mean()) if start < predictions.shape[1] else 0.0
            output = 2 * kind + 1 if missed else tags[row, start]
            others = actual.chosen((actual.rows == row) & (actual.starts < end) & (actual.ends > start))
            title = f"{_named(names, start, end, kind)} ({100 * confidence:.0f} %)"
            if missed:
                title = f"missed: {title}"
            elif not len(others.rows):
                title = f"false alarm: {title}"
            elif (start, end, kind) == (others.starts[0], others.ends[0], others.types[0]):
                title = f"{title}, right"
            else:
                title += f"\nis {_named(names, others.starts[0], others.ends[0], others.types[0])}"
            made.append(Shown(confidence, int(row), int(start), int(output), f"{title}\n{keys[row]}"))
        return made

    untouched = np.array([not (tags[row, start:end] > 0).any() for row, start, end, _ in zip(*actual, strict=True)], dtype=bool)
    wrong = shown(found.chosen(~good), False) + shown(actual.chosen(untouched), True)
    mistaken = {each.row for each in wrong}
    right = [each for each in shown(found.chosen(good), False) if each.row not in mistaken]
    chosen = _first_of_each_row(wrong)[:num] + _first_of_each_row(right)[: num // 2]
    rows = np.array([each.row for each in chosen], dtype=np.int64)
    outputs = np.array([(each.word, each.output) for each in chosen], dtype=np.int64).reshape(-1, 2)
    return rows, outputs, [each.title for each in chosen]


def _first_of_each_row(found: list[Shown]) -> list[Shown]:
    """The most confident one of each row, the most confident first."""
    first: dict[int, Shown] = {}
    for each in sorted(found, key=lambda each: -each.confidence):
        first.setdefault(each.row, each)
    return list(first.values())


def _named(names: Sequence[str], start: int, end: int, kind: int) -> str:
    """An entity in words, the first word of its text being word 1."""
    place = f"word {start + 1}" if end == start + 1 else f"words {start + 1} to {end}"
    return f"{names[2 * kind + 1][2:]}, {place}"
