"""The pictures in metrics/plots: PNG files, which need no internet to be shown and are the same bytes each time.

Colours by Okabe and Ito (told apart by colour-blind readers too); read best at 700 pixels width.
"""

from pathlib import Path
from typing import BinaryIO

import matplotlib

matplotlib.use("Agg")  # no window, on any machine

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"]
GREY, DARK = "#777777", "#222222"
VERDICTS = {"helps": "#0072B2", "hurts": "#D55E00", "no difference shown": GREY}
STYLE = {"font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.spines.top": False,
         "axes.spines.right": False, "axes.edgecolor": GREY, "axes.grid": True, "grid.color": "#E6E6E6", "axes.axisbelow": True,
         "legend.frameon": False, "legend.fontsize": 8, "xtick.color": DARK, "ytick.color": DARK,
         "text.parse_math": False}  # fmt: skip
MAX_NUMBERS, MAX_NAMES = 12, 40  # classes up to which a confusion matrix has numbers in its cells, and names at its sides


def curves(path: Path, histories: dict[str, list[pd.DataFrame]], num_hops: int) -> None:
    """Losses and validation accuracy in every epoch.

    Args:
        histories: for each arm the history.csv of its seeds, and with `kept` the epoch of the model; the first `num_hops` are
            hops on data of their own and get a row of their own, because their figures do not compare with the target's.
    """
    arms = list(histories.items())
    rows = [(title, some) for title, some in [("Hops", arms[:num_hops]), ("Target", arms[num_hops:])] if some]
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(len(rows), 2, figsize=(7, 2.9 * len(rows)), squeeze=False, layout="constrained")
        for (loss, accuracy), (title, some) in zip(grid, rows, strict=True):
            for index, (name, tables) in enumerate(some):
                colour = COLOURS[index % len(COLOURS)]
                for number, table in enumerate(tables):
                    best = table[table["kept"]].iloc[0]
                    style = {"color": colour, "linewidth": 1.5, "alpha": 1 if number == 0 else 0.5}
                    loss.plot(table["epoch"], table["train_loss"], linestyle=":", **style)
                    loss.plot(table["epoch"], table["val_loss"], **style)
                    loss.plot(best["epoch"], best["val_loss"], "o", color=colour, markersize=5)
                    accuracy.plot(table["epoch"], 100 * table["val_accuracy"], label=name if number == 0 else None, **style)
                    accuracy.plot(best["epoch"], 100 * best["val_accuracy"], "o", color=colour, markersize=5)
            loss.set(title=f"{title}: loss", xlabel="epoch")
            accuracy.set(title=f"{title}: validation accuracy, %", xlabel="epoch")
            accuracy.legend(loc="lower right")
            for axes in (loss, accuracy):
                axes.xaxis.get_major_locator().set_params(integer=True)
        loss.plot([], [], color=GREY, linestyle=":", label="training (augmented, smoothed labels)")
        loss.plot([], [], color=GREY, label="validation")
        loss.plot([], [], "o", color=GREY, markersize=5, label="epoch that was kept")
        figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        _save(figure, path)


def confusion(path: Path, counts: np.ndarray, classes: list[str], title: str) -> None:
    """Counts (C, C) of true class (row) and predicted class (column), coloured by their share of the row."""
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
            tilt = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if num > 4 else {}
            axes.set_xticks(range(num), classes, fontsize=9 if num <= 12 else 6, **tilt)
            axes.set_yticks(range(num), classes, fontsize=9 if num <= 12 else 6)
        axes.set(xlabel="predicted class", ylabel="true class", title=title)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, shrink=0.75, label="share of the true class").outline.set_visible(False)
        _save(figure, path)


