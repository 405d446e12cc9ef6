"""The border of images: it tells classes by what surrounds them, and nothing by what they show."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from stages.lib.baselines import border
from stages.lib.core.datasets import PackedSplit

CLASSES = ["covid", "normal", "virus"]


def split(num, seed, *, framed=True, shown=False, px=32, channels=3):
    """Noise; covid has one side a little darker, where `framed`, and something in the middle, where `shown`."""
    random = np.random.default_rng(seed)
    labels = [CLASSES[row % 3] for row in range(num)]
    images = random.integers(60, 180, (num, px, px, channels), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        if label == "covid" and framed:
            image[:, -2:] -= 25
        if label == "covid" and shown:
            image[8:-8, 8:-8] = 250
    return PackedSplit(images, None, labels, [str(row) for row in range(num)], None)


def auroc(width=0.06, **how):
    train, val, test = split(120, 0, **how), split(30, 1, **how), split(90, 2, **how)
    hidden = test._replace(labels=[""] * 90)
    found = border.predictions(train, val, hidden, CLASSES, width=width, strengths=[0.01, 1.0])
    assert found.shape == (90, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    return [roc_auc_score([label == name for label in test.labels], found[:, row]) for row, name in enumerate(CLASSES)]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_class_with_another_border_is_told_from_the_rest(channels):
    covid, normal, virus = auroc(channels=channels)
    assert covid > 0.95 and max(normal, virus) < 0.9


def test_what_an_image_shows_is_not_seen():
    assert max(auroc(framed=False, shown=True)) < 0.7
    assert auroc(framed=False, shown=True, width=0.4)[0] > 0.95, "unless the border is as wide as the image"


def test_every_side_is_seen_and_no_pixel_of_the_inside():
    images = np.zeros((1, 30, 30, 1), np.uint8)
    before = border._border(images, 0.1)
    for row, column in ((1, 15), (28, 15), (15, 1), (15, 28)):
        changed = images.copy()
        changed[0, row, column] = 255
        assert (border._border(changed, 0.1) != before).any()
    images[0, 3:-3, 3:-3] = 255
    assert (border._border(images, 0.1) == before).all()


def test_the_strength_is_chosen_on_validation():
    train, val, test = split(60, 0), split(30, 1), split(30, 2)
    both = border.predictions(train, val, test, CLASSES, width=0.06, strengths=[1e-6, 0.1])
    weak, strong = (border.predictions(train, val, test, CLASSES, width=0.06, strengths=[each]) for each in (1e-6, 0.1))
    assert (both == strong).all() and not (both == weak).all()
