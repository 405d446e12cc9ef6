"""Images as the served model receives them: one cell of its input table."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from stages.lib.modalities.image import inputs

COLUMN = "image"
ALLOWED = ("the bytes of an image file (JPEG, PNG, ...), the same as base64 text, or whole numbers from 0 to 255 of shape "
           "(H, W, 3), (H, W, 1) or (H, W)")  # fmt: skip


def receive(value: Any) -> Image.Image:
    """Decode one cell.

    Args:
        value: bytes, base64 text, or whole numbers from 0 to 255 as an array or nested lists, (H, W, 3), (H, W, 1) or (H, W).

    Raises:
        Exception: of any kind, if it is not an image.
    """
    if isinstance(value, str):
        value = base64.b64decode("".join(value.split()), validate=True)  # some encoders break lines
    if isinstance(value, bytes | bytearray | memoryview):
        return inputs.decode(bytes(value))
    pixels = np.asarray(value)
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not shaped or pixels.size == 0 or pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(f"{type(value).__name__} of shape {pixels.shape} and type {pixels.dtype}")
    return inputs.decode(Image.fromarray(pixels.astype(np.uint8)))


def example(preprocessing: dict[str, Any]) -> str:
    """A JSON-serialisable cell, to show how to call the model."""
    file = io.BytesIO()
    Image.new("L", (preprocessing["px"], preprocessing["px"]), 128).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
