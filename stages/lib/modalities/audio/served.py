"""Recordings as the served model receives them: one cell of its input table."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.lib.modalities.audio import inputs
from stages.lib.modalities.audio.files import FULL, Recording, wav

COLUMN = "audio"
ALLOWED = ('the bytes of an audio file (WAV, FLAC, OGG, MP3, AIFF), the same as base64 text, or '
           '{"samples": numbers from -1 to 1, "rate": samples per second}')  # fmt: skip


def receive(value: Any) -> Recording:
    """Decode one cell.

    Args:
        value: bytes; base64 text; or a mapping with `samples` of shape (S,) or (S, channels), numbers from -1 to 1 or 16-bit
            whole numbers, and their `rate` in Hz.

    Raises:
        Exception: of any kind, if it is not a recording.
    """
    if isinstance(value, str):
        value = base64.b64decode("".join(value.split()), validate=True)  # some encoders break lines
    if isinstance(value, bytes | bytearray | memoryview):
        return inputs.decode(bytes(value))
    if isinstance(value, Mapping) and set(value) == {"samples", "rate"}:
        return inputs.decode((value["samples"], int(value["rate"])))
    raise ValueError(f"{type(value).__name__} without a sample rate")


def example(preprocessing: dict[str, Any]) -> str:
    """A JSON-serialisable cell, to show how to call the model: a quarter of a second of 440 Hz as a WAV file."""
    rate = preprocessing["sample_rate"]
    tone = 0.3 * np.sin(2 * np.pi * 440 / rate * np.arange(rate // 4))
    return base64.b64encode(wav((tone * FULL).astype(np.int16), rate)).decode()
