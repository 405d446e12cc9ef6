"""What a strategy is: a file here with `Knobs` (its params) and `plan` (the phases of training that it means).

A strategy may also have
    adapt(model, **knobs)    changes the network before training (adapters); the backbone keeps its function
    finish(model, ...)       what comes after the last phase (see stages.lib.hop): merges adapters, interpolates weights,
                             fills a head that is computed and not trained
    head(**knobs)            the head that it needs, if not the one of `training`
    UNUSED                   names of training options that it has no use for, which its block may then not hold
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

# A penalty is attached to a model for a phase: given the model and a frozen copy of it as the phase began, it gives a
# function that is called after the forward pass of each batch, with that batch of inputs, and returns the penalty, a scalar.
Penalty = Callable[..., AbstractContextManager[Callable]]


class Phase(NamedTuple):
    """One phase of training; every tensor that `lrs` does not name is frozen."""

    lrs: dict[str, float]  # peak learning rate of each trainable parameter, by its name in the model
    epochs: int
    plain: bool = False  # examples as they are: neither augmented nor mixed, so that frozen features are computed once
    penalties: tuple[Penalty, ...] = ()
    statistics: bool = True  # normalisations that are trained follow the batches; False: they keep their running statistics


# Of a strategy that computes its head from features and trains nothing.
NO_TRAINING = ("optimizer", "momentum", "weight_decay", "schedule", "warmup_epochs", "warmup", "label_smoothing", "balance",
               "augment", "mixup", "cutmix", "clip_norm", "ema", "patience", "head")  # fmt: skip
