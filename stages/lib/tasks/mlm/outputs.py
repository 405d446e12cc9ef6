"""From the outputs of the network to its answers; the rest of what evaluation needs starts without torch."""

import numpy as np
import torch

from stages.lib.core.contracts import NO_STEP


def activation(outputs: torch.Tensor) -> torch.Tensor:
    """The outputs themselves (N, K, 4): the head has compared them already."""
    return outputs


def predictions(outputs: torch.Tensor) -> np.ndarray:
    """The network's predictions (N, K, 4) in float32."""
    probability, numbers = outputs[..., :1].clamp_max(0).exp(), outputs[..., 1:3].round().clamp_min(0)
    both = torch.cat([probability, numbers, outputs[..., 3:].clamp(0, 1)], -1)
    found: np.ndarray = both.float().masked_fill(outputs[..., :1] < NO_STEP / 2, -1).cpu().numpy()
    return found
