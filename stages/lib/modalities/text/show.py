"""Sample texts of a dataset, for people to look at."""

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from stages.lib.core.datasets import PackedSplit
from stages.lib.modalities.text.inputs import texts

FILE = "samples.html"
SAMPLES, MOST_CLASSES, MOST_CHARACTERS = 2, 12, 240  # texts per class and split, most classes, most of each text


def samples(path: Path, splits: dict[str, PackedSplit], classes: list[str] | None, title: str, packing: dict[str, Any]) -> None:
    """Write the first texts of each class and split as a table.

    Args:
        splits: by name.
        packing: of the data's card.
        classes: the labels to show; None shows the first texts regardless of their labels.
    """
    rows = []
    for name, split in splits.items():
        labels = np.array(split.labels, dtype=object)
        for label in classes[:MOST_CLASSES] if classes else [None]:
            chosen = np.flatnonzero(labels == label) if classes else np.arange(len(labels))
            chosen = chosen[:SAMPLES]
            for row, text in zip(chosen, texts(split.rows(chosen)), strict=True):
                rows.append(Markup("<tr><td>{}</td><td>{}</td><td>{}</td></tr>").format(name, short(labels[row]), short(text)))
    left_out = f" (the first {MOST_CLASSES} of {len(classes)} classes)" if classes and len(classes) > MOST_CLASSES else ""
    page = Markup(
        '<p><b>{}</b></p>\n<div class="wide"><table>\n<tr><th>split</th><th>label</th><th>text</th></tr>\n{}\n</table></div>\n'
    )
    path.write_text(page.format(f"{title}{left_out}", Markup("\n").join(rows)), encoding="utf-8")


def short(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
