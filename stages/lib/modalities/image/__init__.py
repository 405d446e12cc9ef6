"""Images: 8 bits in each channel, RGB or grey, all of the same size."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

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
    mean: Annotated[tuple[float, ...], Field(strict=False)]  # YAML has lists, not tuples
    std: Annotated[tuple[Positive, ...], Field(strict=False)]

    @property
    def channels(self) -> int:
        """Of the images: 3 are red, green and blue, and 1 is grey."""
        return len(self.mean)

    @model_validator(mode="after")
    def _one_for_each_channel(self) -> Self:
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            given = f"mean has {len(self.mean)} and std {len(self.std)}"
            words = "mean and std must have three numbers each (red, green, blue), or one each (grey images); {given}"
            raise PydanticCustomError("channels", words, {"given": given})
        return self


class Packing(Strict):
    """How the images of a dataset are packed, in addition to the source's card."""

    px: int = Field(ge=8, le=4096)
    fit: Literal["squash", "crop", "frame"]
