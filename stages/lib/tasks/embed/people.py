"""People as numbers: a target holds the characters of a person's name, so no list of names is needed, and splits agree."""

from collections.abc import Sequence

import numpy as np
import torch

from stages.lib.core.contracts import NO_TARGET


def encoded(labels: Sequence[str]) -> np.ndarray:
    """The code points of each name (N, L) int64, padded with NO_TARGET to the longest."""
    rows = np.full((len(labels), max(map(len, labels), default=0)), NO_TARGET, dtype=np.int64)
    for row, label in zip(rows, labels, strict=True):
        row[: len(label)] = [ord(character) for character in label]
    return rows


def decoded(targets: np.ndarray) -> list[str]:
    """The names of targets (N, L)."""
    return ["".join(chr(code) for code in row if code != NO_TARGET) for row in targets.tolist()]


def numbers(targets: torch.Tensor) -> torch.Tensor:
    """The number (N,) of each example's person among those of these targets (N, L), from 0."""
    found: torch.Tensor = targets.unique(dim=0, return_inverse=True)[1]
    return found


def numbers_of(targets: np.ndarray) -> np.ndarray:
    """The same in numpy."""
    return np.unique(targets, axis=0, return_inverse=True)[1].reshape(len(targets))
