"""The moving average of a network's weights and statistics, in a few kernels for all tensors."""

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def updates(
    average: AveragedModel, network: nn.Module, declared: Mapping[str, str], prefix: str
) -> Callable[[float], None]:  # fmt: skip
    """How the average follows the network: a function to call after each step, with the decay per step.

    What is frozen is left alone: it is in both with the same bits, and they stay. The first call copies, and the decay is smaller
    in the first steps (as in TensorFlow). Nothing waits for a GPU, because the steps are counted on the CPU.

    Args:
        average: of `network`, made from it.
        declared: whether each tensor of the model may change (stages.lib.training.certificate).
        prefix: of the network's tensors in these names: "head." if it is only the head of the model.
    """
    ours, theirs = _tensors(average.module), _tensors(network)
    moving = [name for name in ours if declared.get(prefix + name, "frozen") != "frozen"]
    floats = [name for name in moving if ours[name].is_floating_point()]
    counters = [name for name in moving if name not in set(floats)]

    def update(decay: float) -> None:
        so_far = int(average.n_averaged)
        copied = counters if so_far else moving
        if copied:
            torch._foreach_copy_([ours[name] for name in copied], [theirs[name] for name in copied])
        if so_far:
            weight = 1 - min(decay, (1 + so_far) / (10 + so_far))
            torch._foreach_lerp_([ours[name] for name in floats], [theirs[name] for name in floats], weight)
        average.n_averaged += 1

    return update


def _tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors themselves, which every step changes in place; one that has two names only once."""
    return {name: tensor.detach() for name, tensor in (*network.named_parameters(), *network.named_buffers())}
