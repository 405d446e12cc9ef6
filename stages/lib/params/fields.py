"""The types of values in params.yaml; plug-ins build their `Params` from these."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from stages.lib.core import plugins
from stages.lib.errors import listed, nearest


class Strict(BaseModel):
    """A block of params.yaml: no unknown keys, no defaults, no silent conversion ("3" is not 3)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def plugin(kind: str) -> AfterValidator:
    """Validator of a string that names a plug-in of one kind: `Annotated[str, plugin("tasks")]`."""

    def known(name: str) -> str:
        allowed = plugins.names(kind)
        if name not in allowed:
            words = {"name": name, "near": nearest(name, allowed), "allowed": listed(allowed)}
            raise PydanticCustomError("no_plugin", "{name} does not exist.{near} Allowed: {allowed}", words)
        return name

    return AfterValidator(known)


def none_twice(values: list[int]) -> list[int]:
    """Validator of a list whose values all differ."""
    if len(set(values)) < len(values):
        raise PydanticCustomError("twice", "must hold no number twice")
    return values


class Architecture(Strict):
    """A network, by its name in its library; a library may declare more params."""

    library: Annotated[str, plugin("libraries")]
    model: str = Field(min_length=1)


Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class Trainable(Strict):
    """Which part of the backbone is trained; exactly one of the fields is set."""

    last_blocks: int | None = Field(default=None, ge=1)  # this many blocks, counted from the head
    freeze_fraction: float | None = Field(default=None, gt=0, lt=1)  # all but this fraction of the layers, counted from the input
    freeze_layers: int | None = Field(default=None, ge=1)  # all but this many layers, counted from the input
    patterns: list[str] | None = Field(default=None, min_length=1)  # tensors whose name without "backbone." matches a pattern

    freeze_feature_encoder: Literal[True] | None = None  # all but the convolutions that make the steps of speech encoders

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in Trainable.model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            allowed = ", ".join(Trainable.model_fields)
            raise PydanticCustomError("exactly_one", f"must hold exactly one of {allowed}, but holds {len(given)}")
        return self


def _or_all(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, str) and value != "all":
        raise PydanticCustomError(
            "not_all", f"must be the word all, or a block with exactly one of {', '.join(Trainable.model_fields)}"
        )
    return value if value == "all" else handler(value)


def _dump(value: "Trainable | Literal['all']") -> Any:
    return value if value == "all" else value.model_dump(exclude_none=True)


# Annotated as a Trainable and not as a union, so that an error has the path of its key and not that of a union member.
TrainableOrAll = Annotated[Trainable, WrapValidator(_or_all), PlainSerializer(_dump)]
