"""Stratified subsets of the examples, for learning curves."""

import numpy as np
import torch

from stages.lib.core.seeds import seed_for
from stages.lib.data.subset import draw


def subset(train: torch.Tensor, val: torch.Tensor, num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw training examples, and validation examples in the same proportion, because their labels have a cost too.

    Every stratum keeps at least one example in both, so with very few examples validation gets a larger fraction.

    Args:
        train, val: stratum (N,) of each example of the splits.
        num: number of training examples to draw.

    Returns:
        Indices for both splits, from `draw`.
    """
    num_val = max(len(val.unique()), round(len(val) * num / len(train)))
    return (
        draw(train.cpu().numpy(), num, seed_for(seed, "few", "train")),
        draw(val.cpu().numpy(), num_val, seed_for(seed, "few", "val")),
    )
