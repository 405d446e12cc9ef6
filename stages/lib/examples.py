"""What training and evaluation see of a dataset: labels, and a way to get inputs."""

from collections.abc import Callable
from typing import NamedTuple

import torch


class Examples(NamedTuple):
    """Labelled examples, of whatever kind the network takes."""

    inputs: Callable[..., torch.Tensor]  # (indices, augment level, draws) to a batch on the device; draws may be None
    labels: torch.Tensor  # (N,) int64 on the device
    num_draws: int  # random numbers that `inputs` needs for each example
