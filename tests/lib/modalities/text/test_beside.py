"""The tokenizer of a source: which one is kept, and which is refused."""

import hashlib
import io
import json

import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import BertTokenizer

from stages.lib.errors import UserError
from stages.lib.modalities.text import beside
from tests import texts

ARCHITECTURE = {"library": "transformers", "model": "bert", "config": texts.CONFIG}
STRANGE = ["The Film was GOOD, unlikely!", "café Café CAFÉ cafe\u0301", "漢字 film漢字", "a\u200bb\tc\x07",
           "un-like(d) <it>'s &amp;", "[MASK] is [SEP] good", "İ ß ﬁ ①", "🙂 good🙂", "  very   good  ",
           "iiiiiii x" + "x" * 150]  # fmt: skip


def content_of(tokenizer):
    return tokenizer.to_str().encode()


def keep(files, architecture=ARCHITECTURE, **changes):
    return beside.keep(texts.HOW | changes, files, architecture)


def mistake(files, architecture=ARCHITECTURE, **changes):
    with pytest.raises(UserError) as error:
        keep(files, architecture, **changes)
    return str(error.value)


def vocabulary(cased, end="\n"):
    return (end.join(texts.pieces(cased=cased)) + end).encode()


def test_the_tokenizer_beside_the_weights_is_kept_as_it_is():
    content = content_of(texts.wordpiece())
    how, files = keep({"tokenizer.json": content, "vocab.txt": b"not read", "config.json": b"{}"})
    assert files == {"tokenizer.json": content}
    assert how == texts.HOW | {"tokenizer_sha256": hashlib.sha256(content).hexdigest()}


def test_a_hash_that_is_given_is_that_of_the_tokenizer_beside_the_weights():
    content = content_of(texts.wordpiece())
    digest = hashlib.sha256(content).hexdigest()
    assert keep({"tokenizer.json": content}, tokenizer_sha256=digest)[0]["tokenizer_sha256"] == digest
    said = mistake({"tokenizer.json": content}, tokenizer_sha256="0" * 64)
    assert "preprocessing.tokenizer_sha256" in said and digest in said and "0" * 64 in said


