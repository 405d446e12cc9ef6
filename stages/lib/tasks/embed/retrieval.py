"""Figures of retrieval: each picture asks for the others of its person among all pictures.

All take embeddings (N, D), the person of each (N,) as a number, and weights (B, N), and return (B,). A weight is how often a
person was drawn. A person who was drawn twice counts as two people who never meet: each of their pictures asks twice, and stands
twice in the way of others. (Copies of a picture would be found by each other, whatever the network.) Pictures of strangers
that are exactly as near as one of the same person come first, so that embeddings that are all equal are worth nothing.
"""

from collections.abc import Iterator

import numpy as np

MOST = 4_000_000  # numbers of one array in memory (32 MB)


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings (..., N, D) in float64, scaled to length 1; one of zeros stays as it is."""
    exact = embeddings.astype(np.float64)
    scaled: np.ndarray = exact / np.maximum(np.linalg.norm(exact, axis=-1, keepdims=True), 1e-12)
    return scaled


def map_at_r(embeddings: np.ndarray, people: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean average precision at R, where R is the number of other pictures of the asking person.

    Reference:
        Musgrave et al., A Metric Learning Reality Check, ECCV 2020 (arXiv 2003.08505), section 3.2.
    """
    sums = np.zeros(len(weights))
    for asking, place, num, before in _matches(embeddings, people, len(weights)):
        rank = place + weights @ before
        sums += (weights[:, asking] * np.where(rank <= num, place / rank, 0) / num).sum(1)
    return ratio(sums, weights @ askers(people))


def recall_at_1(embeddings: np.ndarray, people: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The share of pictures whose nearest other one is of the same person (rank-1 identification rate)."""
    sums = np.zeros(len(weights))
    for asking, place, _, before in _matches(embeddings, people, len(weights)):
        first = place == 1
        sums += (weights[:, asking[first]] * (weights @ before[:, first] == 0)).sum(1)
    return ratio(sums, weights @ askers(people))


def each(embeddings: np.ndarray, people: np.ndarray) -> np.ndarray:
    """What each picture (N,) adds to MAP@R and to Recall@1, as (2, N)."""
    found = np.zeros((2, len(people)))
    everyone = np.ones((1, len(people)))
    for asking, place, num, before in _matches(embeddings, people, 1):
        rank = place + (everyone @ before)[0]
        np.add.at(found[0], asking, np.where(rank <= num, place / rank, 0) / num)
        np.add.at(found[1], asking, (rank == 1).astype(float))
    return found


def nearest(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other picture of each (N,), and its cosine similarity."""
    vectors = unit(embeddings)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return similarity.argmax(1), similarity.max(1)


def _matches(
    embeddings: np.ndarray, people: np.ndarray, num_resamples: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """All pairs of a picture that asks and another one of its person, in parts.

    Yields:
        For each pair (P,): the asking picture, the place of the other one among the asking person's (from 1, the nearest first),
        the number of the person's other pictures, and which pictures (N, P) are of strangers and at least as near.
    """
    vectors = unit(embeddings)
    counts = np.bincount(people)[people]
    most = max(1, MOST // (max(num_resamples, len(people)) * max(1, counts.max(initial=1))))
    for start in range(0, len(people), most):
        rows = np.arange(start, min(start + most, len(people)))
        near = vectors[rows] @ vectors.T
        own = people[rows, None] == people
        own[np.arange(len(rows)), rows] = False
        asking, other = np.nonzero(own)
        order = np.lexsort((-near[asking, other], asking))
        asking, other = asking[order], other[order]
        place = np.arange(len(asking)) - np.searchsorted(asking, asking) + 1
        strangers = (people[:, None] != people[rows[asking]]) & (near[asking, other] <= near[asking].T)
        yield rows[asking], place, counts[rows[asking]] - 1, strangers.astype(float)


def askers(people: np.ndarray) -> np.ndarray:
    """Whether each picture's person has another one."""
    several: np.ndarray = np.bincount(people)[people] > 1
    return several


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where below is 0."""
    ratio: np.ndarray = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    return ratio
