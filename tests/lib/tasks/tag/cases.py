"""Random tagged texts, with broken sequences of tags, of different lengths, some words cut off."""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import one_hot

from stages.lib.core.contracts import NO_STEP, NO_TARGET


class Case(NamedTuple):
    """N texts."""

    names: list[str]
    targets: np.ndarray  # (N, W)
    predictions: np.ndarray  # (N, W, 2) float32

    @property
    def actual(self) -> list[list[str]]:
        """The right tags of each text."""
        return [[self.names[tag] for tag in row if tag >= 0] for row in self.targets]

    @property
    def predicted(self) -> list[list[str]]:
        """The predicted tags of each text, O for words that were cut off."""
        rows = zip(self.targets, self.predictions[..., 0].astype(int), strict=True)
        return [[self.names[max(0, tag)] for tag, own in zip(tags, row, strict=True) if own >= 0] for row, tags in rows]


def case(seed: int, num: int = 12) -> Case:
    """1 to 4 types, 1 to 15 words; predictions are mostly right, or mere chance."""
    random = np.random.default_rng(seed)
    num_types, shape = int(random.integers(1, 5)), (num, int(random.integers(1, 16)))
    names = ["O", *(f"{prefix}-{name}" for name in ("cell", "drug", "gene", "x-y")[:num_types] for prefix in "BI")]
    rare = random.uniform(0, 0.9)
    chances = [rare, *[(1 - rare) / (2 * num_types)] * (2 * num_types)]
    targets, noise = (random.choice(len(names), shape, p=chances) for _ in range(2))
    tags = np.where(random.random(shape) < random.choice([0.2, 0.9]), targets, noise)
    lengths = random.integers(1, shape[1] + 1, num)
    lengths[0] = shape[1]
    beyond = np.arange(shape[1]) >= lengths[:, None]
    cut = np.arange(shape[1]) >= np.where(random.random(num) < 0.2, lengths - 1, lengths)[:, None]
    predictions = np.stack([tags, random.random(shape)], 2).astype(np.float32)
    predictions[cut] = -1
    return Case(names, np.where(beyond, NO_TARGET, targets), predictions)


def sure(tags, num_outputs=5):
    """Outputs of a network that is sure of these tags; NO_STEP where they are negative."""
    tags = torch.as_tensor(tags)
    return (20.0 * one_hot(tags.clamp_min(0), num_outputs)).masked_fill(tags[..., None] < 0, NO_STEP)
