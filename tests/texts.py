"""A tiny BERT with real tokenizers, in Hugging Face's layout, and params for texts. The one copy that tests use."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.core import datasets
from tests.tiny import PARAMS as IMAGES

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """the a film was is it good bad great awful dull plot actors act in and but not very at all un like we saw cafe
##like ##ing ##ed ##s ##ly ##able ##r . , ! ? ' - ( ) < > & ; / " 0 1 i t n o s e x"""
CAPITALS = ["The", "Film", "Good", "Bad", "It", "A", "I", "café"]
CONFIG = {"vocab_size": 72, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
          "max_position_embeddings": 24}  # fmt: skip
HOW = {"tokenizer": "beside", "tokenizer_sha256": "", "special_tokens": True}
ARCHITECTURE = {"library": "transformers", "model": "bert", "pooling": "mean", "config": {}}
LONG = "the film was good and the plot was awful but we saw great actors in it"  # 16 pieces
SENTENCES = [
    "The film was good.",
    "a very bad film",
    "It is great, and it is not dull!",
    "awful",
    "we saw the actors act unlikely",
]


def pieces(*, cased: bool = False) -> list[str]:
    return SPECIAL + WORDS.split() + (CAPITALS if cased else [])


def wordpiece(*, cased: bool = False) -> Any:
    """The tokenizer of a BERT."""
    from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

    known = {piece: number for number, piece in enumerate(pieces(cased=cased))}
    return BertWordPieceTokenizer(known, lowercase=not cased, strip_accents=None)


def byte_level(*, trim_offsets: bool = True) -> Any:
    """The tokenizer of a RoBERTa, which knows every byte and puts the space before a word into its first piece."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=trim_offsets, add_prefix_space=False
    )
    return tokenizer


def how(folder: Path, tokenizer: Any = None, **changes: Any) -> dict[str, Any]:
    """The preprocessing that functions of the modality take, with the tokenizer in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (tokenizer or wordpiece()).save(str(folder / "tokenizer.json"))
    return HOW | {"max_tokens": 16, "folder": str(folder)} | changes


def packed(texts: Sequence[str], labels: Sequence[str] = ()) -> datasets.PackedSplit:
    """A split of texts."""
    rows = [np.frombuffer(text.encode(), np.uint8) for text in texts]
    split = datasets.in_memory(rows, ragged=True)
    return split._replace(labels=list(labels)) if labels else split


def write_bert(folder: Path, seed: int = 0, tokenizer: Any = None, **config: Any) -> Any:
    """Write a BERT with a head for classes as transformers does, and its tokenizer; returns the network."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    network = BertForSequenceClassification(BertConfig(**CONFIG | config)).eval()
    network.save_pretrained(folder)
    (tokenizer or wordpiece()).save(str(folder / "tokenizer.json"))
    return network


def bert(seed: int = 0, num_outputs: int | None = 2, **changes: Any) -> Any:
    """A tiny network of the project, in evaluation mode."""
    import torch

    from stages.lib.networks import backbones

    torch.manual_seed(seed)
    architecture = ARCHITECTURE | {"config": CONFIG, "per": "example"} | changes
    return backbones.build(architecture, num_outputs).eval()


SOURCE = {"weights": "random", "seed": 0, "architecture": ARCHITECTURE | {"config": CONFIG}, "preprocessing": HOW,
          "licence": "none"}  # fmt: skip
REVIEWS = {"raw": "reviews", "reader": "text_folder", "group_from": "", "preprocessing": "tiny", "max_tokens": 16, "limit": 0,
           "split": {"train": 0, "val": 0.2, "test": 0.3, "seed": 0, "by_group": False, "stratify": True}, "max_broken": 0.0,
           "duplicates": "drop", "licence": "our own"}  # fmt: skip


def params(source: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """params.yaml of a target of texts from one source, without hops."""
    values = IMAGES | {"modality": "text", "strategy": "full", "datasets": {"reviews": REVIEWS}, "source": {"tiny": source},
                       "intermediate": {}, "inits": ["tiny"],
                       "target": {"data": "reviews", "test": "reviews", "task": "classify"}}  # fmt: skip
    copied: dict[str, Any] = json.loads(json.dumps(values | changes))
    return copied


def write_reviews(folder: Path, num: int = 40, seed: int = 0) -> None:
    """Good and bad reviews, a class folder each, of which some are longer than 16 tokens."""
    random = np.random.default_rng(seed)
    for label, words in (("bad", ["bad", "awful", "dull"]), ("good", ["good", "great", "not dull"])):
        (folder / label).mkdir(parents=True)
        for index in range(num):
            others = random.choice(LONG.replace("good", "0").replace("great", "1").replace("awful", "x").split(), 4 + index % 15)
            others[random.integers(len(others))] = random.choice(words)
            (folder / label / f"{index:03}.txt").write_text(" ".join(others) + ".", encoding="utf-8")
