"""Classifiers that learn new classes from a few embeddings of each, and are right or wrong about queries of an episode.

All take embeddings (N, D) and the rows of E episodes, and return scores (E, W * Q, W): the highest one is the answer. The queries
of a class follow those of the one before it.
"""

from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LogisticRegression

INVERSE_REGULARISATION = 1.0  # of the linear probe, on embeddings of length 1, as Tian et al. have it
NUMBERS = 2_000_000  # of the largest array in memory at once (16 MB), so memory does not grow with the number of episodes


def cosine(embeddings: np.ndarray, support: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Cosine similarity to each class's prototype, the mean of its support embeddings of length 1.

    Args:
        embeddings: (N, D).
        support: (E, W, K) rows.
        queries: (E, W, Q) rows.

    Reference:
        Snell et al., Prototypical Networks for Few-shot Learning, NeurIPS 2017, with the distance of Chen et al., A Closer Look
        at Few-shot Classification, ICLR 2019.
    """
    units = of_length_one(embeddings)
    prototypes = of_length_one(units[support].mean(2))
    similarities: np.ndarray = np.einsum("end,ewd->enw", _in_a_row(units[queries]), prototypes)
    return similarities


def euclid(embeddings: np.ndarray, support: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Minus the squared Euclidean distance to each class's prototype, the mean of its support embeddings (Snell et al.).

    After fine-tuning on other classes this is the nearest centroid (Mensink et al., TPAMI 2013).
    """
    prototypes, asked = embeddings[support].mean(2), _in_a_row(embeddings[queries])
    products = np.einsum("end,ewd->enw", asked, prototypes)
    distances: np.ndarray = (asked**2).sum(2)[:, :, None] - 2 * products + (prototypes**2).sum(2)[:, None]
    return -distances


def matching(embeddings: np.ndarray, support: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """How much attention goes to each class: the softmax over the cosine similarities to all support embeddings.

    Reference:
        Vinyals et al., Matching Networks for One Shot Learning, NeurIPS 2016, without full context embeddings.
    """
    units = of_length_one(embeddings)
    similarities = np.einsum("end,ewkd->enwk", _in_a_row(units[queries]), units[support])
    attention = np.exp(similarities)
    attention /= attention.sum((2, 3), keepdims=True)
    classes: np.ndarray = attention.sum(3)
    return classes


def linear_probe(embeddings: np.ndarray, support: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Scores of a logistic regression on the support embeddings, all of length 1.

    Its weights lie in the space that the support spans (the representer theorem), so it is fitted there: the same answers from as
    many numbers as there are support examples.

    Reference:
        Tian et al., Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?, ECCV 2020.
    """
    units = of_length_one(embeddings)
    way, shot = support.shape[1:]
    labels = np.repeat(np.arange(way), shot)
    scores = []
    for known, asked in zip(support.reshape(len(support), -1), queries.reshape(len(queries), -1), strict=True):
        basis = np.linalg.qr(units[known].T)[0]
        probe = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000)
        found = probe.fit(units[known] @ basis, labels).decision_function(units[asked] @ basis)
        scores.append(np.stack([-found, found], axis=1) if way == 2 else found)
    return np.stack(scores)


CLASSIFIERS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "cosine_prototypes": cosine,
    "euclidean_prototypes": euclid,
    "matching": matching,
    "linear_probe": linear_probe,
}


def scores(name: str, embeddings: np.ndarray, support: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Scores (E, W * Q, W) of one classifier, some episodes at a time."""
    each = (support[0].size + queries[0].size) * embeddings.shape[1]
    at_once = max(1, NUMBERS // each)
    parts = [slice(start, start + at_once) for start in range(0, len(support), at_once)]
    return np.concatenate([CLASSIFIERS[name](embeddings, support[part], queries[part]) for part in parts])


def credit(scores: np.ndarray) -> np.ndarray:
    """How right each query's answer is (E, W * Q), from 0 to 1: of several classes with the highest score one is taken by chance,
    so embeddings that are all equal are as good as guessing."""
    _, num_queries, way = scores.shape
    best = scores == scores.max(2, keepdims=True)
    own = np.repeat(np.arange(way), num_queries // way)
    found: np.ndarray = best[:, np.arange(num_queries), own] / best.sum(2)
    return found


def of_length_one(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings (..., D) scaled to length 1; one of zeros stays as it is."""
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    units: np.ndarray = embeddings / np.maximum(lengths, np.finfo(embeddings.dtype).tiny)
    return units


def _in_a_row(queries: np.ndarray) -> np.ndarray:
    """(E, W, Q, D) to (E, W * Q, D)."""
    row: np.ndarray = queries.reshape(len(queries), -1, queries.shape[-1])
    return row
