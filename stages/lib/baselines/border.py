"""A control without a network for classes of images: what their border alone tells.

The border should say nothing about what an image shows. Where it tells the classes, so does where they come from (a frame, a
marker, another scanner), and a network may have learned this shortcut.
"""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.lib.baselines._logistic import Strengths, probabilities
from stages.lib.params.fields import Strict

if TYPE_CHECKING:
    import numpy as np

    from stages.lib.core.datasets import PackedSplit

TITLE = "Logistic regression on the border of the images"
TASKS, MODALITIES = ("classify",), ("image",)
SHORTCUT = "the border of the images"  # what it sees, and should learn nothing from


class Params(Strict):
    width: float = Field(gt=0, lt=0.5)
    strengths: Strengths


def predictions(
    train: "PackedSplit", val: "PackedSplit", test: "PackedSplit", classes: list[str], *, width: float, strengths: list[float]
) -> "np.ndarray":
    """Probabilities (N, C) of the test images.

    Args:
        width: of the border, as a fraction of the image's side.
        strengths: values of C (the inverse of the regularisation) that are tried; the one with the lowest loss on validation is
            taken.

    Reference:
        Geirhos et al., Shortcut learning in deep neural networks, Nature Machine Intelligence 2020; DeGrave et al., AI for
        radiographic COVID-19 detection selects shortcuts over signal, Nature Machine Intelligence 2021.
    """
    from sklearn.preprocessing import StandardScaler

    learned, *others = (_border(split.inputs, width) for split in (train, val, test))
    scaler = StandardScaler().fit(learned)
    chosen, asked = (scaler.transform(each) for each in others)
    return probabilities(scaler.transform(learned), chosen, asked, train.labels, val.labels, classes, strengths)


def _border(images: "np.ndarray", width: float) -> "np.ndarray":
    """Mean and standard deviation (N, F) of squares along the four sides of images (N, H, W, C), each as wide as the border."""
    import numpy as np

    side = max(1, round(width * images.shape[1]))
    whole = images.shape[1] // side * side
    found = []
    for turns in range(4):  # one side at a time, so that the inside is never in memory as floats
        strip = np.rot90(images, turns, axes=(1, 2))[:, :side, :whole].astype(np.float32)
        squares = strip.reshape(len(images), side, whole // side, side, images.shape[3])
        found += [squares.mean((1, 3)).reshape(len(images), -1), squares.std((1, 3)).reshape(len(images), -1)]
    return np.concatenate(found, axis=1)
