"""Few shots at hand: the class of a new example, by the prototypes of a support set."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.lib.tasks.few_shot import classifiers


def identified(known: np.ndarray, labels: Sequence[str], asked: np.ndarray) -> dict[str, Any]:
    """The class whose prototype (stages.lib.tasks.few_shot.classifiers.cosine) is most similar to each new example.

    There is no threshold: one of the classes is always the answer.

    Args:
        known: embeddings (M, D) of the support set.
        labels: the class of each (M,).
        asked: embeddings (N, D) of the new examples.

    Returns:
        Columns (N,): label, similarity, and similarity_<class> for every class.
    """
    names, index = np.unique(np.array(labels, dtype=object), return_inverse=True)
    members = (index == np.arange(len(names))[:, None]).astype(np.float64)
    prototypes = members @ classifiers.of_length_one(known.astype(np.float64)) / members.sum(1, keepdims=True)
    similarity = classifiers.of_length_one(asked.astype(np.float64)) @ classifiers.of_length_one(prototypes).T
    each = {f"similarity_{name}": similarity[:, column] for column, name in enumerate(names)}
    return {"label": names[similarity.argmax(1)], "similarity": similarity.max(1), **each}
