"""Wrong preprocessings of texts: which are tried, and what they do."""

import numpy as np
import pytest
import torch

from stages.lib.advice.preprocessing import possible
from stages.lib.modalities.text import inputs
from stages.lib.modalities.text.variants import VARIANTS, as_on_card
from tests import texts
from tests.texts import LONG

CASED, SPLIT, SPECIAL, LONGER = VARIANTS
SHORT = ["The film was good", "a Very bad film", "It is great", "awful"]
MARKED = ["The film was good.", "It is great, and (very) dull!"]


def how(tmp_path, kind, **changes):
    tokenizer = texts.byte_level() if kind == "byte level" else texts.wordpiece(cased=kind == "cased")
    return texts.how(tmp_path, tokenizer, **changes)


def tried(preprocessing, sentences):
    return list(possible(VARIANTS, as_on_card, rows(sentences), preprocessing))


def rows(sentences):
    split = texts.packed(sentences)
    return split.rows(np.arange(len(split.keys)))


@pytest.mark.parametrize(
    ("kind", "sentences", "wanted"),
    [
        ("uncased", SHORT, [SPECIAL]),
        ("uncased", MARKED, [SPECIAL]),
        ("uncased", [*SHORT, LONG], [SPECIAL, LONGER]),
        ("uncased", ["the café and the cafe\u0301"], [SPECIAL]),
        ("byte level", ["a  film\n\nwas it"], [SPECIAL]),
        ("cased", SHORT, [CASED, SPECIAL]),
        ("cased", [text.lower() for text in SHORT], [SPECIAL]),
        ("cased", [*MARKED, LONG], [CASED, SPECIAL, LONGER]),
        ("byte level", SHORT, [CASED, SPECIAL]),
        ("byte level", [text.lower() for text in MARKED], [SPLIT, SPECIAL]),
        ("byte level", ["was it?!"], [SPLIT, SPECIAL]),
    ],
)
def test_only_what_gives_the_network_other_numbers_is_tried(tmp_path, kind, sentences, wanted):
    """Not what differs in the places of words alone: the advisor looks at one vector for each text."""
    assert sorted(tried(how(tmp_path, kind, max_tokens=16), sentences)) == sorted(wanted)


def test_without_special_tokens_the_variant_has_them(tmp_path):
    card = how(tmp_path, "uncased", special_tokens=False)
    known = inputs.tokenizer_of(card).get_vocab()
    batch = VARIANTS[SPECIAL].prepare(rows(["awful"]), card)
    assert batch.pieces.tolist() == [[known["[CLS]"], known["awful"], known["[SEP]"]]]
    assert as_on_card(rows(["awful"]), card).pieces.tolist() == [[known["awful"]]]


@pytest.mark.parametrize("kind", ["uncased", "cased", "byte level"])
def test_each_gives_a_batch_of_its_own_that_the_network_takes(tmp_path, kind):
    card = how(tmp_path, kind, max_tokens=10)
    backbone = texts.bert(config=texts.CONFIG | {"vocab_size": 400}).backbone
    with torch.no_grad():
        for variant in VARIANTS.values():
            batch = variant.prepare(rows([*SHORT, *MARKED, LONG]), card)
            assert isinstance(batch, inputs.Texts) and batch.mask.any(1).all()
            assert backbone(batch).shape == (7, 16) and backbone(batch).isfinite().all() and variant.remedy
    assert [variant.family for variant in VARIANTS.values()] == ["tokenizer", "tokenizer", "", ""]
    assert card["max_tokens"] == 10


def test_lower_case_and_punctuation_give_the_pieces_that_such_a_tokenizer_gives(tmp_path):
    card = how(tmp_path, "cased")
    lower = VARIANTS[CASED].prepare(rows(MARKED), card)
    assert torch.equal(lower.pieces, as_on_card(rows([text.lower() for text in MARKED]), card).pieces)
    level = how(tmp_path / "level", "byte level", max_tokens=40)
    split = VARIANTS[SPLIT].prepare(rows(["(a good. film)!! x ."]), level)
    assert torch.equal(split.pieces, as_on_card(rows(["( a good . film ) ! ! x ."]), level).pieces)


def test_twice_as_long_is_twice_as_long(tmp_path):
    card = how(tmp_path, "uncased", max_tokens=6)
    assert as_on_card(rows([LONG]), card).pieces.shape == (1, 6)
    assert VARIANTS[LONGER].prepare(rows([LONG]), card).pieces.shape == (1, 12)
