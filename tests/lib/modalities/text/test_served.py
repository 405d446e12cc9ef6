"""Cells of the served model: text, or a file's bytes."""

import json

import numpy as np
import pytest

from stages.lib.modalities.text import served


@pytest.mark.parametrize(
    "cell", [" A film.\n", b"A film.", bytearray(b"\xef\xbb\xbfA film."), memoryview(b"A film.\r\n"), np.str_("A film.")]
)  # fmt: skip
def test_a_cell_is_text_or_a_file(cell):
    assert served.receive(cell) == "A film."


@pytest.mark.parametrize(
    ("cell", "error", "said"),
    [
        ("", ValueError, "it is empty"),
        (" \n", ValueError, "it is empty"),
        (b"caf\xe9", ValueError, "byte 4 is not UTF-8"),
        ("\ud800", ValueError, "surrogates"),
        ("a\0", ValueError, "zero bytes"),
        (None, TypeError, "NoneType was given"),
        (float("nan"), TypeError, "float was given"),
        (5, TypeError, "int was given"),
        (["a"], TypeError, "list was given"),
    ],
)
def test_anything_else_is_none(cell, error, said):
    with pytest.raises(error, match=said):
        served.receive(cell)


def test_the_example_is_a_text_that_survives_json():
    cell = json.loads(json.dumps(served.example({})))
    assert served.receive(cell) == cell
