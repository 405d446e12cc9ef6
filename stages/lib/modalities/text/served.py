"""Texts as the served model receives them: one cell of its input table."""

from typing import Any

from stages.lib.modalities.text import inputs

COLUMN = "text"
TEXT = True  # a cell may be text itself
ALLOWED = "text, or the bytes of a text file in UTF-8"


def receive(value: Any) -> str:
    """Decode one cell: text, or the bytes of a file.

    Raises:
        Exception: of any kind, if it is neither.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return inputs.decode(bytes(value))
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} was given")
    return inputs.decode(value)


def example(preprocessing: dict[str, Any]) -> str:
    """A cell, to show how to call the model."""
    return "One sentence, or several."
