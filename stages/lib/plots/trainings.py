"""Plots of trainings and of their comparison, for compare and the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from stages.lib.core.contracts import Metric, Scale
from stages.lib.plots.style import COLOURS, DARK, GREY, STYLE, VERDICTS, save


def curves(path: Path, histories: dict[str, list[pd.DataFrame]], num_hops: int, primary: str, percent: bool) -> None:
    """Plot the losses and the task's primary metric on validation for every epoch.

    Args:
        histories: for each arm, the history.csv of each seed, where `kept` marks the epoch of the model; the first `num_hops` are
            hops on their own data and get separate rows, because their metrics are not comparable with the target's.
        primary: metric of the target's task; a hop whose task does not have it shows only losses.
        percent: whether the metric is a fraction, to be shown in percent.
    """
    arms, scale = list(histories.items()), 100 if percent else 1
    rows = [(title, some) for title, some in [("Hops", arms[:num_hops]), ("Target", arms[num_hops:])] if some]
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(len(rows), 2, figsize=(7, 2.9 * len(rows)), squeeze=False, layout="constrained")
        for (loss, figure_axes), (title, some) in zip(grid, rows, strict=True):
            for index, (name, tables) in enumerate(some):
                colour = COLOURS[index % len(COLOURS)]
                for number, table in enumerate(tables):
                    best = table[table["kept"]].iloc[0]
                    style = {"color": colour, "linewidth": 1.5, "alpha": 1 if number == 0 else 0.5}
                    loss.plot(table["epoch"], table["train_loss"], linestyle=":", **style)
                    loss.plot(table["epoch"], table["val_loss"], **style)
                    loss.plot(best["epoch"], best["val_loss"], "o", color=colour, markersize=5)
                    if f"val_{primary}" in table:
                        values = scale * table[f"val_{primary}"]
                        figure_axes.plot(table["epoch"], values, label=name if number == 0 else None, **style)
                        figure_axes.plot(best["epoch"], scale * best[f"val_{primary}"], "o", color=colour, markersize=5)
            loss.set(title=f"{title}: loss", xlabel="epoch")
            figure_axes.set(title=f"{title}: validation {primary.replace('_', ' ')}{', %' if percent else ''}", xlabel="epoch")
            figure_axes.legend(loc="lower right")
            for axes in (loss, figure_axes):
                axes.xaxis.get_major_locator().set_params(integer=True)
        loss.plot([], [], color=GREY, linestyle=":", label="training (augmented)")
        loss.plot([], [], color=GREY, label="validation")
        loss.plot([], [], "o", color=GREY, markersize=5, label="epoch that was kept")
        figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        save(figure, path)


def comparison(
    path: Path,
    name: str,
    metric: Metric,
    arms: Mapping[str, Mapping[str, Any]],
    differences: Sequence[tuple[str, Mapping[str, Any]]],
    confidence: float,
) -> None:
    """Plot the metric of each arm, and the paired differences around zero, with their intervals.

    Args:
        name: of the metric.
        arms: value, lower and upper by name, the proposal first.
        differences: pairs of a name and a dict with difference, lower, upper and verdict.
    """
    scale, digits = (100, ".1f") if metric.fraction else (1, ".3g")
    with plt.rc_context(STYLE | {"axes.grid.axis": "x", "axes.spines.left": False}):
        height = 1.9 + 0.42 * (len(arms) + len(differences))
        figure, (top, bottom) = plt.subplots(
            2, 1, figsize=(7, height), height_ratios=[len(arms), len(differences) + 0.3], layout="constrained"
        )
        for row, arm in enumerate(arms.values()):
            _interval(top, row, arm["value"], arm, DARK if row else "#0072B2", f"{scale * arm['value']:{digits}}", scale)
        top.set_yticks(range(len(arms)), list(arms))
        unit = ", %" if metric.fraction else ""
        top.set(title=f"Test {name}{unit}, with {100 * confidence:g} % interval", ylabel="target trained from")
        for row, (_, each) in enumerate(differences):
            text = f"{metric.change(each['difference'])}  {each['verdict']}"
            _interval(bottom, row, each["difference"], each, VERDICTS[each["verdict"]], text, scale)
        bottom.set_yticks(range(len(differences)), [name for name, _ in differences])
        bottom.axvline(0, color=DARK, linewidth=1)
        side = "right" if metric.higher_is_better else "left"
        title = f"Difference on the same test examples{', points' if metric.fraction else ''}"
        bottom.set(title=title, xlabel=f"{next(iter(arms))} is better to the {side} of 0")
        for axes, num in ((top, len(arms)), (bottom, len(differences))):
            axes.set_ylim(num - 0.5, -0.5)  # the first at the top
            axes.tick_params(axis="y", length=0)
            axes.margins(x=0.12)
        save(figure, path)


def forgetting(
    path: Path, models: list[str], tasks: list[str], values: np.ndarray, metrics: list[Scale], chances: list[float]
) -> None:
    """Plot each model's metric on each earlier task as a heat map.

    Args:
        models, tasks: names of rows and columns.
        values: (models, tasks) of each task's metric; NaN if the model does not come after the task.
        metrics: of the tasks; the column of a metric that is not a fraction is not coloured. Bright is good.
        chances: of each task, the metric of always giving one answer, at which its colours begin; NaN: they begin at the worst.
    """
    fractions = np.where([metric.fraction for metric in metrics], values, np.nan)
    goodness = np.where([metric.higher_is_better for metric in metrics], fractions, 1 - fractions)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(max(4.5, 2.5 + 1.1 * len(tasks)), 1.4 + 0.4 * len(models)), layout="constrained")
        worst = np.nan_to_num([chance if metric.higher_is_better else 1 - chance
                               for chance, metric in zip(chances, metrics, strict=True)])  # fmt: skip
        goodness = np.clip((goodness - worst) / (1 - worst), 0, 1)
        axes.grid(visible=False)
        axes.imshow(goodness, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        axes.set(
            title="Earlier tasks after later training, %\n(darkest: one answer for everything)",
            xlabel="task (test examples)",
            ylabel="after training",
        )
        axes.set_xticks(range(len(tasks)), tasks)
        axes.set_yticks(range(len(models)), models)
        for row, column in zip(*np.nonzero(~np.isnan(values)), strict=True):
            text = metrics[column].text(values[row, column]).removesuffix(" %")
            dark = goodness[row, column] < 0.6
            axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
        save(figure, path)


def alphas(path: Path, curves: dict[str, pd.DataFrame], primary: str, scale: Scale, earlier: str) -> None:
    """Plot the target against an earlier task along the line from start to fine-tuned weights.

    Args:
        curves: by name, a table with alpha, target (on validation) and earlier (on the test, as it is to be shown).
        primary: metric of the target's task, and its scale.
        earlier: metric of the earlier task.
    """
    factor, unit = (100, ", %") if scale.fraction else (1, "")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
        for index, (name, table) in enumerate(curves.items()):
            colour = COLOURS[index % len(COLOURS)]
            axes.plot(table.earlier, factor * table.target, "o-", color=colour, markersize=3, label=name)
            for row in table.iloc[[0, -1]].itertuples():
                axes.annotate(f"{row.alpha:g}", (row.earlier, factor * row.target), fontsize=8)
        axes.set(title="From the start (0) to the fine-tuned weights (1)", xlabel=f"{earlier} on the earlier task",
                 ylabel=f"validation {primary} on the target{unit}")  # fmt: skip
        axes.legend()
        save(figure, path)


def domains(path: Path, points: Mapping[str, pd.DataFrame], distances: Mapping[str, pd.Series]) -> None:
    """Plot the features of two domains before and after training, a row for each arm.

    Args:
        points: by arm, a table with model (before, after), domain (labelled, unlabelled), x and y.
        distances: by arm, the A-distance by model.
    """
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(len(points), 2, figsize=(7, 2.7 * len(points)), squeeze=False, layout="constrained")
        for row, (arm, table) in zip(grid, points.items(), strict=True):
            for axes, model in zip(row, ("before", "after"), strict=True):
                for domain, colour in zip(("labelled", "unlabelled"), COLOURS, strict=False):
                    some = table[(table["model"] == model) & (table["domain"] == domain)]
                    axes.scatter(some["x"], some["y"], 9, color=colour, alpha=0.6, linewidths=0, label=domain)
                axes.set(title=f"{arm}, {model}: A-distance {distances[arm][model]:.2f}", xticks=[], yticks=[])
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        save(figure, path)


def waterfall(path: Path | BinaryIO, name: str, metric: Metric, steps: list[dict[str, Any]]) -> None:
    """Plot what each step of the chain added, starting with the full value of the first.

    Args:
        name: of the metric.
        steps: name, value and, except for the first, difference, lower and upper against the previous step.
    """
    scale = 100 if metric.fraction else 1
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 1 + 0.5 * len(steps)), layout="constrained")
        for row, step in enumerate(steps):
            value = scale * step["value"]
            start = 0 if row == 0 else scale * steps[row - 1]["value"]
            colour = DARK if row == 0 else GREY
            axes.barh(row, value - start, left=start, color=colour, height=0.55)
            text = metric.text(step["value"]).removesuffix(" %")
            if row:
                difference, lower, upper = (metric.change(step[key]) for key in ("difference", "lower", "upper"))
                text += f"  ({difference}, {lower} to {upper})"
                axes.plot([start, start], [row - 0.75, row + 0.3], color=GREY, linewidth=1)
            axes.annotate(text, (max(start, value), row), (5, 0), textcoords="offset points", va="center", fontsize=8)
        values = [scale * step["value"] for step in steps]
        lowest = max(0, min(values) - 10) if metric.fraction else min(0, *values)
        highest = max(100, *values) if metric.fraction else max(0, *values)
        axes.set_xlim(lowest, highest + (highest - lowest) * 0.6)  # room for the text
        axes.set_xticks([tick for tick in axes.get_xticks() if lowest <= tick <= highest])
        axes.set_yticks(range(len(steps)), [step["name"] for step in steps])
        axes.set_ylim(len(steps) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set(title=f"Test {name} of the target after each step of the chain{', %' if metric.fraction else ''}")
        save(figure, path)


def _interval(axes: Axes, row: int, value: float, ends: Mapping[str, Any], colour: str, text: str, scale: float) -> None:
    axes.plot([scale * ends["lower"], scale * ends["upper"]], [row, row], color=colour, linewidth=2.5, solid_capstyle="round")
    axes.plot(scale * value, row, "o", color=colour, markersize=7)
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # otherwise the zero line would cross the text
    axes.annotate(text, (scale * value, row), (0, 7), textcoords="offset points", ha="center", color=colour, bbox=behind)
