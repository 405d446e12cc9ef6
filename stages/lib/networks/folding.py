"""Frozen networks with fewer steps: a normalisation by fixed statistics is a part of the convolution before it."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NEAR = 1e-4  # how far outputs may be from those of the network itself, as a fraction of the largest: rounding is 100 times less


def folded(network: nn.Module, some: Callable[[], Any]) -> nn.Module:
    """A copy of a network in evaluation mode that computes the same with its BatchNorms folded into the convolutions before them.

    Which convolution a BatchNorm follows is seen, not guessed: by the tensors that pass when the network sees a few examples. The
    copy has to give the same for them, or the network itself is returned; so it is if there is nothing to fold, and under
    autocast, whose rounding would differ.

    Args:
        network: in evaluation mode.
        some: gives a few inputs, such as it will see.

    Returns:
        What gives (n, ...) for the same inputs as `network` does, up to rounding in float32.

    Reference:
        Jacob et al., Quantization and Training of Neural Networks, CVPR 2018 (arXiv 1712.05877), section 3.2.
    """
    rounded = any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))
    if rounded or not any(isinstance(module, _BatchNorm) for module in network.modules()):
        return network
    with torch.inference_mode():
        inputs = some()
        wanted, pairs = _seen(network, inputs)
    if not pairs:
        return network
    made = copy.deepcopy(network)
    with torch.no_grad():
        for convolution, norm in pairs:
            before: Any = made.get_submodule(convolution)
            after: Any = made.get_submodule(norm)
            before.weight, before.bias = fuse_conv_bn_weights(
                before.weight, before.bias, after.running_mean, after.running_var, after.eps, after.weight, after.bias
            )
            made.set_submodule(norm, nn.Sequential(*after.children()))  # those of timm hold the activation
    with torch.inference_mode():
        same = (made(inputs) - wanted).abs().max() <= NEAR * wanted.abs().max()
    return made if same else network


def _seen(network: nn.Module, inputs: Any) -> tuple[torch.Tensor, list[tuple[str, str]]]:
    """What a network gives for some inputs, and the names of its convolutions and of the BatchNorms that are given their outputs;
    only of those that are called once."""
    made: list[tuple[str, torch.Tensor]] = []  # all outputs of convolutions, which are kept so that no other takes their place
    taken: list[tuple[str, torch.Tensor]] = []
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, CONVOLUTIONS):
            hooks.append(module.register_forward_hook(lambda _, __, output, name=name: made.append((name, output))))
        elif isinstance(module, _BatchNorm) and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(lambda _, given, name=name: taken.append((name, given[0]))))
    try:
        outputs: torch.Tensor = network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    maker = {id(output): name for name, output in made}
    calls = [name for name, _ in (*made, *taken)]
    pairs = [(maker[id(tensor)], norm) for norm, tensor in taken if id(tensor) in maker]
    return outputs, [pair for pair in pairs if all(calls.count(name) == 1 for name in pair)]
