"""Entities in sequences of tags, for all texts at once.

Tags are indices in the order of learning.outputs: 0 is O, 2k + 1 begins an entity of type k and 2k + 2 continues it, so
nothing here needs their names. A negative tag is no tag.
"""

from typing import NamedTuple

import numpy as np


class Entities(NamedTuple):
    """E entities, sorted by text and place."""

    rows: np.ndarray  # (E,) the text that each is in
    starts: np.ndarray  # (E,) its first word
    ends: np.ndarray  # (E,) the word after its last
    types: np.ndarray  # (E,)

    def chosen(self, some: np.ndarray) -> "Entities":
        """Some of them, by a mask or by indices."""
        return Entities(*(column[some] for column in self))


def find(tags: np.ndarray) -> Entities:
    """The entities in tags (N, W).

    A sequence may be broken, because a network may predict any tag after any other: an I- that continues no entity of its own
    type begins one, as in the CoNLL shared tasks (conlleval; "strict" in nervaluate, the default mode of seqeval).

    Reference:
        Tjong Kim Sang and De Meulder, Introduction to the CoNLL-2003 Shared Task, CoNLL 2003.
    """
    kinds = np.pad((np.maximum(tags, 0) + 1) // 2, ((0, 0), (1, 1)))  # 0 outside of entities, else 1 + the type
    inside, begins = kinds > 0, np.pad(tags % 2 == 1, ((0, 0), (1, 1)))
    first = inside[:, 1:] & (begins[:, 1:] | (kinds[:, 1:] != kinds[:, :-1]))
    last = inside[:, :-1] & (first | ~inside[:, 1:])
    rows, starts = np.nonzero(first)
    return Entities(rows, starts, np.nonzero(last)[1], kinds[rows, starts + 1] - 1)


def on_words(predicted: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Predicted tags for the words of `targets` (N, W): O for a word without a prediction (it was cut off), -1 beyond a text.

    Args:
        predicted: (N, V) tags, negative where there is none; V may be less or more than W.
        targets: (N, W) the right tags, negative beyond each text.
    """
    width = targets.shape[1]
    cropped = predicted[:, :width]
    there = np.pad(cropped, ((0, 0), (0, width - cropped.shape[1])), constant_values=-1)
    return np.where(targets < 0, -1, np.maximum(there, 0))


def right(found: Entities, actual: Entities) -> np.ndarray:
    """Which of the entities found (E,) are among the actual ones: in the same text and place, and of the same type."""
    both = [np.stack(each, axis=1) for each in (found, actual)]
    most = np.concatenate(both).max(0, initial=0) + 1
    first, second = (np.ravel_multi_index(tuple(each.T), tuple(most)) for each in both)
    return np.isin(first, second, assume_unique=True)


def counts(predicted: np.ndarray, targets: np.ndarray, num_types: int) -> np.ndarray:
    """Number of right, of predicted and of actual entities of each type in each text, (N, T, 3).

    Args:
        predicted: (N, W) tags, from `on_words`.
        targets: (N, W) the right tags.
        num_types: T, at least as many as there are.
    """
    found, actual = find(predicted), find(targets)

    def each(entities: Entities) -> np.ndarray:
        number = np.bincount(entities.rows * num_types + entities.types, minlength=len(targets) * num_types)
        return number.reshape(len(targets), num_types)

    return np.stack([each(found.chosen(right(found, actual))), each(found), each(actual)], axis=2)
