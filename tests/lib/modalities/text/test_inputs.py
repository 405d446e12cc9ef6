"""Which texts are read, and where their words begin in pieces."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from stages.lib.modalities.text import inputs
from tests import texts
from tests.texts import LONG


@pytest.fixture
def how(tmp_path):
    return texts.how(tmp_path)


def begins(tokenizer, text, most=None, special=True):
    """Which pieces begin the words of a text."""
    if most:
        tokenizer.enable_truncation(most)
    (encoding,) = inputs.encode(tokenizer, [text], {"special_tokens": special})
    return [None if start < 0 else encoding.tokens[start] for start in inputs.starts(encoding, text)]


# From files to texts.


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (b"\xef\xbb\xbf  A film.\r\n", "A film."),
        ("\ufeffA film.\n", "A film."),
        (b"one\r\ntwo\n\n three", "one\r\ntwo\n\n three"),
        ("Füße 漢字 🙂".encode(), "Füße 漢字 🙂"),
        (memoryview(b" a "), "a"),
        ("\u200b", "\u200b"),
    ],
)
def test_texts_are_utf_8_without_what_surrounds_them(given, text):
    assert inputs.decode(given) == text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"", "it is empty"),
        (" \t\r\n\u00a0\u2003", "it is empty"),
        (b"\xef\xbb\xbf\n", "it is empty"),
        (b"a\0b", "zero bytes"),
        ("ü".encode("utf-16"), "utf-16.*iconv -f utf-16 -t utf-8"),
        ("ü".encode("utf-16-be"), "utf-8|zero bytes"),
        ("film".encode("utf-16-le"), "zero bytes"),
        ("a caf\u00e9".encode("latin1"), "byte 6 is not UTF-8 .*latin1.*iconv -f latin1 -t utf-8"),
        (b"ab\xff", "byte 3 is not UTF-8"),
        ("half of a pair: \ud83d", "surrogate"),
    ],
)
def test_what_is_no_text_is_said_to_be_none(given, said):
    with pytest.raises(ValueError, match=said):
        inputs.decode(given)


def test_texts_that_differ_in_case_or_white_space_alone_are_the_same():
    same = ["A good film", "a  GOOD\r\nfilm", "a\u00a0good film"]
    assert len({inputs.digest(inputs.decode(text)) for text in same}) == 1
    assert len({inputs.digest(text) for text in ["a good film", "a good film.", "agood film", "a film good"]}) == 4


def test_packed_texts_come_back(how):
    split = texts.packed(["Füße 🙂", "a", "漢字"])
    assert split.inputs.dtype == np.uint8 and inputs.texts(split.rows(np.array([2, 0]))) == ["漢字", "Füße 🙂"]


# Words and their pieces.


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("The film was good.", ["the", "film", "was", "good"]),
        ("unlikely film", ["un", "film"]),
        ("film-like (awful)", ["film", "("]),
        ("café cafe\u0301 good", ["cafe", "cafe", "good"]),
        ("🙂 film 漢字 good", ["[UNK]", "film", "[UNK]", "good"]),
        ("good\u200b bad", ["good", "bad"]),
        ("\u200b bad \u200b\u200b good", [None, "bad", None, "good"]),
        ("bad \x07", ["bad", None]),
        ("\u2028 x" * 2, ["x", "x"]),
        ("İ good", ["i", "good"]),
        ("a\u00a0film\u3000was\tit\u2003bad", ["a", "film", "was", "it", "bad"]),
        ("good\x1cbad film", ["[UNK]", "[UNK]", "film"]),  # BERT joins what this white space divides
        ("[SEP] film [MASK]", ["[SEP]", "film", "[MASK]"]),
        ("[CLS]good", ["[CLS]"]),
    ],
)
@pytest.mark.parametrize("special", [True, False])
def test_first_pieces_of_words_of_a_bert(text, first, special):
    assert begins(texts.wordpiece(), text, special=special) == first
    assert len(first) == len(text.split()), "words are what stands between white space, as labels of words are split"


@pytest.mark.parametrize("trim", [True, False])
@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("The film was good.", ["The", "Ġfilm", "Ġwas", "Ġgood"]),
        ("a  film\na \t film", ["a", "Ġfilm", "a", "Ġfilm"]),
        ("🙂 film 漢字", ["ð", "Ġfilm", "æ"]),
        ("\u200b film", ["â", "Ġfilm"]),
        ("a<mask> <mask>", ["a", "<mask>"]),
    ],
)
def test_first_pieces_of_words_of_a_roberta(text, first, trim):
    """The piece that ends in a word, though it may begin with the space before it."""
    assert begins(texts.byte_level(trim_offsets=trim), text) == first


def test_words_are_found_though_spaces_are_pieces():
    tokenizer = texts.byte_level()
    text = "a   good \n film"
    (encoding,) = inputs.encode(tokenizer, [text], {"special_tokens": True})
    places = [encoding.offsets[start] for start in inputs.starts(encoding, text)]
    assert [text[begin:end].strip()[0] for begin, end in places] == ["a", "g", "f"]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("a good film", ["▁a", "▁good", "▁film"]),
        ("films  \n a", ["▁film", "▁a"]),
        ("\u00a0a good", ["▁a", "▁good"]),
        ("a 漢 good", ["▁a", "▁", "▁good"]),  # as transformers' word_ids say
    ],
)
def test_first_pieces_of_words_of_an_xlm_roberta(text, first):
    pieces = ["<s>", "<unk>", "</s>", "▁", "▁a", "▁good", "▁film", "s"]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(number)) for number, piece in enumerate(pieces)], 1))
    steps = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    assert begins(tokenizer, text) == first


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("most", [4, 7, 16, 17, 40])
def test_words_that_are_cut_off_have_no_piece(how, most, special):
    tokenizer = inputs.tokenizer_of(how | {"max_tokens": most})
    (encoding,) = inputs.encode(tokenizer, [LONG], {"special_tokens": special})
    num = len(LONG.split())
    kept = min(num, most - 2 * special)
    assert len(encoding) == kept + 2 * special
    assert inputs.starts(encoding, LONG) == [*range(int(special), kept + int(special)), *[-1] * (num - kept)]


def test_a_word_of_which_a_part_is_left_is_not_cut_off(how):
    tokenizer = inputs.tokenizer_of(how | {"max_tokens": 4})
    (encoding,) = inputs.encode(tokenizer, ["film unlikely good"], how)
    assert encoding.tokens == ["[CLS]", "film", "un", "[SEP]"] and inputs.starts(encoding, "film unlikely good") == [1, 2, -1]
