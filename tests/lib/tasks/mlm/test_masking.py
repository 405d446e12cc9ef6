"""Which pieces are hidden: how many, behind what, and by which draws."""

import numpy as np
import pytest
import torch

from stages.lib.core import contracts
from stages.lib.errors import UserError
from stages.lib.modalities.text import inputs
from stages.lib.tasks.mlm.masking import masking
from tests import texts

CPU = torch.device("cpu")
MARKS = {0, 1, 2, 3, 4}  # [PAD], [UNK], [CLS], [SEP], [MASK]


def batch(tokenizer, sentences):
    return inputs.batch_of(sentences, tokenizer, {"special_tokens": True})


@pytest.fixture(scope="module")
def tokenizer():
    return texts.wordpiece()


def test_what_is_asked_for_is_what_stood_there_and_the_rest_stays(tokenizer):
    plain = batch(tokenizer, [texts.LONG, "awful", "", "The film was good."])
    masked = masking(tokenizer)(plain, torch.tensor([0.1, 0.2, 0.3, 0.4]))
    for row in range(4):
        places = masked.places[row][masked.places[row] >= 0]
        hidden = masked.hidden[row][masked.hidden[row] >= 0]
        assert len(places) == len(hidden) == [2, 1, 0, 1][row], "15 % of the pieces, at least one, if there is any"
        assert plain.pieces[row, places].equal(hidden) and not set(hidden.tolist()) & MARKS
        rest = torch.ones(plain.pieces.shape[1], dtype=torch.bool)
        rest[places] = False
        assert masked.pieces[row, rest].equal(plain.pieces[row, rest])
    assert masked.mask.equal(plain.mask)


def test_of_those_asked_for_80_percent_are_masked_10_are_random_and_10_stay(tokenizer):
    plain = batch(tokenizer, [texts.LONG] * 3000)
    masked = masking(tokenizer)(plain, torch.rand(3000, generator=torch.Generator().manual_seed(0)))
    shown = masked.pieces.gather(1, masked.places)
    behind_mask, stays = (shown == 4).float().mean(), (shown == masked.hidden).float().mean()
    assert behind_mask.item() == pytest.approx(0.8, abs=0.02)
    assert stays.item() == pytest.approx(0.1, abs=0.02)
    others = shown[(shown != 4) & (shown != masked.hidden)]
    assert len(set(others.tolist())) == 56 and not set(others.tolist()) & MARKS, "any piece of the vocabulary that is text"
    asked = np.bincount(masked.places.flatten(), minlength=plain.pieces.shape[1])[1:-1]
    assert asked.min() > 0.8 * asked.mean(), "each piece equally often"


def test_a_draw_alone_decides_and_without_draws_the_text_does(tokenizer):
    hide, sentences = masking(tokenizer), [texts.LONG, "The film was good and great.", texts.LONG]
    draws = torch.tensor([0.5, 0.25, 0.75])
    many = hide(batch(tokenizer, sentences), draws)
    alone = hide(batch(tokenizer, sentences[1:2]), draws[1:2])
    num = int(alone.mask.sum())
    assert many.pieces[1, :num].equal(alone.pieces[0]) and many.places[1, :1].equal(alone.places[0])
    assert not many.pieces[0].equal(many.pieces[2]), "another draw, another mask"
    fixed = hide(batch(tokenizer, sentences), None)
    assert fixed.pieces[0].equal(fixed.pieces[2])
    assert hide(batch(tokenizer, sentences[::-1]), None).pieces[1].equal(fixed.pieces[1])


def test_a_loaded_split_has_new_masks_by_its_draws_and_the_same_ones_without(tmp_path):
    split = texts.packed(texts.SENTENCES, ["O"] * len(texts.SENTENCES))
    loaded = contracts.load(split, "text", "mlm", [], texts.how(tmp_path), CPU)
    assert loaded.num_draws == 2 and not loaded.fixed
    rows = torch.arange(len(texts.SENTENCES))
    one, other = (torch.rand(len(rows), 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert loaded.inputs(rows, "none", one).pieces.equal(loaded.inputs(rows, "none", one).pieces)
    assert not loaded.inputs(rows, "none", one).pieces.equal(loaded.inputs(rows, "none", other).pieces)
    assert loaded.inputs(rows, "none", None).pieces.equal(loaded.inputs(rows, "none", None).pieces)
    chosen = torch.tensor([2, 0])
    subset = contracts.part(loaded, chosen).inputs(torch.tensor([0]), "none", None)
    assert subset.hidden.equal(loaded.inputs(chosen[:1], "none", None).hidden)


def test_a_tokenizer_without_a_mask_is_refused(tokenizer):
    from tokenizers import Tokenizer, models

    with pytest.raises(UserError, match="lacks"):
        masking(Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")))
    assert masking(texts.byte_level())
