"""Common wrong preprocessings of texts, which the advisor tries (stages.lib.advice.preprocessing)."""

import re
from collections.abc import Callable
from typing import Any

from stages.lib.core.contracts import Variant
from stages.lib.modalities.text.inputs import Texts, batch_of, texts, tokenizer_of


def as_on_card(packed: Any, preprocessing: dict[str, Any]) -> Texts:
    """The card's preprocessing, with the arguments of a variant: packed texts -> a batch."""
    return batch_of(texts(packed), tokenizer_of(preprocessing), preprocessing)


def _changed(change: Callable[[str], str]) -> Callable[[Any, dict[str, Any]], Texts]:
    def prepare(packed: Any, preprocessing: dict[str, Any]) -> Texts:
        batch = batch_of([change(text) for text in texts(packed)], tokenizer_of(preprocessing), preprocessing)
        # Where words begin is no input of a network that gives one vector for each text, and makes no difference here.
        return batch._replace(starts=as_on_card(packed, preprocessing).starts)

    return prepare


def _split_from_punctuation(text: str) -> str:
    return re.sub(r"(?<=\S)(?=[^\w\s])|(?<=[^\w\s])(?=\S)", " ", text)


def _special_tokens(packed: Any, preprocessing: dict[str, Any]) -> Texts:
    return as_on_card(packed, preprocessing | {"special_tokens": not preprocessing["special_tokens"]})


def _longer(packed: Any, preprocessing: dict[str, Any]) -> Texts:
    return as_on_card(packed, preprocessing | {"max_tokens": 2 * preprocessing["max_tokens"]})


# Each takes packed texts and a card's preprocessing and returns a batch.
VARIANTS: dict[str, Variant] = {
    "lower case": Variant(
        _changed(str.lower),
        "The weights may have been trained on text in lower case (an uncased model), and this tokenizer keeps capitals. Look up "
        "which tokenizer they were trained with, and give it as source.<name>.preprocessing.tokenizer.",
        "tokenizer",
    ),
    "words split from punctuation": Variant(
        _changed(_split_from_punctuation),
        "The weights may have been trained with a tokenizer that splits words from punctuation. Look up which one they were "
        "trained with, and give it as source.<name>.preprocessing.tokenizer.",
        "tokenizer",
    ),
    "the other special_tokens": Variant(
        _special_tokens,
        "The weights may have been trained the other way. Look it up; if so, turn source.<name>.preprocessing.special_tokens "
        "around.",
    ),
    "twice max_tokens": Variant(
        _longer,
        "This does not mean that the card is wrong: what tells the classes apart may stand where the texts are cut. Consider a "
        "larger datasets.<name>.max_tokens, which takes more time and memory.",
    ),
}
