"""Sequences of numbers, each as long as it is."""

from pydantic import Field

from stages.lib.params.fields import Strict

NOUN = "sequence"
AUGMENTATIONS = ("none", "noise")
MIXES = False
CAPTION = "Drawn as lines."
RAGGED = True
PER = ("example",)


class Preprocessing(Strict):
    """How sequences were scaled when the weights were trained."""

    mean: float
    std: float = Field(gt=0)


class Packing(Strict):
    """How the sequences of a dataset are packed."""

    most_steps: int = Field(ge=1)
