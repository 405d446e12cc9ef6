"""An audio network that runs without this code: from samples to predictions."""

from collections.abc import Callable
from typing import Any

import torch

from stages.lib.modalities.audio.features import features, inside

VARYING = (0, 1)  # dimensions of the inputs that may have any size


class Standalone(torch.nn.Module):
    """Computes the features, runs the model and turns its outputs into predictions.

    Takes samples (N, S) float32 from -1 to 1, mono and at the card's sample rate, and how many of each are no padding (N,) int64.
    """

    def __init__(self, model: torch.nn.Module, preprocessing: dict[str, Any], activation: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.model, self.preprocessing, self.activation = model, preprocessing, activation

    def forward(self, waves: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        here = waves * inside(lengths, waves.shape[1])  # what is behind a recording's end may be anything
        return self.activation(self.model(features(here, lengths, self.preprocessing)))


def network(
    model: torch.nn.Module, preprocessing: dict[str, Any], activation: Callable[[torch.Tensor], torch.Tensor]
) -> torch.nn.Module:
    """The network from waves (N, S) float32 and lengths (N,) int64 to predictions."""
    return Standalone(model, preprocessing, activation)


def examples(preprocessing: dict[str, Any], num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of different lengths up to half a second, for testing."""
    generator = torch.Generator().manual_seed(num)
    longest = preprocessing["sample_rate"] * (10 + num) // 30
    lengths = torch.randint(longest // 2, longest + 1, (num,), generator=generator)
    lengths[-1] = longest
    waves = torch.randn(num, longest, generator=generator) / 10
    return waves * inside(lengths, longest), lengths
