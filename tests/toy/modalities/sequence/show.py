"""Sequences for people to look at."""

from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from stages.lib.core.datasets import PackedSplit
from stages.lib.plots.style import STYLE, save

FILE = "samples.png"


def samples(path: Path, splits: dict[str, PackedSplit], labels: list[str] | None, title: str, packing: dict[str, Any]) -> None:
    """The first sequences of each split as lines."""
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, len(splits), squeeze=False, layout="constrained")
        for axes, (name, split) in zip(grid[0], splits.items(), strict=True):
            for row in range(min(3, len(split.keys))):
                axes.plot(split.rows([row])[0][:, 0])
            axes.set(title=f"{title}: {name}")
        save(figure, path)
