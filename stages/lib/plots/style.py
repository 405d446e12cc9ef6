"""The common style of all plots: PNG files, which can be shown offline and are reproducible byte for byte.

Colours by Okabe and Ito (safe for colour-blind readers); designed for a width of 700 pixels.
"""

from pathlib import Path
from typing import Any, BinaryIO

import matplotlib

matplotlib.use("Agg")  # no window, on any machine

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.typing import RcKeyType

COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"]
GREY, DARK = "#777777", "#222222"
BETTER, WORSE, EQUAL = "#0072B2", "#D55E00", "#009E73"
VERDICTS = {"helps": BETTER, "this model is better": BETTER, "hurts": WORSE, "this model is worse": WORSE, "as good": EQUAL,
            "this model is as good": EQUAL, "no difference shown": GREY}  # fmt: skip
PIXELS: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255}  # of imshow for grey images, which it ignores for others
STYLE: dict[RcKeyType, Any] = {
    "font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.spines.top": False,
    "axes.spines.right": False, "axes.edgecolor": GREY, "axes.grid": True, "grid.color": "#E6E6E6", "axes.axisbelow": True,
    "legend.frameon": False, "legend.fontsize": 8, "xtick.color": DARK, "ytick.color": DARK, "text.parse_math": False,
}  # fmt: skip


def save(figure: Figure, path: Path | BinaryIO) -> None:
    """Write a figure; equal figures give equal bytes."""
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine), 'every figure here is made with layout="constrained"'
    layout.set(w_pad=0.1, h_pad=0.1)
    figure.savefig(path, dpi=100, metadata={"Software": None})  # the version of matplotlib would change the bytes
    plt.close(figure)


def short(title: str) -> str:
    """Cut lines that are too wide for their image to their last part, because a path ends with the file's name."""
    return "\n".join(line if len(line) <= 30 else f"…{line[-29:]}" for line in title.split("\n"))
