"""Mixup and cutmix: a batch is mixed with a shuffled copy of itself. The modality defines how inputs are mixed (`mix`)."""

import numpy as np
import torch

from stages.lib.core.contracts import Mix


def draw(num: int, *, mixup: float, cutmix: float, random: np.random.Generator) -> Mix | None:
    """Decide how a batch of `num` examples is mixed; None if both are off.

    Args:
        mixup: alpha of Beta(alpha, alpha), from which the fraction is drawn (Zhang et al., ICLR 2018); 0 turns it off.
        cutmix: the same for cutmix (Yun et al., ICCV 2019). With both, each batch uses one of them, with equal probability.
    """
    if not mixup and not cutmix:
        return None
    cut = bool(cutmix) and (not mixup or random.random() < 0.5)
    fraction = float(random.beta(cutmix, cutmix) if cut else random.beta(mixup, mixup))
    partner = torch.from_numpy(random.permutation(num))
    if not cut:
        return Mix(partner, fraction, None)
    half = (1 - fraction) ** 0.5 / 2
    ends = [(max(0.0, centre - half), min(1.0, centre + half)) for centre in random.random(2)]
    return Mix(partner, fraction, (*ends[0], *ends[1]))
