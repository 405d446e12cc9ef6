"""Fewer training examples have fewer validation examples beside them."""

import numpy as np
import torch

from stages.lib.learning_curve.subset import subset

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [120, 60, 20]))


def test_validation_shrinks_in_the_same_proportion():
    train, val = torch.from_numpy(LABELS), torch.from_numpy(LABELS[:50])
    sizes = [tuple(map(len, subset(train, val, num, seed=1))) for num in (3, 20, 100, 200)]
    assert sizes == [(3, 3), (20, 5), (100, 25), (200, 50)]
    for rows, labels in zip(subset(train, val, 3, seed=1), (train, val), strict=True):
        assert sorted(labels[rows].tolist()) == [0, 1, 2]
    assert all(np.array_equal(rows, np.arange(len(rows))) for rows in subset(train, val, 200, seed=1)), "all, in their order"
