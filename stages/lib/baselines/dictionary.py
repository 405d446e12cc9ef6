"""A control without a network for tagging: the entities of the training texts, wherever they occur again.

What it reaches is what a network has to beat before one can say that it understands anything.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    import numpy as np

    from stages.lib.core.datasets import PackedSplit

TITLE = "Dictionary of the training entities"
TASKS, MODALITIES = ("tag",), ("text",)
MOST_WORDS = 8  # of an entity that is looked up


class Params(Strict):
    """None: it has nothing to tune."""


def predictions(train: "PackedSplit", val: "PackedSplit", test: "PackedSplit", names: Sequence[str]) -> "np.ndarray":
    """Tags (N, W, 2) of the test texts in float32, as measures of the task take them, all with probability 1.

    Each text is read from its first word on: the longest run of words that is an entity of the training texts, in any case, is
    one here too, of the type that it has most often there.

    Args:
        train: its labels are the tags of its words.
        val: not used; there is nothing to choose.
        test: only its texts are read.
        names: of the tags.
    """
    import numpy as np

    known = _known(train, names)
    texts = _words(test)
    found = np.full((len(texts), max(map(len, texts), default=0), 2), -1, dtype=np.float32)
    for row, words in enumerate(texts):
        found[row, : len(words)] = [0, 1]
        start = 0
        while start < len(words):
            ends = range(min(len(words), start + MOST_WORDS), start, -1)
            end = next((end for end in ends if tuple(words[start:end]) in known), 0)
            if end:
                begins = 2 * known[tuple(words[start:end])] + 1
                found[row, start:end, 0] = [begins, *[begins + 1] * (end - start - 1)]
            start = end or start + 1
    return found


def _known(train: "PackedSplit", names: Sequence[str]) -> dict[tuple[str, ...], int]:
    """The type of each entity in the training texts, by its words: the one that it has most often."""
    import numpy as np

    from stages.lib.tasks.tag import entities

    index = {name: number for number, name in enumerate(names)}
    seen: dict[tuple[str, ...], Counter[int]] = defaultdict(Counter)
    for words, label in zip(_words(train), train.labels, strict=True):
        for _, start, end, kind in zip(*entities.find(np.array([[index[tag] for tag in label.split()]])), strict=True):
            seen[tuple(words[start:end])][int(kind)] += 1
    return {words: min(kinds, key=lambda kind: (-kinds[kind], kind)) for words, kinds in seen.items()}


def _words(split: "PackedSplit") -> list[list[str]]:
    """The words of each text, in lower case."""
    import numpy as np

    from stages.lib.modalities.text.inputs import texts

    return [text.lower().split() for text in texts(split.rows(np.arange(len(split.keys))))]
