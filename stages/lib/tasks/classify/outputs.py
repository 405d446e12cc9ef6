"""From the outputs of the network to its probabilities; the rest of what evaluation needs starts without torch."""

import numpy as np
import torch


def activation(outputs: torch.Tensor) -> torch.Tensor:
    """Probabilities (N, C) from logits (N, C)."""
    return outputs.softmax(1)


def predictions(outputs: torch.Tensor) -> np.ndarray:
    """The network's predictions: probabilities (N, C) in float32."""
    probabilities: np.ndarray = activation(outputs).cpu().numpy()
    return probabilities
