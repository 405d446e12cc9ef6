"""Mixup and cutmix: a batch mixed with a shuffled copy of itself."""

from typing import NamedTuple

import numpy as np
import torch


class Mix(NamedTuple):
    """How one batch is mixed, decided before it is shared between processes."""

    partner: torch.Tensor  # (N,) position in the batch that each example is mixed with
    share: float  # of its own label that an example keeps
    box: tuple[float, float, float, float] | None  # top, bottom, left, right of the pasted part, as shares of the side


def draw(num: int, *, mixup: float, cutmix: float, chance: np.random.Generator) -> Mix | None:
    """Decide how a batch of `num` examples is mixed; None if neither is asked for.

    Args:
        mixup: alpha of Beta(alpha, alpha), from which the share is drawn (Zhang et al., ICLR 2018); 0 for none.
        cutmix: the same for cutmix (Yun et al., ICCV 2019). With both, each batch takes one of them, by a coin.
    """
    if not mixup and not cutmix:
        return None
    cut = bool(cutmix) and (not mixup or chance.random() < 0.5)
    share = float(chance.beta(cutmix, cutmix) if cut else chance.beta(mixup, mixup))
    partner = torch.from_numpy(chance.permutation(num))
    if not cut:
        return Mix(partner, share, None)
    half = (1 - share) ** 0.5 / 2
    ends = [(max(0.0, centre - half), min(1.0, centre + half)) for centre in chance.random(2)]
    return Mix(partner, share, (*ends[0], *ends[1]))


def apply(inputs: torch.Tensor, others: torch.Tensor, mix: Mix) -> tuple[torch.Tensor, float]:
    """Mix images with their partners.

    Args:
        inputs, others: (N, C, H, W); `others` are the partners, in the same order.

    Returns:
        The mixed images, and the share of their own labels: for cutmix, that of the pixels that stayed.
    """
    if mix.box is None:
        return inputs.lerp(others, 1 - mix.share), mix.share
    height, width = inputs.shape[2:]
    top, bottom, left, right = (round(end * side) for end, side in zip(mix.box, (height, height, width, width), strict=True))
    inputs = inputs.clone(memory_format=torch.preserve_format)
    inputs[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
    return inputs, 1 - (bottom - top) * (right - left) / (height * width)
