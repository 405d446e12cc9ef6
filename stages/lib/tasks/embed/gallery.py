"""Identification: who of a gallery of known people a new picture shows, or nobody of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.lib.tasks.embed.retrieval import unit

NOBODY = "nobody"


def identified(known: np.ndarray, people: Sequence[str], asked: np.ndarray, threshold: float) -> dict[str, Any]:
    """The person of the gallery whose pictures are most similar to each new one, if they are similar enough.

    The similarity with a person is the mean cosine over the person's pictures, which varies less between strangers than that of
    two pictures, for which the threshold lets 1 % in. With more people in the gallery, more strangers are taken for one of them.

    Args:
        known: embeddings (M, D) of the gallery.
        people: who each of them is (M).
        asked: embeddings (N, D) of the new pictures.
        threshold: of the model's card.

    Returns:
        Columns (N,): person ("nobody" if none is similar enough), similarity with the nearest person, and nearest, that person.
    """
    names, index = np.unique(np.array(people, dtype=object), return_inverse=True)
    members = (index == np.arange(len(names))[:, None]).astype(float)
    means = members @ unit(known) / members.sum(1, keepdims=True)
    similarity = unit(asked) @ means.T
    nearest, most = names[similarity.argmax(1)], similarity.max(1)
    return {"person": np.where(most > threshold, nearest, NOBODY), "similarity": most, "nearest": nearest}
