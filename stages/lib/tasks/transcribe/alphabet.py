"""Texts and their characters, as indices in a model's alphabet.

A character that the alphabet lacks keeps its identity as a negative index. So texts come back from their indices unchanged,
whichever alphabet was used, and such a character never equals anything that the model can produce: it counts as an error.
"""

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

BLANK, SPACE = 0, 1  # in every alphabet: "" between equal characters, as CTC needs it, and " " between words
OUTSIDE = -1000  # a character c that is not in the alphabet is OUTSIDE - ord(c); negative numbers above OUTSIDE are padding


def normalised(text: str) -> str:
    """A transcript as it is learned, measured and written: Unicode NFC, single spaces, none at the ends.

    Case and punctuation stay: a model learns to write them if its transcripts do, and errors in them count. Who does not want
    them takes them out of the transcripts.
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def alphabet(texts: Iterable[str]) -> list[str]:
    """The blank, the space, and all other characters of the texts by code point."""
    used = set("".join(normalised(text) for text in texts))
    return ["", " ", *sorted(used - {" "})]


def encoded(texts: Iterable[str], names: Sequence[str]) -> list[list[int]]:
    """The index of each character of the normalised texts."""
    place = {name: index for index, name in enumerate(names)}
    return [[place.get(character, OUTSIDE - ord(character)) for character in normalised(text)] for text in texts]


def written(rows: Iterable[Sequence[int]], names: Sequence[str]) -> list[str]:
    """The texts of rows of indices."""
    return ["".join(names[index] if index > OUTSIDE else chr(OUTSIDE - index) for index in row) for row in rows]


def padded(rows: Sequence[Sequence[int]], fill: int) -> np.ndarray:
    """Rows of indices as one array (N, longest) of int64."""
    array = np.full((len(rows), max(map(len, rows), default=0)), fill, dtype=np.int64)
    for target, row in zip(array, rows, strict=True):
        target[: len(row)] = row
    return array


def unpadded(array: np.ndarray) -> list[list[int]]:
    """The rows of a padded array (N, L) without padding and blanks, whatever the padding is."""
    held = (array > BLANK) | (array <= OUTSIDE)
    return [row[keep].astype(np.int64).tolist() for row, keep in zip(array, held, strict=True)]
