"""Sequences as the served model takes them."""

from typing import Any

import numpy as np
from stages.lib.modalities.sequence import inputs

COLUMN = "sequence"
ALLOWED = "text with numbers and spaces between them"


def receive(value: Any) -> np.ndarray:
    """Decode one cell."""
    return inputs.decode(value if isinstance(value, bytes) else str(value).encode())


def example(preprocessing: dict[str, Any]) -> str:
    """A cell that shows how the model is called."""
    return "0.5 1.5"
