"""Errors of transcripts: the edits (substitutions, deletions, insertions) that turn what was said into what was heard.

Texts are rows of indices, as in `alphabet`. The counter is RapidFuzz, which jiwer uses too.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from stages.lib.tasks.transcribe.alphabet import SPACE

Rows = Sequence[Sequence[int]]


def of_characters(said: Rows, heard: Rows) -> tuple[np.ndarray, np.ndarray]:
    """The number of edits for each text (N,), and of its characters (N,), spaces among them."""
    errors = [Levenshtein.distance(one, other) for one, other in zip(said, heard, strict=True)]
    return np.array(errors, dtype=np.float64), np.array([len(row) for row in said], dtype=np.float64)


def of_words(said: Rows, heard: Rows) -> tuple[np.ndarray, np.ndarray]:
    """The number of edits of whole words for each text (N,), and of its words (N,)."""
    numbers: dict[tuple[int, ...], int] = {}  # equal words have equal numbers, because RapidFuzz compares hashes
    return of_characters(
        *([[numbers.setdefault(word, len(numbers)) for word in _words(row)] for row in rows] for rows in (said, heard))
    )


def rate(errors: np.ndarray, lengths: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Errors per character or word over all texts together (B,), for weights (B, N); NaN if nothing was said."""
    below = weights @ lengths
    found: np.ndarray = np.divide(weights @ errors, below, out=np.full(len(weights), np.nan), where=below > 0)
    return found


def confusions(said: Rows, heard: Rows) -> Counter[tuple[int | None, int | None]]:
    """How often each character was heard as another; None stands for nothing: (a, None) is a deletion, (None, a) an insertion."""
    found: Counter[tuple[int | None, int | None]] = Counter()
    for one, other in zip(said, heard, strict=True):
        for edit in Levenshtein.editops(one, other):
            pair = None if edit.tag == "insert" else one[edit.src_pos], None if edit.tag == "delete" else other[edit.dest_pos]
            found[pair] += 1
    return found


def counted(rows: Rows) -> Counter[int]:
    """How often each character occurs."""
    return Counter(index for row in rows for index in row)


def _words(row: Sequence[int]) -> list[tuple[int, ...]]:
    ends = [place for place, index in enumerate(row) if index == SPACE]
    parts = zip([0, *(end + 1 for end in ends)], [*ends, len(row)], strict=True)
    return [tuple(row[start:end]) for start, end in parts if start < end]
