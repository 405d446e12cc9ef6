"""Recordings in a page: a player for each, which holds its samples, and a picture of what it sounds like."""

import base64
import io
from collections.abc import Sequence

import numpy as np
import torch
from markupsafe import Markup
from PIL import Image

from stages.lib.modalities.audio.features import HOP, mel_filters, power, whisper_scaled
from stages.lib.modalities.audio.files import FULL, wav

BUDGET = 3_000_000  # bytes of all players of a page
SECONDS = (10, 5, 3, 2, 1)  # the beginnings that players may be limited to
WIDEST, STRIP = 600, 8  # pixels: most columns of a picture, and height of the strip below it
PALE, AMBER = np.array([240, 240, 240]), np.array([230, 159, 0])  # colours of the strip


def beginning(recordings: Sequence[np.ndarray], rate: int) -> int:
    """How many seconds of each recording a page has room for."""
    for seconds in SECONDS:
        samples = sum(min(len(each), seconds * rate) for each in recordings)
        if samples * 2 * 4 / 3 <= BUDGET:  # 16 bits each, as base64
            break
    return seconds


def player(samples: np.ndarray, rate: int, seconds: int, width: str) -> Markup:
    """A player of the first `seconds` of a recording, and how long it is.

    Args:
        samples: (S,) int16.
        width: in units of CSS.
    """
    data = base64.b64encode(wav(samples[: seconds * rate], rate)).decode()
    length = len(samples) / rate
    told = f"{length:.1f} s" if length <= seconds else f"the first {seconds} of {length:.1f} s"
    return Markup(
        '<audio controls preload="metadata" style="width:{};max-width:75%;height:2rem;vertical-align:middle" '
        'src="data:audio/wav;base64,{}"></audio> <span class="small">{}</span>'
    ).format(width, data, told)


def picture(samples: np.ndarray, rate: int, strip: np.ndarray | None) -> Markup:
    """The spectrogram in mels (low tones at the bottom, loud is dark), and below it a strip.

    Args:
        samples: (S,) int16.
        strip: numbers from 0 to 1 over the length of the recording (1 is the darkest), or None.
    """
    waves = torch.from_numpy(samples.astype(np.float32) / FULL)[None]
    lengths = torch.tensor([len(samples)])
    mels = whisper_scaled(power(waves, lengths, mel_filters(rate, 80)), lengths // HOP)[0].numpy()
    mels = mels[::-1, :: max(1, -(-mels.shape[1] // WIDEST))]
    grey = 1 - (mels - mels.min()) / max(1e-6, float(np.ptp(mels)))
    pixels = np.repeat((255 * grey)[:, :, None], 3, axis=2)
    if strip is not None:
        places = (np.arange(pixels.shape[1]) * len(strip) / pixels.shape[1]).astype(int)
        shade = PALE + strip[places][:, None] * (AMBER - PALE)
        pixels = np.concatenate([pixels, np.full((3, *pixels.shape[1:]), 255), np.repeat(shade[None], STRIP, axis=0)])
    file = io.BytesIO()
    Image.fromarray(pixels.round().astype(np.uint8)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return Markup(
        '<img src="data:image/png;base64,{}" alt="spectrogram" style="width:100%;height:5.5rem;margin:.3rem 0">'
    ).format(data)
