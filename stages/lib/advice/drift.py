"""How far new data are from the data that a network was trained on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.modules.batchnorm import _NormBase


class Drift:
    """How far the target's examples are from the starting point's last training data, according to its BatchNorm layers.

    A layer's running mean and variance describe the distribution of its inputs in training, so the distance to another dataset
    needs no example of the original one.

    Reference:
        Li et al., Adaptive Batch Normalization for practical domain adaptation, Pattern Recognition 2018.
    """

    def __init__(self, backbone: torch.nn.Module):
        self.sums: dict[str, list[Any]] = {}
        self.layers = {name: layer for name, layer in backbone.named_modules()
                       if isinstance(layer, _NormBase) and layer.running_mean is not None}  # fmt: skip
        self.hooks = [layer.register_forward_pre_hook(self._watch(name)) for name, layer in self.layers.items()]

    def _watch(self, name: str) -> Callable[..., None]:
        def add(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            values = inputs[0].cpu()
            # What the layer itself would compute in training: much faster than sums in double precision.
            unused = values.new_zeros(values.shape[1]), values.new_ones(values.shape[1])
            mean, variance = (each.double() for each in torch.batch_norm_update_stats(values, *unused, momentum=0))
            count = values.numel() // values.shape[1]
            seen = self.sums.setdefault(name, [0, 0.0, 0.0])
            seen[0] += count
            seen[1] = seen[1] + count * mean
            seen[2] = seen[2] + count * (variance + mean.square())

        return add

    def end(self) -> float | None:
        """Mean over layers and channels of the squared Frechet distance, in units of the running variance; 0 for the
        same examples, None without BatchNorm."""
        for hook in self.hooks:
            hook.remove()
        distances = []
        for name, (count, total, squares) in self.sums.items():
            layer = self.layers[name]
            assert layer.running_mean is not None and layer.running_var is not None, "so were the layers chosen"
            mean, remembered = total / count, layer.running_var.cpu().double() + layer.eps
            deviation = ((squares / count - mean.square()).clamp_min(0) + layer.eps).sqrt()
            squared = (mean - layer.running_mean.cpu()).square() + (deviation - remembered.sqrt()).square()
            distances.append((squared / remembered).mean().item())
        return float(np.mean(distances)) if distances else None
