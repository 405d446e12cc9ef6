"""A model's most confident predictions as pictures, each beside a copy with the heat map that explains it."""

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from markupsafe import Markup
from PIL import Image

from stages.lib.core.datasets import PackedSplit
from stages.lib.modalities.image import inputs, saliency
from stages.lib.networks.backbones import Model

FILE = "mistakes.html"
QUALITY = 88  # of JPEG: a page of them stays light
GRID = "display:grid;grid-template-columns:repeat(auto-fill,minmax(10rem,1fr));gap:.9rem;font-size:.84rem"


def explained(
    path: Path,
    model: Model,
    preprocessing: dict[str, Any],
    split: PackedSplit,
    rows: np.ndarray,
    outputs: np.ndarray,
    titles: list[str],
) -> None:
    """Write images with titles, each next to a copy with the heat map that explains one output.

    Args:
        model: in evaluation mode.
        rows: (n,) of the split.
        outputs: (n,) the index of the explained output of each row.
        titles: of the n images.
    """
    pixels, maps = np.array(split.rows(rows)), None
    if len(rows):
        device = next(model.parameters()).device
        batch = inputs.normalise(torch.from_numpy(pixels).to(device), preprocessing)
        maps = saliency.grad_cam(model, batch, torch.from_numpy(outputs).to(device))
    path.write_text(images(pixels, None if maps is None else maps.cpu().numpy(), titles), encoding="utf-8")


def images(pixels: np.ndarray, maps: np.ndarray | None, titles: list[str]) -> Markup:
    """Images with titles, each next to a copy with the heat map that explains its prediction, as HTML.

    Args:
        pixels: (N, H, W, C) uint8; if N is 0, the text says so.
        maps: (N, H, W) from 0 to 1, or None to show only the images.
    """
    parts = []
    for index, (image, title) in enumerate(zip(pixels, titles, strict=True)):
        first, *rest = title.split("\n")
        words = Markup("<br>").join([Markup("<b>{}</b>").format(first), *rest])  # join escapes what is not Markup
        shown = [image] if maps is None else [image, heated(image, maps[index])]
        drawn = Markup("").join(picture(each, first) for each in shown)
        pair = '<div style="overflow-wrap:anywhere"><div class="pair" style="display:flex;gap:.2rem">{}</div>{}</div>'
        parts.append(Markup(pair).format(drawn, words))  # noqa: S704 (our own)
    page = f'<div class="examples" style="{GRID}">\n{{}}\n</div>\n' if parts else "<p>No misclassified images.</p>\n"
    return Markup(page).format(Markup("\n").join(parts))  # noqa: S704 (our own)


def heated(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """An image (H, W, C) under its heat map (H, W) from 0 to 1, as (H, W, 3) uint8."""
    colours = 255 * matplotlib.colormaps["inferno"](heat)[..., :3]
    mixed: np.ndarray = (0.5 * image + 0.5 * colours).round().astype(np.uint8)  # one channel is broadcast to three
    return mixed


def picture(image: np.ndarray, text: str) -> Markup:
    """An image (H, W, C) uint8 as half of a pair."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "JPEG", quality=QUALITY)
    data = base64.b64encode(file.getvalue()).decode()
    style = "flex:1 1 0;min-width:0;max-width:50%;height:auto"
    return Markup('<img src="data:image/jpeg;base64,{}" alt="{}" style="{}">').format(data, text, style)