@pytest.mark.parametrize("name", ["own.json", "vocab.txt"])
def test_a_file_of_ones_own_is_pinned_by_its_hash(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(vocabulary(cased=False) if name == "vocab.txt" else content_of(texts.wordpiece()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    how, files = keep({}, tokenizer=str(path), tokenizer_sha256=digest)
    assert Tokenizer.from_str(files["tokenizer.json"].decode()).encode("a good film").tokens[1:-1] == ["a", "good", "film"]
    assert how["tokenizer_sha256"] == hashlib.sha256(files["tokenizer.json"]).hexdigest() and how["tokenizer"] == str(path)
    assert "says nothing. If the file is right, copy its sha256" in mistake({}, tokenizer=str(path))
    path.write_bytes(path.read_bytes() + b"\n")
    assert f"{path} has" in mistake({}, tokenizer=str(path), tokenizer_sha256=digest)
    assert "there is no file" in mistake({}, tokenizer=str(tmp_path / "none"), tokenizer_sha256=digest)


def test_without_any_tokenizer_the_files_there_are_named():
    assert "files there: config.json." in mistake({"config.json": b"{}"})
    assert "files there: none" in mistake({})


# From the vocabulary of an older BERT.


@pytest.mark.parametrize("cased", [False, True], ids=["uncased", "cased"])
@pytest.mark.parametrize("settings", [True, False], ids=["with settings", "without"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_a_vocabulary_cuts_texts_as_the_tokenizer_of_transformers(tmp_path, cased, settings, end):
    files = {"vocab.txt": vocabulary(cased, end)}
    if settings:
        files["tokenizer_config.json"] = json.dumps({"do_lower_case": not cased}).encode()
    _, kept = keep(files)
    found = Tokenizer.from_str(kept["tokenizer.json"].decode())
    known = {piece: number for number, piece in enumerate(texts.pieces(cased=cased))}
    reference = BertTokenizer(vocab=known, do_lower_case=not cased)
    for text in [*STRANGE, *texts.SENTENCES]:
        assert found.encode(text).ids == reference(text).input_ids, text


@pytest.mark.parametrize("settings", [{"do_lower_case": False, "strip_accents": True}, {"tokenize_chinese_chars": False}])
def test_its_settings_are_followed(settings):
    _, kept = keep({"vocab.txt": vocabulary(cased=True), "tokenizer_config.json": json.dumps(settings).encode()})
    found = Tokenizer.from_str(kept["tokenizer.json"].decode())
    known = {piece: number for number, piece in enumerate(texts.pieces(cased=True))}
    reference = BertTokenizer(vocab=known, **{"do_lower_case": True} | settings)
    for text in STRANGE:
        assert found.encode(text).ids == reference(text).input_ids, text


def test_a_vocabulary_has_a_piece_in_each_line_whatever_the_piece():
    """Other line separators than \\n are pieces of multilingual models."""
    strange = ["\u2028", "\x85", "\x1c", "\x0b"]
    _, kept = keep({"vocab.txt": "\n".join([*texts.SPECIAL, *strange, "film"]).encode()})
    assert Tokenizer.from_str(kept["tokenizer.json"].decode()).token_to_id("film") == 9


@pytest.mark.parametrize(
    "content", [b"<s>\n<pad>\n</s>\nfilm\n", b"", b"\xff\xfe[\x00U\x00", b"a\nb\n"], ids=["roberta", "empty", "utf-16", "words"]
)
def test_what_is_no_vocabulary_of_a_bert_is_told(content):
    said = mistake({"vocab.txt": content})
    assert "vocab.txt" in said and "tokenizer.json" in said


@pytest.mark.parametrize("content", [b"no json", b"[1]", b"\xff"])
def test_settings_that_cannot_be_read_are_told(content):
    assert "tokenizer_config.json" in mistake({"vocab.txt": vocabulary(cased=False), "tokenizer_config.json": content})


# Whether it is that of the weights.


def test_a_tokenizer_with_more_pieces_than_the_weights_know_is_refused():
    content = content_of(texts.wordpiece())
    fits = ARCHITECTURE | {"config": texts.CONFIG | {"vocab_size": len(texts.pieces())}}
    assert keep({"tokenizer.json": content}, fits)[1]
    small = ARCHITECTURE | {"config": texts.CONFIG | {"vocab_size": len(texts.pieces()) - 1}}
    said = mistake({"tokenizer.json": content}, small)
    assert f"has {len(texts.pieces())} pieces, and the weights know {len(texts.pieces()) - 1}" in said


def test_numbers_of_pieces_count_though_some_are_left_out():
    """Not how many pieces there are: the network looks each number up."""
    known = {piece: 3 * number for number, piece in enumerate(texts.pieces())}
    sparse = json.loads(texts.wordpiece().to_str())
    sparse["model"]["vocab"] = known
    for added in sparse["added_tokens"]:
        added["id"] = known[added["content"]]
    said = mistake({"tokenizer.json": json.dumps(sparse).encode()})
    assert f"{max(known.values()) + 1} pieces" in said and f"know {texts.CONFIG['vocab_size']}" in said


def test_pieces_that_were_added_count_too():
    tokenizer = texts.wordpiece()
    tokenizer.add_tokens([AddedToken(f"<extra-{number}>") for number in range(texts.CONFIG["vocab_size"])])
    assert "it is not the tokenizer" in mistake({"tokenizer.json": content_of(tokenizer)})


def test_the_default_of_a_configuration_counts():
    """A config holds what differs from the defaults: 30,522 pieces for a BERT."""
    whole = ARCHITECTURE | {"config": {key: value for key, value in texts.CONFIG.items() if key != "vocab_size"}}
    assert keep({"tokenizer.json": content_of(texts.wordpiece())}, whole)[1]
    unknown = {"library": "mine", "model": "lstm"}
    assert keep({"tokenizer.json": content_of(texts.wordpiece())}, unknown)[1], "nothing is known of its pieces"


@pytest.mark.parametrize("content", [b"", b"{}", b"no json", b"\xff\xfe", io.BytesIO(b"PK").getvalue()])
def test_what_is_no_tokenizer_is_told(content):
    assert "preprocessing.tokenizer: tokenizer.json cannot be read" in mistake({"tokenizer.json": content})
