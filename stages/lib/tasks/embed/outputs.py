"""From the outputs of the network to its embeddings; the rest of what evaluation needs starts without torch."""

import numpy as np
import torch
from torch.nn.functional import normalize


def activation(outputs: torch.Tensor) -> torch.Tensor:
    """Embeddings (N, D) of length 1 from any."""
    return normalize(outputs)


def predictions(outputs: torch.Tensor) -> np.ndarray:
    """The network's embeddings (N, D) of length 1 in float32."""
    embeddings: np.ndarray = activation(outputs).cpu().numpy()
    return embeddings
