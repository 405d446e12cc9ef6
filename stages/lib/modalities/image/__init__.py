"""Images: 8-bit RGB, all of the same size."""

from typing import Annotated, Literal

from pydantic import Field

from stages.lib.params.fields import Strict

NOUN = "image"  # what an example is called in messages
AUGMENTATIONS = ("none", "light", "strong", "inspection")
MIXES = True  # its inputs can be mixed (mixup, cutmix)
PACKAGES = ("pillow",)  # what the served model needs besides torch and the like
RAGGED = False  # all packed inputs of a dataset have the same shape
PER = ("example",)  # what its networks can give one output for
Positive = Annotated[float, Field(gt=0)]


# What is shown beside the most certain mistakes.
CAPTION = ("For networks with feature maps, the heat map beside each shows what the prediction comes from (Grad-CAM; bright "
           "areas support it).")  # fmt: skip


class Preprocessing(Strict):
    """How images were preprocessed when the weights were trained."""

    px: int = Field(ge=8, le=4096)
    crop_pct: float = Field(gt=0, le=1)
    interpolation: Literal["nearest", "bilinear", "bicubic"]
    mean: Annotated[tuple[float, float, float], Field(strict=False)]  # YAML has lists, not tuples
    std: Annotated[tuple[Positive, Positive, Positive], Field(strict=False)]


class Packing(Strict):
    """How the images of a dataset are packed, in addition to the source's card."""

    px: int = Field(ge=8, le=4096)
    fit: Literal["squash", "crop"]
