"""The plot of few-shot accuracy over the number of shots."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from stages.lib.plots.style import COLOURS, STYLE, save


def shots(path: Path, table: pd.DataFrame, title: str, confidence: float) -> None:
    """Plot the accuracy of each classifier against the number of shots, with intervals, for each way.

    Args:
        table: way, shot, classifier, value, lower and upper.
    """
    ways = list(dict.fromkeys(table.way))
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            1, len(ways), figsize=(1 + 3.4 * len(ways), 3.6), sharey=True, squeeze=False, layout="constrained"
        )
        for axes, way in zip(grid[0], ways, strict=True):
            own = table[table.way == way].sort_values("shot")
            places = {shot: place for place, shot in enumerate(dict.fromkeys(own.shot))}
            kinds = list(dict.fromkeys(table.classifier))
            for index, name in enumerate(kinds):
                curve = own[own.classifier == name]
                where = curve.shot.map(places) + 0.06 * (
                    index - (len(kinds) - 1) / 2
                )  # side by side: intervals would cover others
                errors = [100 * (curve.value - curve.lower), 100 * (curve.upper - curve.value)]
                axes.errorbar(where, 100 * curve.value, errors, fmt="o-", color=COLOURS[index % len(COLOURS)], markersize=4,
                              linewidth=1, capsize=2, label=name.replace("_", " "))  # fmt: skip
            axes.axhline(100 / way, color="grey", linestyle="--", linewidth=1)
            axes.set_xticks(list(places.values()), list(places))
            axes.set(title=f"{way}-way", xlabel="shots (support examples of each class)")
        grid[0, 0].set_ylabel(f"accuracy, %, with {confidence:.0%} interval")
        grid[0, 0].plot([], [], color="grey", linestyle="--", label="guessing")
        figure.suptitle(title)
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        save(figure, path)
