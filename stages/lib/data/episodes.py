"""Few-shot episodes of a test split, drawn once, so that every model and every classifier is measured on the same ones."""

from collections.abc import Collection, Sequence

import numpy as np

from stages.lib.core.datasets import Episodes
from stages.lib.core.seeds import seed_for
from stages.lib.errors import UserError, listed


def draw(
    labels: Sequence[str], known: Collection[str], *, way: list[int], shots: list[int], queries: int, number: int, seed: int,
    noun: str = "example",
) -> Episodes:  # fmt: skip
    """Draw the episodes: for each some classes, and of each class a support set and queries, all without replacement.

    An episode with fewer classes or shots is a part of the one with the most: the queries stay, and only what is asked changes.
    Fewer episodes are the first of many.

    Args:
        labels: of the test examples (N,).
        known: labels of the training and validation examples, none of which may be in the test.
        way: numbers of classes of an episode.
        shots: numbers of support examples of each class.
        queries: of each class.
        number: of episodes.
        seed: decides all of it.
        noun: what an example is called in messages.

    Raises:
        UserError: a class of the test was trained on, there are too few classes, or a class has too few examples.

    Reference:
        Vinyals et al., Matching Networks for One Shot Learning, NeurIPS 2016, for the protocol of way and shot.
    """
    names, members = np.unique(labels, return_inverse=True)
    classes: list[str] = names.tolist()
    counts = np.bincount(members, minlength=len(classes))
    old = sorted(set(classes) & set(known))
    if old:
        raise UserError(
            f"episodes: {len(old)} classes of the test are in training or validation too ({_some(old)}), so they would not be "
            "new. Keep each class in one split: a group for each class (group_from), split.by_group: true and "
            "split.stratify: false."
        )
    if len(classes) < max(way):
        raise UserError(
            f"episodes.way: {max(way)} classes of the test are needed, and it has {len(classes)} ({_some(classes)}). Take fewer, "
            "or raise split.test."
        )
    needed = max(shots) + queries
    few = [f"{name} has {count}" for name, count in zip(classes, counts, strict=True) if count < needed]
    if few:
        raise UserError(
            f"episodes: each class needs {needed} {noun}s (shots: {max(shots)}, queries: {queries}), and {len(few)} of "
            f"{len(classes)} in the test have fewer: {_some(few)}. Lower shots or queries, or leave these classes out."
        )
    random = np.random.default_rng(seed_for(seed, "episodes"))
    rows = [np.flatnonzero(members == index) for index in range(len(classes))]
    drawn = np.array([
        [random.choice(rows[index], needed, replace=False) for index in random.choice(len(classes), max(way), replace=False)]
        for _ in range(number)
    ])  # fmt: skip
    return Episodes(way, shots, drawn[..., : max(shots)], drawn[..., max(shots) :])


def _some(names: Sequence[str]) -> str:
    return listed(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
