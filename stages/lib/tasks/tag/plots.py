"""The plot of a tagger's predictions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from stages.lib.plots.style import COLOURS, DARK, GREY, STYLE, save

MOST_TYPES = 20  # that are shown: those with the most entities
BLUE, ORANGE = COLOURS[0], COLOURS[5]


def entities(path: Path, report: Mapping[str, Any], kinds: Mapping[str, int], title: str) -> None:
    """Plot entity F1 of all and of each type with intervals, under the token accuracy that hides it, and the mistakes by kind.

    Args:
        report: from measures.report.
        kinds: number of entities of each kind, from mistakes.kinds.
    """
    types = sorted(report["per_type"], key=lambda name: -report["per_type"][name]["support"])[:MOST_TYPES]
    figures = {
        "token accuracy": (report["metrics"]["token_accuracy"], GREY),
        f"F1 of all {report['num_entities']} entities": (report["metrics"]["entity_f1"], BLUE),
    }
    if len(report["per_type"]) > 1:
        figures |= {
            f"{name} ({report['per_type'][name]['support']})": (report["per_type"][name]["f1"], COLOURS[4]) for name in types
        }
    nothing, wrong = report["token_accuracy_of_o"], {kind: count for kind, count in kinds.items() if kind != "right"}
    heights = [0.34 * len(figures) + 0.9, 0.28 * len(wrong) + 0.5]
    with plt.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure, (top, bottom) = plt.subplots(
            2, 1, figsize=(6.8, sum(heights) + 0.5), height_ratios=heights, layout="constrained"
        )  # fmt: skip
        for row, (value, colour) in enumerate(figures.values()):
            top.barh(row, value["value"] or 0, color=colour, height=0.7)
            if value["lower"] is not None:
                top.plot([value["lower"], value["upper"]], [row, row], color=DARK, linewidth=1.2)
            text = "not there" if value["value"] is None else f"{100 * value['value']:.1f} %"
            top.text(1.02, row, text, va="center")
        top.vlines(nothing, -0.45, 0.45, color=ORANGE, linewidth=2)
        top.annotate(
            f"predicting O for every word has {100 * nothing:.1f} %", (nothing, -0.45), (0, 2), textcoords="offset points",
            ha="right" if nothing > 0.5 else "left", va="bottom", color=ORANGE, fontsize=8,
        )  # fmt: skip
        top.set_yticks(range(len(figures)), list(figures))
        top.set(xlim=(0, 1), ylim=(len(figures) - 0.5, -1.1), title=f"{title}\nToken accuracy hides what entity F1 shows")
        top.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        bottom.barh(range(len(wrong)), list(wrong.values()), color=ORANGE, height=0.7)
        for row, count in enumerate(wrong.values()):
            bottom.annotate(str(count), (count, row), (3, 0), textcoords="offset points", va="center")
        bottom.set_yticks(range(len(wrong)), list(wrong))
        bottom.set(
            ylim=(len(wrong) - 0.5, -0.5),
            xlim=(0, 1.1 * max(1, *wrong.values())),
            title=f"Mistakes ({kinds['right']} entities are right)",
        )
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (top, bottom):
            axes.tick_params(axis="y", length=0)
        save(figure, path)
