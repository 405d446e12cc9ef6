"""Texts as networks get them: padded, cut and hidden; and what is told of it."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from stages.lib.errors import UserError
from stages.lib.modalities.text import inputs
from tests import texts
from tests.texts import LONG

CPU = torch.device("cpu")


@pytest.fixture
def how(tmp_path):
    return texts.how(tmp_path)


def test_a_batch_is_padded_to_its_longest(how):
    tokenizer = inputs.tokenizer_of(how)
    batch = inputs.batch_of(["a good film", "awful", "it was unlikely"], tokenizer, how)
    assert [each.dtype for each in batch] == [torch.int64, torch.bool, torch.int64]
    known = tokenizer.get_vocab()
    wanted = ["[CLS]", "awful", "[SEP]", "[PAD]", "[PAD]", "[PAD]", "[PAD]"]
    assert batch.pieces[1].tolist() == [known[piece] for piece in wanted] and known["[PAD]"] == 0
    assert batch.mask.tolist() == [[True] * 5 + [False] * 2, [True] * 3 + [False] * 4, [True] * 7]
    assert batch.starts.tolist() == [[1, 2, 3], [1, -1, -1], [1, 2, 3]]


def test_a_text_without_pieces_is_one_step_of_padding(how):
    """Without special tokens and of marks that the tokenizer leaves out."""
    none = how | {"special_tokens": False}
    batch = inputs.batch_of(["\u200b"], inputs.tokenizer_of(none), none)
    assert batch.pieces.tolist() == [[0]] and batch.mask.tolist() == [[True]] and batch.starts.tolist() == [[-1]]
    assert texts.bert()(batch).isfinite().all()


def test_loaded_batches_are_those_of_their_rows(how):
    split = texts.packed([*texts.SENTENCES, LONG])
    loaded = inputs.load(split, torch.arange(6), how, CPU)
    assert loaded.lengths.tolist() == [len(text.encode()) for text in [*texts.SENTENCES, LONG]]
    batch = loaded.inputs(torch.tensor([3, 5]), "none", None)
    expected = inputs.batch_of(["awful", LONG], inputs.tokenizer_of(how), how)
    assert all(found.equal(wanted) for found, wanted in zip(batch, expected, strict=True))
    assert batch.pieces.shape == (2, 16)


@pytest.mark.parametrize("most", [4, 24])
def test_the_probe_is_as_long_as_any_text(how, most):
    probe = inputs.probe(how | {"max_tokens": most}, CPU)
    assert probe.pieces.shape == probe.mask.shape == (1, most) and probe.mask.all()
    assert texts.bert()(probe).shape == (1, 2) and texts.bert(per="word")(probe).shape == (1, 1, 2)


def test_a_probe_that_is_too_long_for_the_network_is_told(how):
    with pytest.raises(ValueError, match="a text has 25 pieces, and this network has positions for 24"):
        texts.bert()(inputs.probe(how | {"max_tokens": 25}, CPU))


def test_a_folder_without_its_tokenizer_is_told(how, tmp_path):
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json .*dvc repro"):
        inputs.tokenizer_of(how)


def test_settings_of_a_tokenizer_file_are_not_used(tmp_path):
    """Files on the hub often cut at 128 pieces and pad to them."""
    tokenizer = texts.wordpiece()
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=12)
    how = texts.how(tmp_path, tokenizer)
    encoded = inputs.encode(inputs.tokenizer_of(how), [LONG, "awful"], how)
    assert [len(encoding) for encoding in encoded] == [16, 3]
    assert list(inputs.remarks(LONG, how).values()) == [2]


# The augmentation.


def hidden(batch, tokenizer, draws):
    return inputs.hidden(batch, tokenizer, torch.tensor(draws))


@pytest.mark.parametrize("kind", ["wordpiece", "byte level", "not declared"])
def test_what_is_hidden_is_a_tenth_of_the_pieces_and_never_special(tmp_path, kind):
    tokenizer = texts.byte_level() if kind == "byte level" else texts.wordpiece()
    if kind == "not declared":  # special in the template alone
        file = json.loads(tokenizer.to_str())
        file["added_tokens"] = []
        tokenizer = Tokenizer.from_str(json.dumps(file))
    how = texts.how(tmp_path, tokenizer)
    batch = inputs.batch_of([LONG, "awful", "a film [MASK]"] * 100, inputs.tokenizer_of(how), how)
    found = hidden(batch, tokenizer, np.random.default_rng(0).random(300).tolist())
    changed = found.pieces != batch.pieces
    token = tokenizer.token_to_id("<mask>" if kind == "byte level" else "[MASK]")
    assert set(found.pieces[changed].tolist()) == {token}
    special = torch.isin(batch.pieces, torch.tensor(tokenizer.encode("").ids))
    assert not changed[special].any() and not changed[~batch.mask].any()
    ordinary = batch.mask & ~special
    assert 0.08 < changed[ordinary].float().mean() < 0.12
    assert found.mask.equal(batch.mask) and found.starts.equal(batch.starts)


def test_what_is_hidden_depends_on_an_examples_own_draw_alone(how):
    tokenizer = inputs.tokenizer_of(how)
    sentences = [LONG, "awful", "it was a good film and a great plot", LONG]
    draws = [0.3, 0.5, 0.9, 0.300001]
    whole = hidden(inputs.batch_of(sentences, tokenizer, how), tokenizer, draws).pieces
    for row, (sentence, draw) in enumerate(zip(sentences, draws, strict=True)):
        alone = hidden(inputs.batch_of([sentence], tokenizer, how), tokenizer, [draw]).pieces[0]
        assert whole[row, : len(alone)].equal(alone) and not whole[row, len(alone) :].any()
    assert not whole[0].equal(whole[3]), "draws that are close hide other pieces"


def test_a_tokenizer_without_a_mask_hides_behind_the_unknown_or_not_at_all(tmp_path):
    for names, token in ((["[MASK]"], "[UNK]"), (["[MASK]", "[UNK]"], None)):
        file = json.loads(texts.wordpiece().to_str())
        file["added_tokens"] = [added for added in file["added_tokens"] if added["content"] not in names]
        for name in names:
            file["model"]["vocab"][f"x{name}"] = file["model"]["vocab"].pop(name)
        if token is None:
            file["model"]["unk_token"] = "the"
        tokenizer = Tokenizer.from_str(json.dumps(file))
        how = texts.how(tmp_path, tokenizer)
        batch = inputs.batch_of([LONG] * 20, tokenizer, how)
        found = hidden(batch, tokenizer, np.linspace(0, 0.9, 20).tolist())
        changed = found.pieces[found.pieces != batch.pieces].tolist()
        assert set(changed) == (set() if token is None else {tokenizer.token_to_id(token)})


# What is told.


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("most", [4, 10, 15, 16, 17, 18, 19])
def test_what_is_lost_of_a_text_is_counted(how, special, most):
    changed = how | {"max_tokens": most, "special_tokens": special}
    for text, num in [(LONG, 16), (f"{LONG} unlikely", 19), ("awful", 1), ("\u200b", 0)]:
        lost = num + 2 * special - most
        wanted = {f"are longer than {most} tokens (max_tokens), are cut there and lose {{:,.0f}} tokens together": lost}
        assert inputs.remarks(text, changed) == (wanted if lost > 0 else {})
        (encoding,) = inputs.encode(inputs.tokenizer_of(changed), [text], changed)
        assert len(encoding) == num + 2 * special - max(0, lost), "and it is what is lost"


def test_what_is_lost_depends_on_the_tokenizer_that_is_there_now(how, tmp_path):
    few = how | {"max_tokens": 20}
    assert inputs.remarks(LONG, few) == {}
    other = texts.how(tmp_path, texts.byte_level(), max_tokens=20, tokenizer_sha256="another")
    assert list(inputs.remarks(LONG, other).values()) == [len(texts.byte_level().encode(LONG)) - 20]
