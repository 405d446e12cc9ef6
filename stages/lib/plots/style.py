"""The common style of all plots: PNG files, which can be shown offline and are reproducible byte for byte.

Colours by Okabe and Ito (safe for colour-blind readers); designed for a width of 700 pixels.
"""

from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib

matplotlib.use("Agg")  # no window, on any machine

from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator
from matplotlib.typing import RcKeyType

COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"]
GREY, DARK = "#777777", "#222222"
BETTER, WORSE, EQUAL = "#0072B2", "#D55E00", "#009E73"
VERDICTS = {"helps": BETTER, "this model is better": BETTER, "hurts": WORSE, "this model is worse": WORSE, "as good": EQUAL,
            "this model is as good": EQUAL, "no difference shown": GREY}  # fmt: skip
PIXELS: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255}  # of imshow for grey images, which it ignores for others
# DejaVu Sans comes with matplotlib; the others have the scripts that it lacks, where they are installed.
OTHER_FONTS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "WenQuanYi Zen Hei", "Droid Sans Fallback",
               "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "Noto Sans Ethiopic", "Unifont",
               "Arial Unicode MS", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Nirmala UI")  # fmt: skip
FONTS = ["DejaVu Sans", *sorted({*OTHER_FONTS} & {*font_manager.get_font_names()}, key=OTHER_FONTS.index)]
STYLE: dict[RcKeyType, Any] = {
    "font.family": FONTS,
    "font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.spines.top": False,
    "axes.spines.right": False, "axes.edgecolor": GREY, "axes.grid": True, "grid.color": "#E6E6E6", "axes.axisbelow": True,
    "legend.frameon": False, "legend.fontsize": 8, "xtick.color": DARK, "ytick.color": DARK, "text.parse_math": False,
}  # fmt: skip


def save(figure: Figure, path: Path | BinaryIO) -> None:
    """Write a figure; equal figures give equal bytes. Characters that no font has are written as their code points."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(drawn(text.get_text()))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):  # labels of ticks are written when drawn
        if isinstance(axis.get_major_locator(), FixedLocator):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            if any(drawn(label) != label for label in labels):
                axis.set_ticks(axis.get_majorticklocs(), [drawn(label) for label in labels])
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine), 'every figure here is made with layout="constrained"'
    layout.set(w_pad=0.1, h_pad=0.1)
    figure.savefig(path, dpi=100, metadata={"Software": None})  # the version of matplotlib would change the bytes
    plt.close(figure)


def short(title: str) -> str:
    """Cut lines that are too wide for their image to their last part, because a path ends with the file's name."""
    return "\n".join(line if len(line) <= 30 else f"…{line[-29:]}" for line in title.split("\n"))


def drawn(text: str) -> str:
    """A text as a plot can show it: U+72AC in place of a character that no font has, so that different names stay different."""
    return text if text.isascii() else "".join(char if _has(char) else f"U+{ord(char):04X}" for char in text)


@cache
def _has(char: str) -> bool:
    return char.isspace() or any(
        font_manager.get_font(font_manager.findfont(name)).get_char_index(ord(char)) for name in FONTS
    )  # fmt: skip
