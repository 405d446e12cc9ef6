"""The optimizer and its learning rate schedules."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from stages.lib.networks.backbones import Model
from stages.lib.networks.layers import blocks

ONE_CYCLE_RISE, ONE_CYCLE_START = 0.3, 1 / 25  # fraction of epochs in which the rate rises, and initial rate (Smith 2018)


def groups(model: Model, lrs: dict[str, float]) -> dict[str, list[str]]:
    """Group the names of the trainable tensors by learning rate, under readable labels.

    Returns:
        "head", and "backbone" if it has a single rate, else the blocks that share one ("blocks.3", "blocks.0..blocks.2";
        "backbone.head" if the backbone itself has a block called head).
    """
    by_rate: dict[float, dict[str, list[str]]] = {}
    for block, tensors in blocks(model).items():
        for tensor in tensors:
            if tensor in lrs:
                by_rate.setdefault(lrs[tensor], {}).setdefault(block, []).append(tensor)
    named = {}
    for members in by_rate.values():
        first, last = next(iter(members)), next(reversed(members))
        label = "backbone" if len(by_rate) == 1 else first if first == last else f"{first}..{last}"
        label = f"backbone.{label}" if label.startswith("head") else label
        while label in named:  # a block may have several rates
            label += "'"
        named[label] = [tensor for tensors in members.values() for tensor in tensors]
    head: dict[float, list[str]] = {}
    for tensor, rate in lrs.items():
        if tensor.startswith("head."):
            head.setdefault(rate, []).append(tensor)
    return named | {"head" + "'" * number: tensors for number, tensors in enumerate(head.values())}


def build(
    model: Model,
    lrs: dict[str, float],
    *,
    optimizer: str,
    momentum: float,
    weight_decay: float,
    others: Sequence[tuple[str, list[torch.nn.Parameter], float]] = (),
) -> torch.optim.Optimizer:
    """An optimizer with one group per learning rate, without weight decay on norms and biases.

    Args:
        lrs: peak learning rate of each trainable parameter, by name.
        optimizer: "sgd" (Nesterov), "adam" (decay as an L2 penalty) or "adamw" (decoupled decay).
        momentum: of SGD; of Adam, beta1.
        weight_decay: for matrices and kernels.
        others: parameters outside the model (those of a criterion or penalty), each as a group: its label and learning rate.
    """
    parameters = dict(model.named_parameters())
    options: list[dict[str, Any]] = []
    for label, names in groups(model, lrs).items():
        for decay, matrices in ((weight_decay, True), (0.0, False)):
            members = [parameters[name] for name in names if (parameters[name].ndim > 1) == matrices]
            if members:
                peak = lrs[names[0]]
                options.append({"params": members, "lr": peak, "peak_lr": peak, "weight_decay": decay, "label": label})
    for label, outside, peak in others:
        options.append({"params": outside, "lr": peak, "peak_lr": peak, "weight_decay": weight_decay, "label": label})
    if optimizer == "sgd":
        return torch.optim.SGD(options, momentum=momentum, nesterov=momentum > 0, fused=True)
    kinds: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[optimizer](options, betas=(momentum, 0.999), fused=True)


def schedule(kind: str, progress: float, epochs: float, warmup_epochs: float) -> float:
    """Fraction of the peak learning rate after `progress` epochs.

    Args:
        kind: after a linear warm-up from 0, "constant"; "cosine", half a cosine down to 0; "step", a tenth from half of
            the epochs on and a hundredth from three quarters on (He et al., CVPR 2016, on CIFAR). "one_cycle" has its own
            warm-up: from 1/25 up to the peak in the first 30 % of the epochs, then down to 0, both as cosines (Smith, 2018,
            arXiv 1803.09820; without its momentum cycle).
    """
    if kind == "one_cycle":
        up = rise(kind, epochs, warmup_epochs)
        if progress < up:
            return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * _falling(1 - progress / up)
        return _falling((progress - up) / max(epochs - up, 1e-9))
    if progress < warmup_epochs:
        return progress / warmup_epochs
    if kind == "cosine":
        return _falling((progress - warmup_epochs) / max(epochs - warmup_epochs, 1e-9))
    if kind == "step":
        return 1.0 if progress < epochs / 2 else 0.1 if progress < 0.75 * epochs else 0.01
    return 1.0


def rise(kind: str, epochs: float, warmup_epochs: float) -> float:
    """Epochs until `schedule` reaches its peak."""
    return ONE_CYCLE_RISE * epochs if kind == "one_cycle" else warmup_epochs


def _falling(share: float) -> float:
    """Half a cosine, from 1 at 0 to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
