"""The tokenizer of a source: it belongs to the weights and is kept beside them."""

import hashlib
import json
from pathlib import Path
from typing import Any

from stages.lib.errors import UserError, listed

FILE = "tokenizer.json"


def keep(
    preprocessing: dict[str, Any], beside: dict[str, bytes], architecture: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What goes on the source's card, and the files beside it.

    Args:
        preprocessing: the modality's Preprocessing.
        beside: contents of the small files beside the weights.
        architecture: of the weights, to check that the tokenizer is theirs.

    Raises:
        UserError: there is no tokenizer, it cannot be read, or it has more pieces than the weights know.
    """
    content = _beside(beside) if preprocessing["tokenizer"] == "beside" else _own(preprocessing)
    num_pieces, num_known = _num_pieces(content), _num_known(architecture)
    if num_known is not None and num_pieces > num_known:
        raise UserError(
            f"preprocessing.tokenizer: it has {num_pieces:,} pieces, and the weights know {num_known:,}: it is not the tokenizer "
            "that they were trained with."
        )
    digest = hashlib.sha256(content).hexdigest()
    if preprocessing["tokenizer"] == "beside" and preprocessing["tokenizer_sha256"] not in ("", digest):
        raise UserError(
            f"preprocessing.tokenizer_sha256: {FILE} beside the weights has {digest}, but params.yaml says "
            f"{preprocessing['tokenizer_sha256']}. If the file is right, copy its sha256, or give ''."
        )
    return preprocessing | {"tokenizer_sha256": digest}, {FILE: content}


def _beside(beside: dict[str, bytes]) -> bytes:
    if FILE in beside:
        return beside[FILE]
    if "vocab.txt" not in beside:
        raise UserError(
            f"preprocessing.tokenizer: there is no {FILE} (and no vocab.txt) beside the weights; files there: "
            f"{listed(sorted(beside)) if beside else 'none'}. Give the path of such a file."
        )
    return _of_vocabulary(beside["vocab.txt"], beside.get("tokenizer_config.json"))


def _of_vocabulary(content: bytes, config: bytes | None) -> bytes:
    """The tokenizer of an older BERT from its vocab.txt, and its settings if there are any."""
    from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

    try:
        settings = dict(json.loads(config or b"{}"))
    except (TypeError, ValueError) as error:
        raise UserError(f"preprocessing.tokenizer: tokenizer_config.json cannot be read: {error}") from None
    try:
        lines = content.decode().replace("\r\n", "\n").removesuffix("\n").split("\n")  # other separators of lines are pieces
        capitals = any(piece != piece.lower() for piece in lines if not piece.startswith("["))  # [CLS]
        converted: str = BertWordPieceTokenizer(
            {piece: number for number, piece in enumerate(lines)},
            lowercase=settings.get("do_lower_case", bool(config) or not capitals),
            strip_accents=settings.get("strip_accents"),
            handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        ).to_str()
    except Exception as error:  # tokenizers raises plain exceptions
        raise UserError(
            f"preprocessing.tokenizer: vocab.txt is not that of a BERT, with a piece in each line, [UNK], [CLS] and [SEP] among "
            f"them ({error}). Give the path of a {FILE}."
        ) from None
    return converted.encode()


def _own(preprocessing: dict[str, Any]) -> bytes:
    path = Path(preprocessing["tokenizer"])
    if not path.is_file():
        raise UserError(f"preprocessing.tokenizer: there is no file {path} (seen from {Path.cwd()}).")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != preprocessing["tokenizer_sha256"]:
        raise UserError(
            f"preprocessing.tokenizer_sha256: {path} has {found}, but params.yaml says "
            f"{preprocessing['tokenizer_sha256'] or 'nothing'}. If the file is right, copy its sha256."
        )
    return _of_vocabulary(content, None) if path.name == "vocab.txt" else content


def _num_pieces(content: bytes) -> int:
    """One more than the highest number of a piece, which the network looks up."""
    from tokenizers import Tokenizer

    try:
        numbers = Tokenizer.from_str(content.decode()).get_vocab().values()
    except Exception as error:  # tokenizers raises plain exceptions
        raise UserError(f"preprocessing.tokenizer: {FILE} cannot be read: {error}") from None
    return 1 + max(numbers, default=-1)


def _num_known(architecture: dict[str, Any]) -> int | None:
    from transformers import CONFIG_MAPPING

    if architecture.get("model") not in CONFIG_MAPPING:
        return None
    found: int | None = getattr(CONFIG_MAPPING[architecture["model"]](**architecture["config"]), "vocab_size", None)
    return found
