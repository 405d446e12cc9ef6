"""Plots of embeddings: how similar pairs of pictures are, and the ROC curve of verification."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from stages.lib.plots.style import DARK, GREY, STYLE, save
from stages.lib.tasks.embed.verification import FAR

SAME, STRANGERS = "#0072B2", "#D55E00"


def similarities(path: Path, same: np.ndarray, strangers: np.ndarray, limit: float | None, title: str) -> None:
    """Plot the distributions of the cosine similarities (P,) of pairs of one person, and (Q,) of strangers.

    Args:
        limit: above which 1 % of the strangers are.
    """
    edges = np.linspace(min(same.min(initial=0.0), strangers.min(initial=0.0)), 1, 51)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
        for values, colour, label in ((strangers, STRANGERS, "two people"), (same, SAME, "the same person")):
            shares = np.histogram(values, edges)[0] / max(1, len(values))
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.5, label=f"{label} ({len(values):,} pairs)")
        if limit is not None:
            axes.axvline(limit, color=DARK, linewidth=1, linestyle="--", label=f"{FAR:.0%} of strangers are above")
        axes.set(xlabel="cosine similarity of two pictures", ylabel="share of the pairs", title=title)
        axes.legend()
        save(figure, path)


def roc(path: Path, same: np.ndarray, strangers: np.ndarray, metrics: dict[str, dict[str, Any]], title: str) -> None:
    """Plot the true accept rate against the false accept rate, on a logarithmic scale, from sorted similarities (P,) and (Q,)."""
    limits = np.unique(np.concatenate([same, strangers]))[::-1]
    false, true = (1 - np.searchsorted(each, limits, side="left") / max(1, len(each)) for each in (strangers, same))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.2, 4.4), layout="constrained")
        axes.plot(false, true, color=SAME, label=f"AUROC {metrics['auroc']['value'] or float('nan'):.4f}")
        at = metrics["tar_at_far_1"]["value"] or 0.0
        axes.plot([FAR], [at], "o", color=STRANGERS, label=f"{at:.1%} accepted where {FAR:.0%} of strangers are let in")
        axes.axvline(FAR, color=GREY, linestyle="--", linewidth=1)
        axes.set_xscale("log")
        axes.set(xlim=(max(1 / max(1, len(strangers)), 1e-5), 1), ylim=(0, 1.02))
        axes.set(xlabel="false accept rate (pairs of two people)", ylabel="true accept rate (pairs of one person)", title=title)
        axes.legend(loc="lower right")
        save(figure, path)
