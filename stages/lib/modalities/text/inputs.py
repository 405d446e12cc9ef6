"""Texts: from files to packed bytes (once), and from packed bytes to pieces (in every step)."""

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer

from stages.lib.core.cards import AGAIN
from stages.lib.core.contracts import LoadedSplit
from stages.lib.core.datasets import PackedSplit
from stages.lib.errors import UserError

DROPPED = 0.1  # fraction of the pieces that the augmentation "light" hides
WORD = re.compile(r"\S+")


class Texts(NamedTuple):
    """What the network takes: texts as pieces, padded to the longest."""

    pieces: torch.Tensor  # (n, T) int64
    mask: torch.Tensor  # (n, T) bool: what is no padding
    starts: torch.Tensor  # (n, W) int64: the first piece of each word; -1 for words that were cut off, and for padding


def decode(source: bytes | str) -> str:
    """The text of a file, or a text itself; without the marks at its beginning and the white space at both ends.

    Raises:
        ValueError: it is not UTF-8, or empty.
    """
    text = source if isinstance(source, str) else _utf_8(bytes(source))
    text = text.removeprefix("\ufeff").strip()
    if not text:
        raise ValueError("it is empty")
    if "\0" in text:
        raise ValueError("it holds zero bytes, so it is no text")
    text.encode()  # may raise an error: a half of a pair of surrogates, as JSON can hold, is none either
    return text


def digest(text: str) -> str:
    """SHA-256 of the words in lower case: equal for texts that differ in white space, line endings or case alone."""
    return hashlib.sha256(" ".join(text.casefold().split()).encode()).hexdigest()


def packing(max_tokens: int, preprocessing: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `pack`."""
    return {"max_tokens": max_tokens}


def mismatch(packing: dict[str, Any], preprocessing: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Nothing about packed texts depends on the weights: every model cuts them into its own pieces."""
    return {}


def pack(text: str, *, max_tokens: int) -> np.ndarray:
    """The text as UTF-8, (bytes,) uint8; all of it, because how much fits into `max_tokens` depends on the tokenizer."""
    return np.frombuffer(text.encode(), np.uint8)


def texts(rows: Any) -> list[str]:
    """Packed texts as text again."""
    return [bytes(row).decode() for row in rows]


def remarks(text: str, preprocessing: dict[str, Any]) -> dict[str, float]:
    """Whether the end of a text is cut off, and how many tokens of it are lost.

    Args:
        preprocessing: of the source's card, with the dataset's packing.
    """
    most = preprocessing["max_tokens"]
    (encoding,) = encode(whole(preprocessing["folder"], preprocessing["tokenizer_sha256"]), [text], preprocessing)
    lost = len(encoding) - most
    return (
        {f"are longer than {most} tokens (max_tokens), are cut there and lose {{:,.0f}} tokens together": lost}
        if lost > 0
        else {}
    )


@cache
def whole(folder: str, sha256: str) -> Tokenizer:
    """The tokenizer of a model, without any limit; read once for all texts."""
    return tokenizer_of({"folder": folder, "max_tokens": None})


def load(split: PackedSplit, targets: torch.Tensor, preprocessing: dict[str, Any], device: torch.device) -> LoadedSplit:
    """Load packed texts for training and evaluation, cut into pieces by the tokenizer of `preprocessing` (of a model's card)."""
    tokenizer = tokenizer_of(preprocessing)

    def inputs(indices: torch.Tensor, level: str, draws: torch.Tensor | None) -> Texts:
        batch = batch_of(texts(split.rows(indices.numpy())), tokenizer, preprocessing)
        if level == "light":
            assert draws is not None
            batch = hidden(batch, tokenizer, draws[:, 0])
        return Texts(*(each.to(device) for each in batch))

    assert split.offsets is not None, "texts are ragged"
    # The number of bytes says well enough which texts have about as many pieces.
    return LoadedSplit(inputs, targets.to(device), num_draws=1, lengths=torch.from_numpy(np.diff(split.offsets)))


def probe(preprocessing: dict[str, Any], device: torch.device) -> Texts:
    """One text as long as any may be, to test whether a network takes it."""
    most = preprocessing["max_tokens"]
    pieces = torch.zeros(1, most, dtype=torch.int64, device=device)
    return Texts(pieces, torch.ones(1, most, dtype=torch.bool, device=device), torch.ones_like(pieces[:, :1]))


def tokenizer_of(preprocessing: dict[str, Any]) -> Tokenizer:
    """The tokenizer of a model, which cuts texts at max_tokens (None: not at all)."""
    path = Path(preprocessing["folder"]) / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{path} is missing. {AGAIN}")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if preprocessing["max_tokens"] is not None:
        tokenizer.enable_truncation(preprocessing["max_tokens"])
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str], preprocessing: dict[str, Any]) -> list[Encoding]:
    """The pieces of each text."""
    encoded: list[Encoding] = tokenizer.encode_batch(texts, add_special_tokens=preprocessing["special_tokens"])
    return encoded


