"""Common wrong preprocessings of images, which the advisor tries (stages.lib.advice.preprocessing)."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import interpolate

from stages.lib.core.contracts import Variant
from stages.lib.modalities.image.inputs import to_network

# Mean and std that the weights may have been trained with instead of the card's; for grey images, the mean over the channels.
NORMALISATIONS = {
    "no normalisation": ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
    "mean and std 0.5": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    "ImageNet mean and std": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "0 to 255": ([0.0, 0.0, 0.0], [1 / 255, 1 / 255, 1 / 255]),
}
TRAINED_SIZE = "the size the weights were trained at"


def as_on_card(images: torch.Tensor, preprocessing: dict[str, Any]) -> torch.Tensor:
    """The card's preprocessing, with the arguments of a variant: (N, H, W, C) uint8 -> (N, C, H, W) float32."""
    return to_network(images, preprocessing["mean"], preprocessing["std"])


def _normalised(mean: list[float], std: list[float]) -> Callable[[torch.Tensor, dict[str, Any]], torch.Tensor]:
    def prepare(images: torch.Tensor, preprocessing: dict[str, Any]) -> torch.Tensor:
        return to_network(images, *(values if images.shape[3] == 3 else _grey(values) for values in (mean, std)))

    return prepare


def _grey(values: list[float]) -> list[float]:
    return [sum(values) / len(values)]


def _bgr(images: torch.Tensor, preprocessing: dict[str, Any]) -> torch.Tensor:
    """As if training read its images with OpenCV and did not convert BGR to RGB; grey images stay the same."""
    return as_on_card(images.flip(-1), preprocessing)


def _trained_size(images: torch.Tensor, preprocessing: dict[str, Any]) -> torch.Tensor:
    return _resized(as_on_card(images, preprocessing), [preprocessing["px"]] * 2)


def _half_size(images: torch.Tensor, preprocessing: dict[str, Any]) -> torch.Tensor:
    return _resized(as_on_card(images, preprocessing), [max(1, side // 2) for side in images.shape[1:3]])


def _resized(inputs: torch.Tensor, sides: list[int]) -> torch.Tensor:
    if list(inputs.shape[2:]) == sides:
        return inputs
    return interpolate(inputs, sides, mode="bilinear", align_corners=False, antialias=True)


def _normalisation(name: str) -> Variant:
    mean, std = NORMALISATIONS[name]
    remedy = (
        f"The weights were probably trained with {name}, and not with the mean and std on their card. Look up how they were "
        f"trained; if so, set source.<name>.preprocessing.mean to {_numbers(mean)} and source.<name>.preprocessing.std to "
        f"{_numbers(std)} (for grey images {_numbers(_grey(mean))} and {_numbers(_grey(std))})."
    )
    return Variant(_normalised(mean, std), remedy, "normalisation", values=True)


def _numbers(values: list[float]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"


# Each takes (N, H, W, C) uint8 and a card's preprocessing (mean, std, px) and returns (N, C, H', W') float32.
VARIANTS: dict[str, Variant] = {
    **{name: _normalisation(name) for name in NORMALISATIONS},
    "BGR": Variant(
        _bgr,
        "The weights were probably trained with channels in the order blue, green, red, and this pipeline gives red, green, "
        "blue. Look up how they were trained; if so, reverse the input channels of the first convolution in their file "
        "(weight.flip(1)), and source.<name>.preprocessing.mean and std with them.",
        values=True,
    ),
    TRAINED_SIZE: Variant(
        _trained_size,
        "This does not mean that the card is wrong: these features are better at the side of source.<name>.preprocessing.px. "
        "Consider that value for datasets.<name>.px, if the time that it takes allows it.",
    ),
    "half size": Variant(
        _half_size,
        "This does not mean that the card is wrong: what tells the classes apart may be coarse, or near the scale of the images "
        "that the weights were trained on. Consider a smaller datasets.<name>.px, which also takes less time.",
    ),
}
