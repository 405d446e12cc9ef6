"""From the outputs of the network to its texts; the rest of what evaluation needs starts without torch."""

import numpy as np
import torch

from stages.lib.tasks.transcribe import decoding
from stages.lib.tasks.transcribe.measures import joined


def activation(outputs: torch.Tensor) -> torch.Tensor:
    """Probabilities (N, T, C) of the blank and of each character; all are equal in padded frames."""
    return outputs.softmax(-1)


def predictions(outputs: torch.Tensor) -> np.ndarray:
    """The text of each utterance with its confidence, from outputs (N, T, C): (N, 1 + L)."""
    confidence, rows = decoding.greedy(outputs)
    return joined(confidence, rows)
