"""Sample images of a dataset, for people to look at."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from stages.lib.core.datasets import PackedSplit
from stages.lib.plots.style import PIXELS, STYLE, save, short

FILE = "samples.png"
SAMPLES, MOST_CLASSES = 3, 12  # images per class and split, and most classes in one figure


def samples(path: Path, splits: dict[str, PackedSplit], classes: list[str] | None, title: str, packing: dict[str, Any]) -> None:
    """Draw the first packed images of each class and split, to look at before training.

    Args:
        splits: by name.
        packing: of the data's card.
        classes: the labels to show; None shows the first images regardless of their labels.
    """
    found = {}
    for name, split in splits.items():
        labels = np.array(split.labels, dtype=object)
        for label in classes[:MOST_CLASSES] if classes else [""]:
            rows = np.flatnonzero(labels == label) if classes else np.arange(len(labels))
            found[label, name] = np.array(split.rows(rows[:SAMPLES]))
    left_out = f" (the first {MOST_CLASSES} of {len(classes)} classes)" if classes and len(classes) > MOST_CLASSES else ""
    _grid(path, found, SAMPLES, f"{title}{left_out}")


def _grid(path: Path, found: dict[tuple[str, str], np.ndarray], num: int, title: str) -> None:
    """A few images of each class (row) and split (column).

    Args:
        found: (n, H, W, C) uint8 for each (class, split), with n up to `num`.
    """
    classes, names = (list(dict.fromkeys(key[part] for key in found)) for part in (0, 1))
    with plt.rc_context(STYLE | {"axes.grid": False, "axes.titleweight": "normal"}):
        size = (7.2, 0.5 + 0.8 * len(classes))
        figure, grid = plt.subplots(len(classes), num * len(names), figsize=size, squeeze=False, layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for (label, split), pixels in found.items():
            row, column = classes.index(label), num * names.index(split)
            grid[0, column].set_title(split)
            grid[row, 0].set_ylabel(short(label), rotation=0, ha="right", va="center")
            for index, image in enumerate(pixels):
                grid[row, column + index].imshow(image, **PIXELS)
        save(figure, path)
