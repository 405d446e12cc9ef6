"""A model's most confident predictions, with heat maps that explain them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt

from stages.lib.core.datasets import PackedSplit
from stages.lib.modalities.image import inputs, saliency
from stages.lib.networks.backbones import Model
from stages.lib.plots.style import PIXELS, STYLE, save, short

FILE = "mistakes.png"


def explained(
    path: Path,
    model: Model,
    preprocessing: dict[str, Any],
    split: PackedSplit,
    rows: np.ndarray,
    outputs: np.ndarray,
    titles: list[str],
) -> None:
    """Draw images with titles, each next to a copy with the heat map that explains one output.

    Args:
        model: in evaluation mode.
        rows: (n,) of the split.
        outputs: (n,) the index of the explained output of each row.
        titles: of the n images.
    """
    pixels, maps = np.array(split.rows(rows)), None
    if len(rows):
        device = next(model.parameters()).device
        batch = inputs.normalise(torch.from_numpy(pixels).to(device), preprocessing)
        maps = saliency.grad_cam(model, batch, torch.from_numpy(outputs).to(device))
    images(path, pixels, None if maps is None else maps.cpu().numpy(), titles)


def images(path: Path, pixels: np.ndarray, maps: np.ndarray | None, titles: list[str]) -> None:
    """Draw images with titles, each next to a copy with the heat map that explains its prediction.

    Args:
        pixels: (N, H, W, C) uint8; if N is 0, the figure says so.
        maps: (N, H, W) from 0 to 1, or None to draw only the images.
    """
    columns, each = 3, 1 if maps is None else 2
    rows = max(1, -(-len(pixels) // columns))
    with plt.rc_context(STYLE | {"axes.grid": False, "axes.titleweight": "normal", "axes.titlesize": 8}):
        figure, grid = plt.subplots(rows, columns * each, figsize=(7.2, 1.75 * rows), squeeze=False, layout="constrained")
        for axes in grid.flat:
            axes.set_axis_off()
        if not len(pixels):
            grid[0, 0].text(0, 0.5, "No misclassified images.")
        for index, (image, title) in enumerate(zip(pixels, titles, strict=True)):
            row, column = divmod(index, columns)
            grid[row, column * each].imshow(image, **PIXELS)
            grid[row, column * each].set_title(short(title))
            if maps is not None:
                grid[row, column * each + 1].imshow(image, **PIXELS)
                grid[row, column * each + 1].imshow(maps[index], cmap="inferno", alpha=0.5, vmin=0, vmax=1)
        save(figure, path)
