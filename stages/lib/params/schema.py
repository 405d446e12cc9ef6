"""The schema of each section of params.yaml; each plug-in declares its own params in its file (`Params`)."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from stages.lib.params.fields import Architecture, Strict, none_twice, plugin


class Device(Strict):
    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    devices: int = Field(ge=1)
    num_nodes: int = Field(ge=1)
    precision: Literal["auto", "32-true", "bf16-mixed"]
    deterministic: bool


class Split(Strict):
    train: int = Field(ge=0)
    val: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)
    by_group: bool
    stratify: bool


class Download(Strict):
    fetch: str


class Dataset(Strict):
    raw: str = Field(min_length=1)
    reader: str
    preprocessing: str
    split: Split
    limit: int = Field(ge=0)
    max_broken: float = Field(ge=0, lt=1)
    duplicates: Literal["refuse", "drop"]
    licence: str


class Episodes(Strict):
    """Few-shot episodes of a dataset's test split; a block of `datasets` may leave them out."""

    way: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1), AfterValidator(none_twice)]
    shots: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1), AfterValidator(none_twice)]
    queries: int = Field(ge=1)
    number: int = Field(ge=2)
    seed: int = Field(ge=0)


class Source(Strict):
    weights: str
    architecture: Architecture
    licence: str


class Head(Strict):
    """The layers that a training adds to the backbone (stages.lib.networks.heads)."""

    hidden: int = Field(ge=0)
    dropout: float = Field(ge=0, lt=1)
    zero: bool
    keep: bool


LOSSES: dict[str, tuple[str, ...]] = {  # what each loss of metric learning needs besides pictures and dim
    "triplet": ("margin",),
    "cosface": ("margin", "scale", "proxy_lr"),
    "arcface": ("margin", "scale", "proxy_lr"),
    "prototypical": (),
    "cosine_prototypical": ("scale",),
}


class MetricLearning(Strict):
    """How embeddings are learned (stages.lib.tasks.embed.losses)."""

    loss: Literal["triplet", "cosface", "arcface", "prototypical", "cosine_prototypical"]
    pictures: int = Field(ge=2)
    dim: int = Field(ge=0)
    margin: float | None = Field(default=None, gt=0, lt=90)  # these three only where the loss has them (LOSSES)
    scale: float | None = Field(default=None, gt=0)
    proxy_lr: float | None = Field(default=None, gt=0, le=10)

    @model_validator(mode="after")
    def _of_its_loss(self) -> Self:
        needed = LOSSES[self.loss]
        if needed != tuple(name for name in ("margin", "scale", "proxy_lr") if getattr(self, name) is not None):
            words = {"loss": self.loss, "needed": " and ".join(needed) or "none", "others": "margin, scale and proxy_lr"}
            raise PydanticCustomError("of_its_loss", "{loss} needs, of {others}, exactly {needed}", words)
        if self.loss != "arcface" and (self.margin or 0) >= 2:
            raise PydanticCustomError("of_its_loss", "a margin is below 2, except that of arcface, which is in degrees")
        return self


class TrainingOptions(Strict):
    """The options of every training; the block of a strategy, a hop or the control may override them."""

    optimizer: Literal["sgd", "adam", "adamw"]
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0, le=1)
    schedule: Literal["constant", "cosine", "one_cycle", "step"]
    warmup_epochs: float = Field(ge=0)
    warmup: Literal["all", "head"]
    batch_size: int = Field(ge=1)
    label_smoothing: float = Field(ge=0, lt=1)
    balance: Literal["none", "weights", "sampling"]
    augment: str
    mixup: float = Field(ge=0, le=10)
    cutmix: float = Field(ge=0, le=10)
    clip_norm: float = Field(ge=0)
    ema: float = Field(ge=0, lt=1)
    patience: int = Field(ge=1)
    head: Head
    metric_learning: MetricLearning | None