def reliability(path: Path, bins: pd.DataFrame, title: str) -> None:
    """Accuracy against confidence, and how many images each bin has.

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
            label="bin (area: images)",
            clip_on=False,
            zorder=3,
        )
        top.set(xlim=(0, 1), ylim=(0, 1.03), ylabel="accuracy", title=title)
        top.legend(loc="upper left", markerscale=0.7)
        bottom.bar(middles, bins["count"], width=0.92 * width, color="#0072B2")
        bottom.set(xlabel="confidence of the predicted class", ylabel="images")
        _save(figure, path)


def comparison(path: Path, metric: str, arms: dict[str, dict], differences: list[tuple[str, dict]], confidence: float) -> None:
    """What each arm reaches, and the paired differences around zero, with their intervals.

    Args:
        arms: value, lower and upper (0 to 1) by name, the proposal first.
        differences: a name, and difference, lower, upper and verdict, each.
    """
    with plt.rc_context(STYLE | {"axes.grid.axis": "x", "axes.spines.left": False}):
        height = 1.9 + 0.42 * (len(arms) + len(differences))
        figure, (top, bottom) = plt.subplots(
            2, 1, figsize=(7, height), height_ratios=[len(arms), len(differences) + 0.3], layout="constrained"
        )
        for row, arm in enumerate(arms.values()):
            _interval(top, row, arm["value"], arm, DARK if row else "#0072B2", f"{100 * arm['value']:.1f}")
        names = ["random weights" if name == "scratch" else name for name in arms]
        top.set_yticks(range(len(arms)), names)
        top.set(title=f"Test {metric}, %, with {confidence:.0%} interval", ylabel="target trained from")
        for row, (_, each) in enumerate(differences):
            text = f"{100 * each['difference']:+.1f}  {each['verdict']}"
            _interval(bottom, row, each["difference"], each, VERDICTS[each["verdict"]], text)
        bottom.set_yticks(range(len(differences)), [name.replace("scratch", "random weights") for name, _ in differences])
        bottom.axvline(0, color=DARK, linewidth=1)
        bottom.set(title="Difference on the same images, points", xlabel=f"{next(iter(arms))} is better to the right of 0")
        for axes, num in ((top, len(arms)), (bottom, len(differences))):
            axes.set_ylim(num - 0.5, -0.5)  # the first at the top
            axes.tick_params(axis="y", length=0)
            axes.margins(x=0.12)
        _save(figure, path)


def forgetting(path: Path, models: list[str], tasks: list[str], accuracy: np.ndarray) -> None:
    """Accuracy on each task (column) after each training (row), as a heat map.

    Args:
        accuracy: (models, tasks); not a number where a model does not come after the task.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(max(4.5, 2.5 + 1.1 * len(tasks)), 1.4 + 0.4 * len(models)), layout="constrained")
        axes.grid(visible=False)
        shown = axes.imshow(100 * accuracy, cmap="viridis", vmin=0, vmax=100, aspect="auto")
        axes.set(title="Accuracy on each task, %", xlabel="task (test images)", ylabel="after training")
        axes.set_xticks(range(len(tasks)), tasks)
        axes.set_yticks(range(len(models)), models)
        for row, column in zip(*np.nonzero(~np.isnan(accuracy)), strict=True):
            value = accuracy[row, column]
            axes.text(column, row, f"{100 * value:.1f}", ha="center", va="center", color="white" if value < 0.6 else "black")
        figure.colorbar(shown, ax=axes)
        _save(figure, path)


