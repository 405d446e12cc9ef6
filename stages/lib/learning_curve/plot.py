"""The plot of a learning curve."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from stages.lib.core.contracts import Metric
from stages.lib.core.runs import SCRATCH, shown
from stages.lib.plots.style import COLOURS, DARK, STYLE, save


def draw(path: Path, table: pd.DataFrame, data: str, name: str, metric: Metric, confidence: float) -> None:
    """Plot a metric against the number of training examples, with a line and a band for each arm.

    Args:
        table: from stages.lib.learning_curve.curve.Curve.
        data: name of the dataset.
        name: of the metric.
    """
    scale, unit = (100, ", %") if metric.fraction else (1, "")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
        for index, (arm, rows) in enumerate(table.groupby("arm", sort=False)):
            colour = DARK if arm == SCRATCH else COLOURS[index % len(COLOURS)]
            line = "o--" if arm == SCRATCH else "o-"
            axes.fill_between(rows.examples, scale * rows.lower, scale * rows.upper, color=colour, alpha=0.13, linewidth=0)
            axes.plot(rows.examples, scale * rows.value, line, color=colour, markersize=5, label=shown(arm))
        numbers = sorted(set(table.examples))
        axes.set_xscale("log")
        axes.set_xticks(numbers, [f"{num:,}" for num in numbers])
        axes.minorticks_off()
        axes.set(title=f"Test {name} on {data}{unit}, with {confidence:.0%} interval", xlabel="training examples (logarithmic)")
        figure.legend(loc="outside lower center", ncols=4, handlelength=3)
        save(figure, path)
