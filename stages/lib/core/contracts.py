"""The types that plug-ins are given and give back; stages/README.md states the contracts.

Imports nothing heavy, because params.yaml is checked, many times, without waiting for torch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.lib.core import plugins

if TYPE_CHECKING:
    import numpy as np
    import torch

    from stages.lib.core.cards import PackedSplit


class Example(NamedTuple):
    """One labelled example, not yet opened."""

    key: str  # its name, unique in the dataset
    label: str  # its class, in words
    group: str  # what it shares with others (patient, module); "" for none
    split: str  # train | val | test where the data comes with splits; "" otherwise
    open: Callable[[], Any]  # the encoded bytes or a PIL image; called once, perhaps in a thread


class Source(NamedTuple):
    """Pretrained (or random) weights, by the names that stages.lib.networks.backbones.Model has for them."""

    architecture: dict[str, str]  # library and model, as stages.lib.networks.backbones.build takes them
    tensors: dict[str, Any]  # torch tensors; torch is not imported here, so that checking params.yaml stays quick
    preprocessing: dict[str, Any]  # how inputs were prepared when the weights were trained: the modality's Preprocessing
    classes: list[str] | None  # what the head's outputs mean, where the library says it
    origin: str  # where the weights came from, for the card


class Mix(NamedTuple):
    """How one batch is mixed with a shuffled copy of itself (stages.lib.training.mixing)."""

    partner: torch.Tensor  # (N,) position in the batch that each example is mixed with
    fraction: float  # of its own target that an example keeps
    box: tuple[float, float, float, float] | None  # top, bottom, left, right of the pasted part, as fractions of the side


class LoadedSplit(NamedTuple):
    """One split, loaded by its modality (inputs) and its task (targets)."""

    inputs: Callable[[torch.Tensor, str, torch.Tensor | None], Any]
    """(indices (n,), augmentation level, draws (n, num_draws) or None) to one batch on the device, as the network takes it."""
    targets: torch.Tensor
    """(N, ...) on the device, in the form that the task gave them."""
    num_draws: int
    """Random numbers in [0, 1) that `inputs` needs for each example."""
    mix: Callable[[Any, Any, Mix], tuple[Any, float]] | None = None
    """(inputs, those of the partners, how) to mixed inputs and the fraction of their own targets; None where inputs cannot
    be mixed."""


def load(
    split: PackedSplit, modality: str, task: str, names: list[str], preprocessing: dict[str, Any], device: torch.device
) -> LoadedSplit:
    """A packed split as a network sees it.

    Args:
        modality, task: plug-ins.
        names: what the outputs of the network mean.
        preprocessing: of the network's card.
    """
    targets = plugins.load("tasks", task, "learning").targets(split.labels, names)
    loaded: LoadedSplit = plugins.load("modalities", modality, "inputs").load(split, targets, preprocessing, device)
    return loaded


def part(split: LoadedSplit, rows: torch.Tensor) -> LoadedSplit:
    """Some of the examples, in the order of `rows` (n,); nothing is copied but targets."""
    inputs = split.inputs
    return split._replace(
        inputs=lambda indices, level, draws: inputs(rows[indices], level, draws),
        targets=split.targets[rows.to(split.targets.device)],
    )


# A penalty is attached to a model for a phase: given the model, a frozen copy of it as the phase began, the examples that it
# learns from and the task's loss, it gives a function that is called after the forward pass of each batch, with that batch of
# inputs, and returns the penalty, a scalar. One with parameters of its own is a torch module with the attribute `lr`.
Penalty = Callable[..., AbstractContextManager[Callable[[Any], Any]]]


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


class Metric(NamedTuple):
    """One figure that a test split gives, for the test itself and for all of its resamples at once."""

    values: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    """(predictions (N, ...), targets (N, ...), weights (B, N): how much each example counts) to (B,)."""
    differ: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(predictions (S, N, ...) of two arms) to (S, N): for which examples the metric can tell them apart."""
    higher_is_better: bool = True
    fraction: bool = True
    """Between 0 and 1, and shown in percent and points; else in units of its own."""

    def text(self, value: float) -> str:
        """A value for readers."""
        return f"{100 * value:.1f} %" if self.fraction else f"{value:.3g}"

    def change(self, value: float) -> str:
        """A difference of two values for readers, in points where the metric is a fraction."""
        return f"{100 * value:+.1f}" if self.fraction else f"{value:+.3g}"

    def unit(self, name: str) -> str:
        """What a difference is counted in: "points of accuracy"."""
        return f"points of {name.replace('_', ' ')}" if self.fraction else name.replace("_", " ")


class Variant(NamedTuple):
    """A preprocessing other than the card's, which the weights may have been trained with instead."""

    prepare: Callable[[Any, dict[str, Any]], Any]  # (packed examples, preprocessing of a card) to a batch for the network
    remedy: str  # what it means that this one does better, and what to do
    family: str = ""  # of several of one family that do better, the best speaks for all; "" stands alone