class Checks(Strict):
    loss_jump: float = Field(gt=1)
    params_per_example: float = Field(gt=0)
    forgetting: float = Field(ge=0, le=1)
    shortcut: float = Field(ge=0.5, le=1)
    use: Literal["any", "commercial", "closed"]


class Advise(Strict):
    num_examples: int = Field(ge=20)
    neighbours: int = Field(ge=1)
    preprocessing: Literal["warn", "error"]
    margin: float = Field(ge=0, lt=1)
    confidence: float = Field(gt=0.5, lt=1)


class Leaks(Strict):
    action: Literal["report", "drop", "refuse"]
    correlation: float = Field(gt=0, le=1)
    nearness: float = Field(ge=0, lt=1)


class Baseline(Strict):
    """A block of `baselines`: the params of its plug-in."""


class Strategy(Strict):
    """A block of `strategies`: the hyperparameters of its plug-in, and the training options that it overrides."""


class Hop(Strict):
    init: str
    data: str
    task: Annotated[str, plugin("tasks")]
    strategy: str


class Alternative(Strict):
    data: str
    strategy: str


class Target(Strict):
    data: str
    test: str
    task: Annotated[str, plugin("tasks")]


class Scratch(Strict):
    like: str


class Decision(Strict):
    """When a model answers one class (stages.lib.tasks.classify.calibration): from a probability on, or as often as wanted."""

    label: str
    threshold: float | None = Field(default=None, ge=0, le=1)  # exactly one of these two
    recall: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.threshold is None) == (self.recall is None):
            raise PydanticCustomError("one_of_two", "a decision has either a threshold or a recall that is wanted")
        return self


class Calibrate(Strict):
    decision: Decision | None
    sets: Annotated[list[Annotated[float, Field(ge=0.5, lt=1)]], AfterValidator(none_twice)]
    false_alarms: float = Field(gt=0, le=0.5)
    neighbours: int = Field(ge=1)
    num_examples: int = Field(ge=1)


class Evaluate(Strict):
    batch_size: int = Field(ge=1)
    num_resamples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1)
    ece_bins: int = Field(ge=2)
    num_shown: int = Field(ge=0, le=50)


class Compare(Strict):
    metric: str
    num_resamples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1)
    margin: float = Field(gt=0)
    looks: list[Annotated[int, Field(ge=2)]]


FORBIDDEN = ("size", "nfiles")  # DVC's run cache ignores these keys at any depth and would restore old outputs
# Sections that hold one block per name: the block's own schema, the key that names its plug-in, the plug-ins' folder.
BLOCKS: dict[str, tuple[type[Strict], str | None, str]] = {
    "download": (Download, "fetch", "downloads"),
    "datasets": (Dataset, "reader", "readers"),
    "source": (Source, "weights", "weights"),
    "baselines": (Baseline, None, "baselines"),
    "intermediate": (Hop, "strategy", "strategies"),
    "alternatives": (Alternative, "strategy", "strategies"),
    "strategies": (Strategy, None, "strategies"),
}
SINGLE: dict[str, type[Strict]] = {
    "training": TrainingOptions, "checks": Checks, "device": Device, "target": Target, "scratch": Scratch, "leaks": Leaks,
    "advise": Advise, "calibrate": Calibrate, "evaluate": Evaluate, "compare": Compare,
}  # fmt: skip
SCALARS: dict[str, Any] = {  # as create_model takes a field
    "modality": (Annotated[str, plugin("modalities")], ...),
    "seed": (int, Field(ge=0)),
    "strategy": (str, ...),
    "inits": (list[str], ...),
    "seeds": (list[int], ...),
}
SECTIONS = [
    "modality",
    "seed",
    "strategy",
    "strategies",
    "training",
    "checks",
    "device",
    "download",
    "datasets",
    "source",
    "intermediate",
]
SECTIONS += ["target", "inits", "seeds", "alternatives", "scratch", "baselines", "leaks", "advise"]
SECTIONS += ["calibrate", "evaluate", "compare"]
