"""Sequences in a text file: a line for each, with its key, its label and its numbers."""

from functools import partial
from pathlib import Path

from stages.lib.core.contracts import Example
from stages.lib.params.fields import Strict


class Params(Strict):
    """None."""


def read(raw: Path) -> list[Example]:
    """List the lines."""
    examples = []
    for line in raw.read_text().splitlines():
        key, label, numbers = line.split(" ", 2)
        examples.append(Example(key, label, "", "", partial(numbers.encode)))
    return sorted(examples, key=lambda example: example.key)
