"""Draw some of the examples, so that fewer are a part of more."""

import numpy as np

from stages.lib.errors import UserError


def draw(strata: np.ndarray, num: int, seed: int) -> np.ndarray:
    """Choose examples so that each stratum keeps its proportion, to within about one example, and at least one example.

    A smaller subset is contained in every larger one with the same seed.

    Args:
        strata: (N,) integers, the stratum of each example.
        num: number of examples to choose.

    Returns:
        (num,) indices in ascending order.

    Raises:
        UserError: there are fewer than `num` examples, or more than `num` strata.
    """
    kinds, counts = np.unique(strata, return_counts=True)
    require_possible(num, len(strata), len(kinds))
    random = np.random.default_rng(seed)
    order = random.permutation(len(strata))
    place = np.empty(len(strata))  # of each example within its stratum, evenly spaced between 0 and 1
    first = np.zeros(len(strata), dtype=bool)
    for kind, count in zip(kinds, counts, strict=True):
        members = order[strata[order] == kind]
        place[members] = (np.arange(count) + 0.5) / count
        first[members[0]] = True
    chance = random.random(len(strata))  # without it, the same one of equally large strata would always come first
    return np.sort(np.lexsort((chance, place, ~first))[:num])


def require_possible(num: int, num_examples: int, num_strata: int) -> None:
    """Raise a UserError if that many examples cannot be drawn."""
    if not num_strata <= num <= num_examples:
        raise UserError(
            f"{num} examples cannot be drawn: there are {num_examples} for training, and at least one of each of the "
            f"{num_strata} kinds is needed. Allowed: {num_strata} to {num_examples}."
        )
