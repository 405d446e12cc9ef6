"""The plots of a classifier."""

import numpy as np
import pytest
from PIL import Image

from stages.lib.tasks.classify import plots


@pytest.mark.parametrize("num", [3, 12, 40, 100])
def test_many_classes_fit_into_the_confusion_matrix(tmp_path, num):
    counts = np.random.default_rng(0).integers(5, size=(num, num)) + 20 * np.eye(num, dtype=int)
    plots.confusion(tmp_path / "confusion.png", counts, [f"class {i}" for i in range(num)], "title")
    with Image.open(tmp_path / "confusion.png") as image:
        assert image.width <= 720
        assert np.asarray(image.convert("L")).std() > 10, "not blank"
