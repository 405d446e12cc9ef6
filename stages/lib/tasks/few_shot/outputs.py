"""From the outputs of the network to its embeddings; the rest of what evaluation needs starts without torch."""

import numpy as np
import torch


def activation(outputs: torch.Tensor) -> torch.Tensor:
    """Embeddings (N, D), as the network gives them: their length matters to Euclidean prototypes."""
    return outputs


def predictions(outputs: torch.Tensor) -> np.ndarray:
    """Embeddings (N, D) in float32."""
    embeddings: np.ndarray = activation(outputs).cpu().numpy()
    return embeddings
