"""What a model was most wrong about."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from torch import nn

from stages.lib.core.datasets import PackedSplit
from stages.lib.plots.style import STYLE, save

FILE = "mistakes.png"


def explained(
    path: Path,
    model: nn.Module,
    preprocessing: dict[str, Any],
    split: PackedSplit,
    rows: np.ndarray,
    outputs: np.ndarray,
    titles: list[str],
) -> None:
    """Sequences as lines, under their titles."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(layout="constrained")
        for numbers, title in zip(split.rows(rows), titles, strict=True):
            axes.plot(numbers[:, 0], label=title)
        save(figure, path)
