"""What a strategy is: a file here with `Knobs` (its params) and `plan` (the phases of training that it means)."""

from typing import NamedTuple


class Phase(NamedTuple):
    """One phase of training; every tensor that `lrs` does not name is frozen."""

    lrs: dict[str, float]  # peak learning rate of each trainable parameter, by its name in the model
    epochs: int
    augment: str  # a level of stages.lib.images.augment
