"""The picture of a comparison of several ways to train the target."""

from pathlib import Path

from matplotlib import pyplot as plt

from stages.lib.evaluation.pairing import UNDECIDED
from stages.lib.plots.style import BETTER, COLOURS, DARK, EQUAL, GREY, STYLE, WORSE, save
from stages.lib.reporting.verdict.covered import percent
from stages.lib.shell.epochs import duration
from stages.lib.states import words
from stages.lib.states.compared import Compared

OF_VERDICT = {words.BETTER: BETTER, words.WORSE: WORSE, words.SAME: EQUAL, UNDECIDED: GREY}


def draw(path: Path, found: Compared, confidence: float) -> None:
    """Draw the metric of each way with its interval, its figure on validation, and its paired difference to the best."""
    scale = 100 if found.metric.fraction else 1
    num = len(found.ways)
    with plt.rc_context(STYLE | {"axes.grid.axis": "x", "axes.spines.left": False}):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(8.5, 1.6 + 0.45 * num), sharey=True, width_ratios=[1, 1.15], layout="constrained"
        )
        for row, way in enumerate(found.ways):
            colour = DARK if way.against else COLOURS[0]
            ends = [[scale * (way.test["value"] - way.test["lower"])], [scale * (way.test["upper"] - way.test["value"])]]
            left.errorbar(scale * way.test["value"], row, xerr=ends, fmt="o", color=colour, markersize=5, capsize=3)
            if found.primary == found.name:
                left.plot(scale * way.val, row, "D", color=colour, markerfacecolor="white", markersize=5)
            if way.against is None:
                right.text(0, row, "the best on validation ", va="center", ha="right", fontsize=8)
                continue
            each, verdict = way.against, words.word(way.against)
            ends = [[scale * (each.difference - each.lower)], [scale * (each.upper - each.difference)]]
            right.errorbar(scale * each.difference, row, xerr=ends, fmt="o", color=OF_VERDICT[verdict], markersize=5, capsize=3)
            text = f"{found.metric.change(each.difference)}  {verdict}"
            right.annotate(text, (scale * each.difference, row), (0, 6), textcoords="offset points", ha="center", fontsize=7.5)
        labels = [f"{way.label}\n{duration(way.seconds)}" if way.seconds is not None else way.label for way in found.ways]
        left.set_yticks(range(num), labels)
        left.set_ylim(num - 0.5, -0.6)  # the first at the top
        unit, points = (", %", ", points") if found.metric.fraction else ("", "")
        left.set(title=f"Test {found.name.replace('_', ' ')}{unit}", xlabel=f"{percent(confidence)} interval")
        if found.primary == found.name:
            left.plot([], [], "D", color=GREY, markerfacecolor="white", markersize=5, label="on validation")
            figure.legend(loc="outside lower center")
        right.axvline(0, color=DARK, linewidth=1)
        side = "right" if found.metric.higher_is_better else "left"
        right.set(title=f"Difference to {found.ways[0].label}{points}", xlabel=f"better than it: to the {side} of 0")
        for axes in (left, right):
            axes.tick_params(axis="y", length=0)
            axes.margins(x=0.12)
        save(figure, path)
