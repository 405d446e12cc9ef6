"""Figures of retrieval: each picture asks for the others of its person among all pictures.

Embeddings are (N, D), and the person of each (N,) is a number. In a resample, a picture asks as often as it was drawn, and all
others are there to be found or to stand in the way, as in the test itself: with fewer strangers, and with copies of its own, it
would be found more easily than a new one. Pictures of strangers that are exactly as near as one of the same person come first, so
that embeddings that are all equal are worth nothing.
"""

import numpy as np

MOST = 4_000_000  # numbers of one array in memory (32 MB)


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings (..., N, D) in float64, scaled to length 1; one of zeros stays as it is."""
    exact = embeddings.astype(np.float64)
    scaled: np.ndarray = exact / np.maximum(np.linalg.norm(exact, axis=-1, keepdims=True), 1e-12)
    return scaled


def map_at_r(embeddings: np.ndarray, people: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean average precision at R (B,), where R is the number of other pictures of the asking person; weights are (B, N).

    Reference:
        Musgrave et al., A Metric Learning Reality Check, ECCV 2020 (arXiv 2003.08505), section 3.2.
    """
    return _mean(each(embeddings, people)[0], people, weights)


def recall_at_1(embeddings: np.ndarray, people: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The share (B,) of pictures whose nearest other one is of the same person (rank-1 identification rate)."""
    return _mean(each(embeddings, people)[1], people, weights)


def each(embeddings: np.ndarray, people: np.ndarray) -> np.ndarray:
    """The average precision at R of each picture, and whether its nearest other one is of the same person, (2, N).

    Both are 0 for a person's only picture.
    """
    vectors, counts = unit(embeddings), np.bincount(people)[people]
    found = np.zeros((2, len(people)))
    for rows in np.array_split(np.arange(len(people)), 1 + len(people) ** 2 // MOST):
        near, right = vectors[rows] @ vectors.T, people[rows, None] == people
        near[np.arange(len(rows)), rows] = -np.inf  # itself is last
        order = np.lexsort((right, -near))[:, :-1]
        right = np.take_along_axis(right, order, axis=1)
        ranks, num = np.arange(1, len(people)), counts[rows] - 1
        precision = right.cumsum(1) / ranks * right * (ranks <= num[:, None])
        found[:, rows] = precision.sum(1) / np.maximum(num, 1), right[:, :1].any(1)
    return found


def nearest(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other picture of each (N,), and its cosine similarity."""
    vectors = unit(embeddings)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return similarity.argmax(1), similarity.max(1)


def askers(people: np.ndarray) -> np.ndarray:
    """Whether each picture's person has another one."""
    several: np.ndarray = np.bincount(people)[people] > 1
    return several


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where below is 0."""
    ratio: np.ndarray = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    return ratio


def _mean(values: np.ndarray, people: np.ndarray, weights: np.ndarray) -> np.ndarray:
    asked = askers(people).astype(float)
    return ratio(weights @ (values * asked), weights @ asked)
