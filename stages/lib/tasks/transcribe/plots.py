"""Plots of a transcriber's errors: of each speaker or utterance, and which characters are confused."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from stages.lib.plots.style import COLOURS, DARK, GREY, STYLE, save

MOST_SPEAKERS, MOST_CONFUSIONS = 30, 15  # shown, the worst and the most frequent
EDGES = [0.05, 0.1, 0.2, 0.5, 1.0]  # of the error rate of an utterance: upper ends of bars
KINDS = {"substitutions": COLOURS[0], "deletions": COLOURS[1], "insertions": COLOURS[2]}


def speakers(path: Path, rows: list[dict[str, Any]], overall: float | None, title: str, confidence: float) -> None:
    """Plot the character error rate of each speaker with its interval, the worst first.

    Args:
        rows: speaker, utterances, cer, cer_lower, cer_upper; a rate that is not known is None.
        overall: the rate of all together.
    """
    shown = sorted((row for row in rows if row["cer"] is not None), key=lambda row: -row["cer"])[:MOST_SPEAKERS]
    left_out = f", the worst {len(shown)} of {len(rows)}" if len(rows) > MOST_SPEAKERS else ""
    with plt.rc_context(STYLE | {"axes.grid.axis": "x", "axes.spines.left": False}):
        figure, axes = plt.subplots(figsize=(7, 1.5 + 0.28 * len(shown)), layout="constrained")
        for place, row in enumerate(shown):
            if row["cer_lower"] is not None:
                ends = [100 * row["cer_lower"], 100 * row["cer_upper"]]
                axes.plot(ends, [place, place], color=COLOURS[0], linewidth=2.5, solid_capstyle="round")
            axes.plot(100 * row["cer"], place, "o", color=COLOURS[0], markersize=7)
        if overall is not None:
            axes.axvline(100 * overall, color=GREY, linestyle="--", linewidth=1, label=f"all together: {100 * overall:.1f} %")
            figure.legend(loc="outside lower right")
        axes.set_yticks(range(len(shown)), [f"{row['speaker']} ({row['utterances']})" for row in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        axes.set(title=title + left_out, xlabel=f"character error rate, %, with {confidence:.0%} interval",
                 ylabel="speaker (utterances)")  # fmt: skip
        save(figure, path)


def utterances(path: Path, rates: np.ndarray, title: str) -> None:
    """Plot how many utterances have which character error rate, (N,)."""
    place = np.where(rates == 0, 0, 1 + np.searchsorted(EDGES, rates, side="left"))
    counts = np.bincount(place, minlength=len(EDGES) + 2)
    labels = ["0", *(f"to {100 * end:.0f} %" for end in EDGES), "more"]
    with plt.rc_context(STYLE | {"axes.grid.axis": "y"}):
        figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
        bars = axes.bar(range(len(counts)), counts, color=[COLOURS[2], *[COLOURS[0]] * (len(counts) - 1)], width=0.8)
        axes.bar_label(bars, [f"{count / max(1, len(rates)):.0%}" if count else "" for count in counts], color=DARK, padding=2)
        axes.set_xticks(range(len(counts)), labels)
        axes.tick_params(axis="x", length=0)
        axes.margins(y=0.12)
        axes.set(title=title, xlabel="character error rate", ylabel="utterances")
        axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
        save(figure, path)


def confusions(path: Path, pairs: list[dict[str, Any]], totals: dict[str, int], title: str) -> None:
    """Plot the most frequent confusions.

    Args:
        pairs: said, heard ("" for nothing) and count, the most frequent first.
        totals: number of edits of each kind.
    """
    shown = pairs[:MOST_CONFUSIONS]
    with plt.rc_context(STYLE | {"axes.grid.axis": "x", "axes.spines.left": False}):
        figure, axes = plt.subplots(figsize=(6, 1.5 + 0.24 * max(3, len(shown))), layout="constrained")
        if not shown:
            axes.set_axis_off()
            axes.text(0, 0.5, "No errors.")
        for place, pair in enumerate(shown):
            kind = "insertions" if not pair["said"] else "deletions" if not pair["heard"] else "substitutions"
            axes.barh(place, pair["count"], color=KINDS[kind], height=0.7)
            axes.annotate(str(pair["count"]), (pair["count"], place), (4, 0), textcoords="offset points", va="center", fontsize=8)
        if shown:
            handles = [Patch(color=colour, label=f"{kind}: {totals[kind]}") for kind, colour in KINDS.items()]
            figure.legend(handles=handles, loc="outside lower center", ncols=3)
            axes.set_yticks(range(len(shown)), [_said(pair) for pair in shown])
            axes.set_ylim(len(shown) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
            axes.margins(x=0.08)
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
        axes.set(title=title, xlabel="how often")
        save(figure, path)


def _said(pair: dict[str, Any]) -> str:
    said, heard = ("space" if pair[side] == " " else pair[side] for side in ("said", "heard"))
    return f"{said} as {heard}" if said and heard else f"{said} left out" if said else f"{heard} added"
