"""A text network that runs without this code: from pieces to predictions. The tokenizer is written beside it."""

from collections.abc import Callable
from typing import Any

import torch

from stages.lib.modalities.text.inputs import Texts, tokenizer_of
from stages.lib.networks.heads import EachStep

VARYING = (0, 1)  # dimensions of the inputs that may have any size


class Standalone(torch.nn.Module):
    """Runs the model and turns its outputs into predictions."""

    def __init__(self, model: torch.nn.Module, activation: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.model, self.activation = model, activation


class PerText(Standalone):
    """One prediction for each text; where words begin does not matter."""

    def forward(self, pieces: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.activation(self.model(Texts(pieces, mask, pieces[:, :0])))


class PerWord(Standalone):
    """One prediction for each word."""

    def forward(self, pieces: torch.Tensor, mask: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        return self.activation(self.model(Texts(pieces, mask, starts)))


def network(model: Any, preprocessing: dict[str, Any], activation: Callable[[torch.Tensor], torch.Tensor]) -> torch.nn.Module:
    """The network from pieces (N, T) and mask (N, T), and for outputs per word starts (N, W), to predictions."""
    return (PerWord if isinstance(model.head, EachStep) else PerText)(model, activation)


def examples(preprocessing: dict[str, Any], num: int) -> Texts:
    """Random pieces, for testing: texts of different lengths, in which every second piece begins a word."""
    generator = torch.Generator().manual_seed(num)
    length = min(preprocessing["max_tokens"], 8 + num)
    lengths = torch.randint(3, length + 1, (num,), generator=generator)
    mask = torch.arange(length) < lengths[:, None]
    pieces = torch.randint(0, tokenizer_of(preprocessing).get_vocab_size(), (num, length), generator=generator) * mask
    starts = (torch.arange(1, length, 2)[None] * torch.ones(num, 1, dtype=torch.int64)).masked_fill(~mask[:, 1::2], -1)
    return Texts(pieces, mask, starts)
