"""Which parts of an image a prediction is based on."""

from typing import Any

import torch
from torch import nn

from stages.lib.networks.backbones import Model


def grad_cam(model: Model, inputs: torch.Tensor, classes: torch.Tensor) -> torch.Tensor | None:
    """Heat maps of the parts of each image that support a class.

    The sum of the backbone's last feature maps, each weighted by the gradient of the class score with respect to it, averaged
    over the image; negative evidence is left out. They are as coarse as the feature maps (1/32 of the side in most networks).

    Args:
        model: in evaluation mode.
        inputs: (N, C, H, W) as the network takes them.
        classes: (N,) the class whose score is explained, for each image.

    Returns:
        (N, H, W) from 0 to 1, where 1 is the strongest location in each image; all 0 if nothing supports the class. None
        if the backbone has no feature maps (a transformer works on tokens).

    Reference:
        Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017
        (arXiv 1610.02391).
    """
    maps: list[torch.Tensor] = []

    def keep(module: nn.Module, given: tuple[Any, ...], output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            maps[:] = [output]  # the last one computed is kept
        elif isinstance(output, torch.Tensor) and output.ndim == 3:
            maps.clear()  # tokens: earlier maps do not explain the prediction

    hooks = [module.register_forward_hook(keep) for module in model.backbone.modules()]
    try:
        with torch.enable_grad():
            scores = model(inputs.detach().requires_grad_())
            if not maps:
                return None
            (gradient,) = torch.autograd.grad(scores.gather(1, classes[:, None]).sum(), maps[0])
    finally:
        for hook in hooks:
            hook.remove()
    last = maps[0].detach()
    if last.shape[1] == last.shape[2] != last.shape[3]:  # some networks have channels last (Swin)
        last, gradient = last.permute(0, 3, 1, 2), gradient.permute(0, 3, 1, 2)
    coarse = (gradient.mean((2, 3), keepdim=True) * last).sum(1, keepdim=True).relu()
    coarse = coarse / coarse.amax((2, 3), keepdim=True).clamp(min=torch.finfo(coarse.dtype).tiny)
    return nn.functional.interpolate(coarse, inputs.shape[2:], mode="bilinear", align_corners=False)[:, 0]
