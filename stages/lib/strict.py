"""The kinds of value that params.yaml may hold; plug-ins build their `Knobs` from these."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Augment = Literal["none", "light", "inspection"]  # the levels of stages.lib.images.augment


Positive = Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    """A block of params.yaml: no unknown key, no default, no silent conversion ("3" is not 3)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Architecture(Strict):
    """A network by the name that its library gives it."""

    library: Literal["timm", "torchvision"]
    model: str = Field(min_length=1)


class Preprocessing(Strict):
    """How images were prepared when the weights were trained."""

    px: int = Field(ge=8, le=4096)
    crop_pct: float = Field(gt=0, le=1)
    interpolation: Literal["nearest", "bilinear", "bicubic"]
    mean: Annotated[tuple[float, float, float], Field(strict=False)]  # YAML has lists, not tuples
    std: Annotated[tuple[Positive, Positive, Positive], Field(strict=False)]


Sha256 = Field(pattern=r"^[0-9a-f]{64}$")
