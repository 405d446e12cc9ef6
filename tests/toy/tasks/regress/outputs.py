"""From the outputs of the network to its numbers; the rest of what evaluation needs starts without torch."""

import numpy as np
import torch


def activation(outputs: torch.Tensor) -> torch.Tensor:
    """The number itself (N,)."""
    return outputs[:, 0]


def predictions(outputs: torch.Tensor) -> np.ndarray:
    """Numbers (N,)."""
    return activation(outputs).cpu().numpy()
