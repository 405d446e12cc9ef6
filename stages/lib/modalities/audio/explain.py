"""A model's most confident predictions as players, each with a picture of the recording and of what mattered in it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from stages.lib.core.datasets import PackedSplit
from stages.lib.modalities.audio.features import features
from stages.lib.modalities.audio.inputs import padded
from stages.lib.modalities.audio.players import beginning, picture, player
from stages.lib.networks.backbones import Model

FILE = "mistakes.html"
PARTS = 12  # of a recording, each silenced in turn together with half of its neighbours
BATCH = 4  # of them go through the network at once: recordings may be long


def explained(
    path: Path,
    model: Model,
    preprocessing: dict[str, Any],
    split: PackedSplit,
    rows: np.ndarray,
    outputs: np.ndarray,
    titles: list[str],
) -> None:
    """Write recordings under titles, each with a player and a picture.

    Args:
        model: in evaluation mode.
        rows: (n,) of the split.
        outputs: (n,) the index of the explained output of each row; outputs per frame are shown without an explanation.
        titles: of the n recordings.
    """
    rate = preprocessing["sample_rate"]
    recordings = [np.array(each) for each in split.rows(rows)]
    seconds = beginning(recordings, rate)
    parts = []
    for recording, output, title in zip(recordings, outputs, titles, strict=True):
        drawn = picture(recording, rate, importance(model, preprocessing, recording, output))
        first, *rest = title.split("\n")
        lines = Markup("<br>").join([Markup("<b>{}</b>").format(first), *rest])  # join escapes what is not Markup
        card = Markup('<div style="overflow-wrap:anywhere">{}{}<br>{}</div>')
        parts.append(card.format(drawn, player(recording, rate, seconds, "11rem"), lines))
    page = Markup('<div style="{}">\n{}\n</div>\n') if parts else Markup("<p>No recordings.</p>\n")
    grid = "display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:1.2rem 1.5rem;font-size:.88rem"
    path.write_text(page.format(grid, Markup("\n").join(parts)), encoding="utf-8")


def importance(model: Model, preprocessing: dict[str, Any], recording: np.ndarray, output: int) -> np.ndarray | None:
    """How much the score of an output falls if a part of the recording is silenced.

    Returns:
        (PARTS,) from 0 to 1, where 1 is the part that matters most; all 0 if no part matters. None if the network has more than
        one output for a recording (one per frame).

    Reference:
        Zeiler and Fergus, Visualizing and Understanding Convolutional Networks (occlusion), ECCV 2014.
    """
    device = next(model.parameters()).device
    waves, lengths = padded([recording], device)
    middles = (torch.arange(PARTS, device=device) + 0.5) * len(recording) / PARTS
    silenced = (torch.arange(len(recording), device=device) - middles[:, None]).abs() < len(recording) / PARTS  # (PARTS, S)
    with torch.inference_mode():
        score = model(features(waves, lengths.to(device), preprocessing))
        if score.ndim != 2:
            return None
        tried = [
            model(features(waves.masked_fill(each, 0), lengths.to(device).expand(len(each)), preprocessing))
            for each in silenced.split(BATCH)
        ]
    falls = (score[0, output] - torch.cat(tried)[:, output]).clamp(min=0)
    strip: np.ndarray = (falls / falls.max().clamp(min=1e-6)).cpu().numpy()
    return strip
