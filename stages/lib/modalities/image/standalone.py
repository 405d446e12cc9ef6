"""An image network that runs without this code: from packed pixels to predictions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from stages.lib.modalities.image.inputs import normalise

VARYING = (0,)  # dimensions of the input that may have any size


class Standalone(torch.nn.Module):
    """Normalises, runs the model and turns its outputs into predictions."""

    def __init__(self, model: torch.nn.Module, preprocessing: dict[str, Any], activation: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.model, self.preprocessing, self.activation = model, preprocessing, activation

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.activation(self.model(normalise(inputs, self.preprocessing).contiguous()))


def network(
    model: torch.nn.Module, preprocessing: dict[str, Any], activation: Callable[[torch.Tensor], torch.Tensor]
) -> torch.nn.Module:
    """The network from pixels (N, px, px, C) uint8 to predictions."""
    return Standalone(model, preprocessing, activation)


def examples(preprocessing: dict[str, Any], num: int) -> torch.Tensor:
    """Packed images of random noise, for testing."""
    shape = (num, preprocessing["px"], preprocessing["px"], len(preprocessing["mean"]))
    return torch.from_numpy(np.random.default_rng(num).integers(0, 256, shape, dtype=np.uint8))
