"""Utterances for the tests of this folder: texts, and outputs of a network that says them."""

from collections.abc import Sequence

import numpy as np
import torch

from stages.lib.core.contracts import NO_STEP
from stages.lib.tasks.transcribe import alphabet

WORDS = ("zero", "one", "two", "three", "seven", "NA", "01", "don't", "éa")


def texts(random: np.random.Generator, num: int, most_words: int = 4) -> list[str]:
    """Random texts of 1 to `most_words` words."""
    return [" ".join(random.choice(WORDS, random.integers(1, most_words + 1))) for _ in range(num)]


def path(text: str, names: Sequence[str]) -> list[int]:
    """A best path that says a text: a blank between any two characters."""
    return [index for character in text for index in (0, names.index(character))]


def outputs(paths: Sequence[Sequence[int]], num_outputs: int, peak: float = 9.0) -> torch.Tensor:
    """Logits (n, T, C) whose best paths are these, padded with NO_STEP to the longest."""
    made = torch.full((len(paths), max(map(len, paths)), num_outputs), NO_STEP)
    for row, each in enumerate(paths):
        made[row, : len(each)] = peak * torch.eye(num_outputs)[list(each)]
    return made


def garbled(random: np.random.Generator, rows: list[list[int]], names: Sequence[str], rate: float = 0.3) -> list[list[int]]:
    """The texts with random edits, spaced as every transcript is; some come out empty."""
    made = []
    for row in rows:
        heard: list[int] = []
        for index in row:
            kind = random.choice(["keep", "change", "leave out", "add"], p=[1 - rate, rate / 3, rate / 3, rate / 3])
            heard += {"keep": [index], "leave out": []}.get(kind, [int(random.integers(1, len(names)))])
            heard += [index] if kind == "add" else []
        text = alphabet.normalised("".join(names[index] for index in heard))
        made.append([] if random.random() < 0.1 else alphabet.encoded([text], names)[0])
    return made