def alphas(path: Path, curves: dict[str, pd.DataFrame]) -> None:
    """Accuracy on the target against that on an earlier task, along the line from start to fine-tuned weights.

    Args:
        curves: by a name for each, a table with alpha, target_val_accuracy and earlier_accuracy.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
        for index, (name, table) in enumerate(curves.items()):
            colour = COLOURS[index % len(COLOURS)]
            axes.plot(100 * table.earlier_accuracy, 100 * table.target_val_accuracy, "o-", color=colour, markersize=3, label=name)
            for row in table.iloc[[0, -1]].itertuples():
                axes.annotate(f"{row.alpha:g}", (100 * row.earlier_accuracy, 100 * row.target_val_accuracy), fontsize=8)
        axes.set(title="From the start (0) to the fine-tuned weights (1)", xlabel="accuracy on the earlier task, %",
                 ylabel="validation accuracy on the target, %")  # fmt: skip
        axes.legend()
        _save(figure, path)


def waterfall(path: Path | BinaryIO, metric: str, steps: list[dict]) -> None:
    """What each step of the chain added, from the first (all of it) to the last.

    Args:
        steps: name, value and, after the first, difference, lower, upper and verdict against the one before.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 1 + 0.5 * len(steps)), layout="constrained")
        for row, step in enumerate(steps):
            start = 0 if row == 0 else 100 * steps[row - 1]["value"]
            colour = DARK if row == 0 else VERDICTS[step["verdict"]]
            axes.barh(row, 100 * step["value"] - start, left=start, color=colour, height=0.55)
            text = f"{100 * step['value']:.1f}"
            if row:
                difference, lower, upper = (100 * step[name] for name in ("difference", "lower", "upper"))
                text += f"  ({difference:+.1f}, {lower:+.1f} to {upper:+.1f}: {step['verdict']})"
                axes.plot([start, start], [row - 0.75, row + 0.3], color=GREY, linewidth=1)
            axes.annotate(
                text, (max(start, 100 * step["value"]), row), (5, 0), textcoords="offset points", va="center", fontsize=8
            )
        lowest = min(100 * step["value"] for step in steps)
        axes.set_xlim(max(0, lowest - 10), 100 + (100 - max(0, lowest - 10)) * 0.6)  # a place for the words
        axes.set_xticks([tick for tick in axes.get_xticks() if max(0, lowest - 10) <= tick <= 100])
        axes.set_yticks(range(len(steps)), ["random weights" if step["name"] == "scratch" else step["name"] for step in steps])
        axes.set_ylim(len(steps) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set(title=f"Test {metric} of the target after each step of the chain, %")
        _save(figure, path)


def images(path: Path, pixels: np.ndarray, maps: np.ndarray | None, titles: list[str]) -> None:
    """Images under their titles, each beside itself with the heat map of where its answer comes from.

    Args:
        pixels: (N, H, W, 3) uint8; without any, the picture says so.
        maps: (N, H, W) from 0 to 1, or None: then the images stand alone.
    """
    columns, each = 3, 1 if maps is None else 2
    rows = max(1, -(-len(pixels) // columns))
    with plt.rc_context(STYLE | {"axes.grid": False, "axes.titleweight": "normal", "axes.titlesize": 8}):
        figure, grid = plt.subplots(rows, columns * each, figsize=(7.2, 1.75 * rows), squeeze=False, layout="constrained")
        for axes in grid.flat:
            axes.set_axis_off()
        if not len(pixels):
            grid[0, 0].text(0, 0.5, "No image was answered wrong, and none is to be shown.")
        for index, (image, title) in enumerate(zip(pixels, titles, strict=True)):
            row, column = divmod(index, columns)
            grid[row, column * each].imshow(image)
            grid[row, column * each].set_title(_short(title))
            if maps is not None:
                grid[row, column * each + 1].imshow(image)
                grid[row, column * each + 1].imshow(maps[index], cmap="inferno", alpha=0.5, vmin=0, vmax=1)
        _save(figure, path)


def samples(path: Path, found: dict[tuple[str, str], np.ndarray], num: int, title: str) -> None:
    """A few images of each class (row) and split (column).

    Args:
        found: (n, H, W, 3) uint8 for each (class, split), with n up to `num`.
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
            grid[row, 0].set_ylabel(_short(label), rotation=0, ha="right", va="center")
            for index, image in enumerate(pixels):
                grid[row, column + index].imshow(image)
        _save(figure, path)


def _short(title: str) -> str:
    """Each line with its end, where a file has its name, if it is too long for its image."""
    return "\n".join(line if len(line) <= 30 else f"…{line[-29:]}" for line in title.split("\n"))


def _interval(axes, row: int, value: float, ends: dict, colour: str, text: str) -> None:
    axes.plot([100 * ends["lower"], 100 * ends["upper"]], [row, row], color=colour, linewidth=2.5, solid_capstyle="round")
    axes.plot(100 * value, row, "o", color=colour, markersize=7)
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # or the zero line would cross out the words
    axes.annotate(text, (100 * value, row), (0, 7), textcoords="offset points", ha="center", color=colour, bbox=behind)


def _save(figure, path: Path | BinaryIO) -> None:
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    figure.savefig(path, dpi=100, metadata={"Software": None})  # the version of matplotlib would change the bytes
    plt.close(figure)
