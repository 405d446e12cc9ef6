"""The control without a network for embeddings of images: principal components of their pixels (eigenfaces)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    import numpy as np

    from stages.lib.core.datasets import PackedSplit

TITLE = "Principal components of the pixels"
TASKS, MODALITIES = ("embed", "few_shot"), ("image",)


class Params(Strict):
    components: int = Field(ge=2)


def predictions(
    train: "PackedSplit", val: "PackedSplit", test: "PackedSplit", names: Sequence[str], *, components: int
) -> "np.ndarray":
    """Embeddings (N, D) of length 1 of the test images: their coordinates along the first principal components of the training
    images, after subtracting their mean.

    Args:
        val: not used; there is nothing to choose.
        components: D, or as many as there are if that is less.

    Reference:
        Turk and Pentland, Eigenfaces for Recognition, Journal of Cognitive Neuroscience 1991.
    """
    import numpy as np
    from sklearn.decomposition import PCA

    learned, asked = (split.inputs[:].reshape(len(split.keys), -1).astype(np.float32) / 255 for split in (train, test))
    most = min(components, len(learned) - 1, learned.shape[1])
    found = PCA(most, svd_solver="full").fit(learned).transform(asked)
    scaled: np.ndarray = (found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return scaled