def batch_of(texts: list[str], tokenizer: Tokenizer, preprocessing: dict[str, Any]) -> Texts:
    """Texts as one padded batch."""
    encoded = encode(tokenizer, texts, preprocessing)
    found = [starts(encoding, text) for encoding, text in zip(encoded, texts, strict=True)]
    longest = max(1, *(len(encoding) for encoding in encoded))  # an unknown script may leave nothing
    pieces = np.zeros((len(texts), longest), np.int64)
    mask = np.zeros((len(texts), longest), bool)
    first = np.full((len(texts), max(map(len, found))), -1, np.int64)
    for row, (encoding, begins) in enumerate(zip(encoded, found, strict=True)):
        pieces[row, : len(encoding)] = encoding.ids
        mask[row, : max(1, len(encoding))] = True
        first[row, : len(begins)] = begins
    return Texts(*map(torch.from_numpy, (pieces, mask, first)))


def starts(encoding: Encoding, text: str) -> list[int]:
    """For each word (what stands between white space) its first piece, or -1 if it was cut off or has none.

    A piece belongs to the word in which it ends: some tokenizers (GPT-2's, RoBERTa's) put the space before a word into its first
    piece.
    """
    spans = encoding.offsets
    special = encoding.special_tokens_mask
    found, piece = [], 0
    for word in WORD.finditer(text):
        while piece < len(spans) and (special[piece] or spans[piece][1] <= word.start()):
            piece += 1
        found.append(piece if piece < len(spans) and spans[piece][0] < word.end() else -1)
    return found


def hidden(batch: Texts, tokenizer: Tokenizer, draws: torch.Tensor) -> Texts:
    """Hide some pieces of each text behind the tokenizer's mask (or unknown) token; special tokens stay.

    Args:
        draws: (n,) in [0, 1); which pieces of a text are hidden depends on its own draw alone.

    Reference:
        Iyyer et al., Deep Unordered Composition Rivals Syntactic Methods for Text Classification (word dropout), ACL 2015.
    """
    token = next(
        (number for name in ("[MASK]", "<mask>", "[UNK]", "<unk>") if (number := tokenizer.token_to_id(name)) is not None), None
    )
    if token is None:
        return batch
    chances = torch.ones(batch.pieces.shape)
    for row, draw in enumerate(draws.tolist()):
        num = int(batch.mask[row].sum())
        chances[row, :num] = torch.from_numpy(np.random.default_rng(int(draw * 2**32)).random(num, np.float32))
    covered = (chances < DROPPED) & ~torch.isin(batch.pieces, torch.tensor(special(tokenizer), dtype=torch.int64))
    return batch._replace(pieces=batch.pieces.masked_fill(covered, token))


def special(tokenizer: Tokenizer) -> list[int]:
    """The pieces that stand for no text: [CLS], [SEP], [PAD], ..."""
    said = [number for number, added in tokenizer.get_added_tokens_decoder().items() if added.special]
    return sorted({*said, *tokenizer.encode("").ids})  # some files do not say which are special


def _utf_8(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        looks = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin1"
        raise ValueError(
            f"byte {error.start + 1} is not UTF-8 (it may be {looks}). Convert it: iconv -f {looks} -t utf-8 OLD > NEW"
        ) from None
