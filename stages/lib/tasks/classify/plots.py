"""Plots of a classifier's predictions: the confusion matrix and the reliability diagram."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from stages.lib.plots.style import DARK, GREY, STYLE, save

MAX_NUMBERS, MAX_NAMES = 12, 40  # most classes for which a confusion matrix shows numbers in its cells, and class names


def confusion(path: Path, counts: np.ndarray, classes: list[str], title: str) -> None:
    """Plot counts (C, C) of true class (row) and predicted class (column), coloured by their fraction of the row."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    num = len(classes)
    side = 4.2 if num <= 4 else 6
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(figsize=(side + 0.8, side), layout="constrained")
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if num <= MAX_NUMBERS:
            for row, column in np.ndindex(counts.shape):
                text = f"{counts[row, column]}" + (f"\n{shares[row, column]:.0%}" if num <= 6 else "")
                axes.text(column, row, text, ha="center", va="center", color="white" if shares[row, column] > 0.5 else DARK)
        if num <= MAX_NAMES:
            tilt: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if num > 4 else {}
            axes.set_xticks(range(num), classes, fontsize=9 if num <= 12 else 6, **tilt)
            axes.set_yticks(range(num), classes, fontsize=9 if num <= 12 else 6)
        axes.set(xlabel="predicted class", ylabel="true class", title=title)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, shrink=0.75, label="fraction of the true class").outline.set_visible(False)
        save(figure, path)


def reliability(path: Path, bins: pd.DataFrame, title: str) -> None:
    """Plot accuracy against confidence, and the number of examples in each bin.

    Args:
        bins: bin, confidence, accuracy, count, as evaluate writes them; empty bins have no confidence.
    """
    width = 1 / len(bins)
    middles = (bins["bin"] - 0.5) * width
    filled = bins[bins["count"] > 0]
    with plt.rc_context(STYLE):
        figure, (top, bottom) = plt.subplots(
            2, 1, figsize=(5.2, 5.2), sharex=True, height_ratios=[3, 1], layout="constrained"
        )  # fmt: skip
        top.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        top.text(0.3, 0.33, "as sure as right", color=GREY, rotation=45, rotation_mode="anchor", transform_rotates_text=True)
        top.vlines(filled["confidence"], filled["confidence"], filled["accuracy"], color="#D55E00", linewidth=2, label="gap")
        sizes = 12 + 160 * filled["count"] / filled["count"].max()
        top.scatter(
            filled["confidence"],
            filled["accuracy"],
            s=sizes,
            color="#0072B2",
            label="bin (area: examples)",
            clip_on=False,
            zorder=3,
        )
        top.set(xlim=(0, 1), ylim=(0, 1.03), ylabel="accuracy", title=title)
        top.legend(loc="upper left", markerscale=0.7)
        bottom.bar(middles, bins["count"], width=0.92 * width, color="#0072B2")
        bottom.set(xlabel="confidence of the predicted class", ylabel="examples")
        save(figure, path)
