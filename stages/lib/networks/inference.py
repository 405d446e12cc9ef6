"""Running a network without training it: its outputs, its features, and heads that are computed from them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad
from tqdm import tqdm

from stages.lib.core.contracts import NO_STEP, LoadedSplit
from stages.lib.networks.backbones import Model
from stages.lib.networks.folding import folded

NUM_TRIED = 2  # examples on which it is made sure that a faster network gives the same


def ready(network: nn.Module, split: LoadedSplit) -> Any:
    """A network that is not trained any more, in evaluation mode, as it computes what it gives for these examples fastest."""
    some = torch.arange(min(NUM_TRIED, len(split.targets)))
    return folded(network.eval(), lambda: split.inputs(some, "none", None))


def predict(network: nn.Module, split: LoadedSplit, batch_size: int) -> torch.Tensor:
    """Outputs (N, ...) in float32, in evaluation mode and without augmentation; sequences are padded to the longest."""
    network.eval()
    with torch.inference_mode():
        order, batches = _batches(split, batch_size)
        return _joined([network(split.inputs(indices, "none", None)).float() for indices in batches], order)


def both(model: Model, split: LoadedSplit, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (N, D) and outputs (N, ...) in float32, in one pass, in evaluation mode and without augmentation."""
    model.eval()
    with torch.inference_mode():
        order, batches = _batches(split, batch_size)
        pairs = [model.both(split.inputs(indices, "none", None)) for indices in batches]
        features, outputs = ([each.float() for each in column] for column in zip(*pairs, strict=True))
        return _joined(features, order), _joined(outputs, order)


def features(fabric: Any, model: Model, split: LoadedSplit, batch_size: int) -> LoadedSplit:
    """The same examples, as features of the frozen backbone, (N, D) or (N, steps, D)."""
    with fabric.autocast():
        backbone = ready(model.backbone, split)
    return once(fabric, backbone, split, batch_size)


def once(fabric: Any, part: Callable[[Any], torch.Tensor], split: LoadedSplit, batch_size: int) -> LoadedSplit:
    """The same examples, as what a part of a network (in evaluation mode) makes of them, (N, ...)."""
    order, batches = _batches(split, batch_size)
    with torch.no_grad(), fabric.autocast():
        parts = [
            part(split.inputs(indices, "none", None)).float()
            for indices in tqdm(batches, desc="features", disable=None, leave=False)
        ]
    computed = _joined(parts, order)
    return LoadedSplit(lambda indices, level, draws: computed[indices], split.targets, num_draws=0)


def compute_head(fabric: Any, model: Model, train: LoadedSplit, batch_size: int) -> None:
    """Compute a head that is not trained from the training features."""
    computed = features(fabric, model, train, batch_size)
    head: Any = model.head
    head.compute(computed.inputs(torch.arange(len(train.targets)), "none", None), train.targets)


def _batches(split: LoadedSplit, batch_size: int) -> tuple[torch.Tensor | None, tuple[torch.Tensor, ...]]:
    """Indices of all examples in batches; those of sequences are sorted by length, and their order is returned too."""
    order = None if split.lengths is None else split.lengths.argsort(stable=True)
    return order, (torch.arange(len(split.targets)) if order is None else order).split(batch_size)


def _joined(parts: list[torch.Tensor], order: torch.Tensor | None) -> torch.Tensor:
    """Join batches into one tensor, in the order of the examples; sequences are as long as the longest of their batch."""
    if parts[0].ndim == 3:
        longest = max(part.shape[1] for part in parts)
        parts = [pad(part, (0, 0, 0, longest - part.shape[1]), value=NO_STEP) for part in parts]
    joined = torch.cat(parts)
    return joined if order is None else joined[order.argsort()]
