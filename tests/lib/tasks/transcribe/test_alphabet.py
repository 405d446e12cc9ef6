"""Texts and their indices."""

import numpy as np

from stages.lib.tasks.transcribe import alphabet
from stages.lib.tasks.transcribe.alphabet import OUTSIDE

NAMES = ["", " ", "a", "b", "é"]


def test_a_text_has_single_spaces_and_composed_characters_and_keeps_its_case_and_punctuation():
    assert alphabet.normalised(" Don't\t e\u0301at\u00a0\n it! ") == "Don't éat it!"
    assert alphabet.normalised(" \n") == ""
    assert alphabet.normalised("ﬁ ½") == "ﬁ ½", "NFC, not NFKC: no character is replaced by another"


def test_the_blank_is_first_then_the_space_even_where_no_text_has_one():
    assert alphabet.alphabet(["ba", "e\u0301"]) == NAMES
    assert alphabet.alphabet(["b a", "É!A"]) == ["", " ", "!", "A", "a", "b", "É"]
    assert alphabet.alphabet([]) == ["", " "]


def test_every_text_comes_back_from_its_indices_whatever_the_alphabet():
    texts = ["ab ba", "", "x😀 b", "\U0010ffffa", "e\u0301"]
    for names in (NAMES, ["", " "], alphabet.alphabet(texts)):
        rows = alphabet.encoded(texts, names)
        assert alphabet.written(rows, names) == ["ab ba", "", "x😀 b", "\U0010ffffa", "é"]
        assert all(0 not in row for row in rows), "no character is the blank"
    assert alphabet.encoded(["xa"], NAMES) == [[OUTSIDE - ord("x"), 2]]


def test_rows_come_back_from_a_padded_array_whatever_pads_it():
    rows = alphabet.encoded(["ab", "", "xé \U0010ffff"], NAMES)
    for fill in (-1, -100, 0):
        for kind in (np.int64, np.float32):
            array = alphabet.padded(rows, fill).astype(kind)
            assert array.shape == (3, 4) and (array[1] == fill).all()
            assert alphabet.unpadded(array) == rows
    assert alphabet.padded([], -1).shape == (0, 0) and alphabet.padded([[]], -1).shape == (1, 0)
