"""Sample recordings of a dataset, for people to listen to."""

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from stages.lib.core.datasets import PackedSplit
from stages.lib.modalities.audio.players import beginning, player

FILE = "samples.html"
SAMPLES, SAMPLES_OF_ALL = 2, 5  # recordings of each class and split; and of each split, if labels are not classes
MOST_CLASSES, MOST_CHARACTERS = 12, 120  # classes on a page, and characters of a label


def samples(path: Path, splits: dict[str, PackedSplit], classes: list[str] | None, title: str, packing: dict[str, Any]) -> None:
    """Write the first recordings of each class and split as a table of players.

    Args:
        splits: by name.
        classes: the labels to show, one row each; None shows the first recordings of each split under their labels.
        packing: of the data's card, with the sample rate.
    """
    rate = packing["sample_rate"]
    found: dict[tuple[str, str], list[tuple[str, str, np.ndarray]]] = {}  # (key, label, samples) by (class, split)
    for name, split in splits.items():
        labels = np.array(split.labels, dtype=object)
        for label in classes[:MOST_CLASSES] if classes else [""]:
            rows = np.flatnonzero(labels == label)[:SAMPLES] if classes else np.arange(len(labels))[:SAMPLES_OF_ALL]
            recordings = split.rows(rows)
            found[label, name] = [(split.keys[row], split.labels[row], each) for row, each in zip(rows, recordings, strict=True)]
    seconds = beginning([each for members in found.values() for _, _, each in members], rate)

    def cell(members: list[tuple[str, str, np.ndarray]]) -> Markup:
        parts = []
        for key, label, recording in members:
            said = "" if classes else Markup("<br>{}").format(short(label))
            played = player(recording, rate, seconds, "9rem")
            parts.append(Markup('<div title="{}" style="margin-bottom:.25rem">{}{}</div>').format(key, played, said))
        return Markup("").join(parts)

    lines = []
    for label in dict.fromkeys(label for label, _ in found):
        head = Markup("<th>{}</th>").format(short(label)) if classes else ""
        cells = Markup("").join(Markup("<td>{}</td>").format(cell(found[label, name])) for name in splits)
        lines.append(Markup("<tr>{}{}</tr>").format(head, cells))
    heads = Markup("").join(Markup("<th>{}</th>").format(name) for name in (["", *splits] if classes else splits))
    left_out = f" (the first {MOST_CLASSES} of {len(classes)} classes)" if classes and len(classes) > MOST_CLASSES else ""
    page = Markup('<p><b>{}</b></p>\n<div class="wide"><table>\n<tr>{}</tr>\n{}\n</table></div>\n')
    path.write_text(page.format(f"{title}{left_out}", heads, Markup("\n").join(lines)), encoding="utf-8")


def short(text: str) -> str:
    """The beginning of a label."""
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
