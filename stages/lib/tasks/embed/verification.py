"""Figures of verification: are two pictures of the same person? Decided by their cosine similarity.

Metrics take embeddings (N, D), the person of each (N,) as a number, and weights (B, N), and return (B,). A pair of strangers
counts as often as both were drawn (the product of their weights), a pair of one person as often as the person was.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from stages.lib.tasks.embed.retrieval import ratio, unit

FAR = 0.01  # false accept rate at which the threshold is
MOST_PAIRS = 100_000  # of strangers (and of the same person); of more, evenly many of each similarity are taken
MOST = 4_000_000  # numbers of one array in memory
Figure = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Pairs(NamedTuple):
    """Pairs of pictures, from the least similar to the most."""

    similarity: np.ndarray  # (P,)
    first: np.ndarray  # (P,) which pictures
    second: np.ndarray


def pairs(embeddings: np.ndarray, people: np.ndarray) -> tuple[Pairs, Pairs]:
    """All pairs of one person, and all of strangers; of more than MOST_PAIRS, that many that stand for all."""
    vectors = unit(embeddings)
    first, second = np.triu_indices(len(people), 1)
    near = np.concatenate([vectors[row] @ vectors[row + 1 :].T for row in range(len(people))]) if len(people) else np.zeros(0)
    same = people[first] == people[second]

    def chosen(rows: np.ndarray) -> Pairs:
        rows = rows[np.argsort(near[rows], kind="stable")]
        if len(rows) > MOST_PAIRS:
            rows = rows[np.linspace(0, len(rows) - 1, MOST_PAIRS).round().astype(int)]
        return Pairs(near[rows], first[rows], second[rows])

    return chosen(np.flatnonzero(same)), chosen(np.flatnonzero(~same))


def threshold(embeddings: np.ndarray, people: np.ndarray) -> float:
    """The similarity above which two pictures are taken for one person, so that at most 1 % of the pairs of strangers are.

    Returns:
        NaN if there are no two people.
    """
    strangers = pairs(embeddings, people)[1].similarity
    return float(strangers[-int(FAR * len(strangers)) - 1]) if len(strangers) else float("nan")


def auroc(embeddings: np.ndarray, people: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of all pairs: how often a pair of one person is more similar than one of strangers."""
    same, strangers = pairs(embeddings, people)
    ends = [np.searchsorted(strangers.similarity, same.similarity, side=side) for side in ("left", "right")]

    def area(genuine: np.ndarray, below: np.ndarray) -> np.ndarray:
        won = (below[:, ends[0]] + below[:, ends[1]]) / 2
        return ratio((genuine * won).sum(1), genuine.sum(1) * below[:, -1])

    return _measured(area, same, strangers, weights)


def tar_at_far(embeddings: np.ndarray, people: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """True accept rate at a false accept rate of 1 %: the share of pairs of one person that are accepted at the threshold above
    which at most 1 % of the pairs of strangers are.

    Reference:
        Grother et al., Face Recognition Vendor Test, NIST IR 8280, 2019 (there 1 - FNMR at a fixed FMR).
    """
    same, strangers = pairs(embeddings, people)
    above = np.searchsorted(strangers.similarity, same.similarity, side="left")  # strangers that are less similar

    def accepted(genuine: np.ndarray, below: np.ndarray) -> np.ndarray:
        rest = below[:, -1:] - below  # weight of the strangers from each place on
        let_in = rest <= FAR * below[:, -1:] * (1 + 1e-12)
        limit = let_in.argmax(1)  # the first place from which on few enough are left: what is above the one before it is accepted
        return ratio((genuine * (above >= limit[:, None])).sum(1), genuine.sum(1) * (below[:, -1] > 0))

    return _measured(accepted, same, strangers, weights)


def roc(embeddings: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of the pairs of one person, and of strangers, for plots."""
    same, strangers = pairs(embeddings, people)
    return same.similarity, strangers.similarity


def _measured(figure: Figure, same: Pairs, strangers: Pairs, weights: np.ndarray) -> np.ndarray:
    """A figure from the weights of the pairs of one person (b, P), and the summed weights of strangers below each place
    (b, 1 + Q), for some resamples at a time."""
    most = max(1, MOST // max(1, len(same.first) + len(strangers.first)))
    parts = []
    for start in range(0, len(weights), most):
        part = weights[start : start + most]
        genuine = np.sqrt(part[:, same.first] * part[:, same.second])
        impostor = part[:, strangers.first] * part[:, strangers.second]
        below = np.concatenate([np.zeros((len(part), 1)), impostor.cumsum(1)], axis=1)
        parts.append(figure(genuine, below))
    return np.concatenate(parts)
