"""From the outputs of the network to its tags; the rest of what evaluation needs starts without torch."""

import numpy as np
import torch

from stages.lib.core.contracts import NO_STEP


def activation(outputs: torch.Tensor) -> torch.Tensor:
    """Probabilities (N, S, C) of each word's tags from logits (N, S, C); the same for all tags where there is no word."""
    return outputs.softmax(2)


def predictions(outputs: torch.Tensor) -> np.ndarray:
    """The network's predictions (N, S, 2) in float32: each word's most likely tag and its probability, both -1 where there is no
    output."""
    probability = activation(outputs).max(2)
    both = torch.stack([probability.indices.float(), probability.values], 2)
    found: np.ndarray = both.masked_fill(outputs[..., :1] < NO_STEP / 2, -1).cpu().numpy()
    return found
