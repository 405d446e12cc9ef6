"""Running a network without training it: its outputs, its features, and heads that are computed from them."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad
from tqdm import tqdm

from stages.lib.core.contracts import LoadedSplit
from stages.lib.networks.backbones import Model


def predict(network: nn.Module, split: LoadedSplit, batch_size: int) -> torch.Tensor:
    """Outputs (N, ...) in float32, in evaluation mode and without augmentation; sequences are padded with 0 to the longest."""
    network.eval()
    with torch.inference_mode():
        batches = torch.arange(len(split.targets)).split(batch_size)
        return _joined([network(split.inputs(indices, "none", None)).float() for indices in batches])


def features(fabric: Any, model: Model, split: LoadedSplit, batch_size: int) -> LoadedSplit:
    """The same examples, as features of the frozen backbone, (N, D) or (N, steps, D)."""
    backbone = model.backbone.eval()
    batches = torch.arange(len(split.targets)).split(batch_size)
    with torch.no_grad(), fabric.autocast():
        computed = _joined([
            backbone(split.inputs(indices, "none", None)).float()
            for indices in tqdm(batches, desc="features", disable=None, leave=False)
        ])  # fmt: skip
    return LoadedSplit(lambda indices, level, draws: computed[indices], split.targets, num_draws=0)


def compute_head(fabric: Any, model: Model, train: LoadedSplit, batch_size: int) -> None:
    """Compute a head that is not trained from the training features."""
    computed = features(fabric, model, train, batch_size)
    head: Any = model.head
    head.compute(computed.inputs(torch.arange(len(train.targets)), "none", None), train.targets)


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """Join batches into one tensor; sequences are as long as the longest of their batch."""
    longest = max(part.shape[1] for part in parts) if parts[0].ndim > 2 else 0
    return torch.cat([pad(part, (0, 0, 0, longest - part.shape[1])) if part.ndim == 3 else part for part in parts])
