"""The types that plug-ins take and return; stages/README.md describes the contracts.

Imports nothing slow, because params.yaml is checked many times and must not wait for torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from stages.lib.core import plugins

if TYPE_CHECKING:
    import numpy as np
    import torch

    from stages.lib.core.datasets import PackedSplit


# Sequences of a batch are padded to its longest. In padded steps every channel of the network's features and outputs is NO_STEP,
# far below any number that a network computes (and exact enough in bfloat16), and targets are NO_TARGET.
NO_STEP = -1e9
NO_TARGET = -100

Per = Literal["example", "word", "frame"]  # what the network gives one output for


class Example(NamedTuple):
    """One labelled example whose file has not been opened yet."""

    key: str  # its name, unique in the dataset
    label: str  # the right answer as text: a class, tags with spaces between them, a transcript
    group: str  # what it has in common with others (patient, module); "" for none
    split: str  # train | val | test if the data comes with splits; "" otherwise
    open: Callable[[], Any]  # returns the encoded bytes or a PIL image; called once, possibly in a thread


class Source(NamedTuple):
    """Pretrained (or random) weights, under their names in stages.lib.networks.backbones.Model."""

    architecture: dict[str, Any]  # library and its own params, as stages.lib.networks.backbones.build takes them
    tensors: dict[str, Any]  # torch tensors; torch is not imported here, to keep checking params.yaml fast
    preprocessing: dict[str, Any]  # how inputs were preprocessed when the weights were trained: the modality's Preprocessing
    classes: list[str] | None  # what the head's outputs mean, if the library says so
    origin: str  # where the weights came from, for the card
    beside: Mapping[str, bytes] = MappingProxyType({})  # small files that lay beside the weights (config.json, tokenizer.json)


class Mix(NamedTuple):
    """How one batch is mixed with a shuffled copy of itself (stages.lib.training.mixing)."""

    partner: torch.Tensor  # (N,) position in the batch of the example that each one is mixed with
    fraction: float  # of its own target that each example keeps
    box: tuple[float, float, float, float] | None  # top, bottom, left, right of the pasted region, as fractions of the side


class LoadedSplit(NamedTuple):
    """One split, loaded by its modality (inputs) and its task (targets)."""

    inputs: Callable[[torch.Tensor, str, torch.Tensor | None], Any]
    """(indices (n,), augmentation level, draws (n, num_draws) or None) -> one batch on the device, ready for the network."""
    targets: torch.Tensor
    """(N, ...) on the device, as returned by the task."""
    num_draws: int
    """Number of random draws in [0, 1) that `inputs` needs per example."""
    mix: Callable[[Any, Any, Mix], tuple[Any, float]] | None = None
    """(inputs, the partners' inputs, how) -> mixed inputs and the fraction of each example's own target; None if inputs cannot
    be mixed."""
    lengths: torch.Tensor | None = None
    """(N,) on the CPU: how long each input is, in any unit, so that batches can hold inputs of like length; None if all are
    equally long."""
    fixed: bool = True
    """Whether an example that is not augmented is the same in every epoch; then features of a frozen backbone are, too."""


def numbered(num: int) -> list[str]:
    """The names of outputs that have no meaning of their own, such as the coordinates of an embedding."""
    return [f"e{index}" for index in range(num)]


def load(
    split: PackedSplit, modality: str, task: str, names: list[str], preprocessing: dict[str, Any], device: torch.device
) -> LoadedSplit:
    """Load a packed split for a network.

    Args:
        modality, task: names of plug-ins.
        names: what the network's outputs mean.
        preprocessing: from the network's card.
    """
    learning = plugins.load("tasks", task, "learning")
    targets = learning.targets(split.labels, names)
    loaded: LoadedSplit = plugins.load("modalities", modality, "inputs").load(split, targets, preprocessing, device)
    if hasattr(learning, "pretext"):
        loaded = learning.pretext(loaded, preprocessing)
    return loaded


def load_inputs(split: PackedSplit, modality: str, preprocessing: dict[str, Any], device: torch.device) -> LoadedSplit:
    """Load inputs without labels: the targets are (N, 0)."""
    import torch

    loaded: LoadedSplit = plugins.load("modalities", modality, "inputs").load(
        split, torch.zeros(len(split.inputs), 0), preprocessing, device
    )
    return loaded


def others(num: int, rows: Sequence[int]) -> torch.Tensor:
    """The indices of `num` examples without some of them."""
    import torch

    return torch.tensor(sorted(set(range(num)) - set(rows)), dtype=torch.long)


def part(split: LoadedSplit, rows: torch.Tensor) -> LoadedSplit:
    """Some of the examples, in the order of `rows` (n,); only the targets are copied."""
    inputs = split.inputs
    return split._replace(
        inputs=lambda indices, level, draws: inputs(rows[indices], level, draws),
        targets=split.targets[rows.to(split.targets.device)],
        lengths=None if split.lengths is None else split.lengths[rows],
    )


# A penalty is attached to a model for one phase. Given the model, a frozen copy of it from the start of the phase, the training
# examples and the task's loss, it yields a function that is called after the forward pass of each batch, with that batch of
# inputs, and returns the penalty, a scalar. A penalty with its own parameters is a torch module with the attribute `lr`. If the
# strategy declares UNLABELLED, the network has seen as many unlabelled inputs behind those of the batch, and the function is also
# given the progress of the phase, from 0 to 1.
Penalty = Callable[..., AbstractContextManager[Callable[..., Any]]]


class Phase(NamedTuple):
    """One phase of training; every tensor not named in `lrs` is frozen."""

    lrs: dict[str, float]  # peak learning rate of each trainable parameter, by its name in the model
    epochs: int
    plain: bool = False  # no augmentation and no mixing, so frozen features are computed only once
    penalties: tuple[Penalty, ...] = ()
    statistics: bool = True  # trained normalisation layers use batch statistics; False: they keep their running statistics
    select: str = "loss"  # what chooses the epoch: "loss" on validation, or "information" about the unlabelled validation inputs


# For a strategy that computes its head from features and trains nothing: the options that it does not use.
NO_TRAINING = ("optimizer", "momentum", "weight_decay", "schedule", "warmup_epochs", "warmup", "label_smoothing", "balance",
               "augment", "mixup", "cutmix", "clip_norm", "ema", "patience", "head", "metric_learning")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How the values of a metric are read."""

    higher_is_better: bool = True
    fraction: bool = True  # between 0 and 1, and shown in percent and points; else in units of its own

    def text(self, value: float) -> str:
        """A value for readers."""
        return f"{100 * value:.1f} %" if self.fraction else f"{value:.3g}"

    def change(self, value: float) -> str:
        """A difference of two values for readers, in points if the metric is a fraction."""
        return f"{100 * value:+.1f}" if self.fraction else f"{value:+.3g}"

    def interval(self, figure: dict[str, Any]) -> str:
        """A value with its ends, as report.json holds them."""
        return f"{self.text(figure['value'])} ({self.text(figure['lower'])} to {self.text(figure['upper'])})"

    def unit(self, name: str) -> str:
        """The unit of a difference: "points of accuracy"."""
        return f"points of {name.replace('_', ' ')}" if self.fraction else name.replace("_", " ")


def scale_of(report: dict[str, Any]) -> tuple[str, Scale]:
    """The primary metric in a report.json: for readers who need no more of its task than its name and scale."""
    found = dict(report["primary"])
    return str(found.pop("name")), Scale(**found)


@dataclass(frozen=True)
class Metric(Scale):
    """One figure of a test split, computed for the test itself and for all of its resamples at once."""

    values: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    """(predictions (N, ...), targets (N, ...), weights (B, N): how much each example counts) to (B,)."""
    differ: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(predictions (S, N, ...) of two arms) to (S, N): the examples for which the metric can tell the arms apart."""
    between: bool = False
    """Whether it compares examples with each other: then one that was drawn twice is not compared with itself."""


def primary(task: str) -> tuple[str, Metric]:
    """The metric of a task that is shown everywhere, by its name."""
    name: str = plugins.load("tasks", task).PRIMARY
    metric: Metric = plugins.load("tasks", task, "measures").METRICS[name]
    return name, metric


def chance(task: str, name: str, targets: np.ndarray, num_outputs: int) -> float | None:
    """A metric of answering what is most frequent, whatever the input; None if the task has no such answer.

    Args:
        name: of the metric.
        targets: (N, ...) of the test.
        num_outputs: of the network.
    """
    import numpy as np

    measures = plugins.load("tasks", task, "measures")
    if not hasattr(measures, "constant"):
        return None
    metric: Metric = measures.METRICS[name]
    return float(metric.values(measures.constant(targets, num_outputs), targets, np.ones((1, len(targets))))[0])


class Units(NamedTuple):
    """What a task measures, if it is not each example: episodes."""

    values: np.ndarray  # (U, ...) float32, as the task's `measures` takes predictions
    targets: np.ndarray  # (U, ...)
    keys: list[str]  # name of each


class Variant(NamedTuple):
    """A preprocessing that differs from the card's and that the weights may have been trained with instead."""

    prepare: Callable[[Any, dict[str, Any]], Any]  # (packed examples, preprocessing of a card) -> a batch for the network
    remedy: str  # what it means if this variant does better, and what to do
    family: str = ""  # if several of a family do better, only the best is reported; "" for none
    values: bool = False  # whether it is other values of the same inputs, so that statistics of a layer tell it from the card's
