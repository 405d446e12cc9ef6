"""Texts: UTF-8, each as long as it is, cut into pieces by the tokenizer of the weights."""

from pydantic import Field

from stages.lib.params.fields import Strict

NOUN = "text"
AUGMENTATIONS = ("none", "light")
MIXES = False
PACKAGES = ("tokenizers", "transformers")
RAGGED = True
PER = ("example", "word")
CAPTION = "The darker a word, the more it mattered for the prediction (gradient times input)."


class Preprocessing(Strict):
    """How texts were cut into pieces when the weights were trained."""

    # "beside": tokenizer.json (or vocab.txt) beside the weights; else the path of such a file
    tokenizer: str = Field(min_length=1)
    tokenizer_sha256: str = Field(pattern=r"^([0-9a-f]{64})?$")  # of your own file; "" for the one beside the weights
    special_tokens: bool  # whether each text begins and ends with the tokenizer's own marks ([CLS], [SEP])


class Packing(Strict):
    """How much of the texts of a dataset is used."""

    max_tokens: int = Field(ge=4, le=8192)
