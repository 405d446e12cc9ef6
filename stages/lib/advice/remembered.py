"""Is this the preprocessing that the weights were trained with? The first BatchNorm layer remembers what its inputs were like.

Its running mean and variance describe the inputs of training after one convolution, so a wrong mean and std, or swapped channels,
show at once, without labels. Only where some preprocessing gives statistics near the remembered ones can this tell: if images
are unlike those of training whatever is done to them (drawings, digits), nearest neighbours are asked (`preprocessing`).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.modules.batchnorm import _NormBase

from stages.lib.core.contracts import Variant
from stages.lib.evaluation import statistics

NEAR = (
    0.4  # nats per channel: with the right preprocessing, photos are 0.01 to 0.2 from ImageNet's, drawings and digits 0.5 or more
)


class Row(NamedTuple):
    """One variant compared with the card's preprocessing by the statistics of the same examples."""

    name: str
    divergence: float  # of what the layer sees from what it remembers: nats per channel, 0 for the same
    reduction: float  # by which it is lower than with the card's preprocessing, as a fraction of that
    lower: float  # lower bound of the reduction
    wins: bool  # whether that is above 0


class _Seen(Exception):
    """Ends a forward pass at the layer that was looked for."""


def moments(backbone: torch.nn.Module, batches: Iterable[Callable[[], Any]]) -> tuple[_NormBase, np.ndarray] | None:
    """The first BatchNorm layer that a network runs, and the mean and mean square of its inputs by example and channel (N, C, 2).

    None if there is no such layer, or if it remembers nothing (a mean of 0 and a variance of 1 everywhere).
    """
    layers = [each for each in backbone.modules() if isinstance(each, _NormBase) and each.running_mean is not None]
    found: list[tuple[_NormBase, torch.Tensor]] = []

    def look(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].float().cpu().double().flatten(2)
        assert isinstance(layer, _NormBase)
        found.append((layer, torch.stack([values.mean(2), values.square().mean(2)], 2)))
        raise _Seen

    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        with torch.inference_mode():
            for batch in batches:
                try:
                    backbone(batch())
                except _Seen:
                    continue
                return None  # no layer was reached
    finally:
        for hook in hooks:
            hook.remove()
    first = found[0][0]
    mean, variance = _remembered(first)
    if not mean.any() and (variance == variance[0]).all():
        return None
    return first, torch.cat([each for _, each in found]).numpy()


def divergence(layer: _NormBase, seen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How far what a layer sees is from what it remembers: the Kullback-Leibler divergence of two Gaussians, mean over channels.

    Args:
        seen: (N, C, 2) from `moments`.
        weights: (B, N) how often each example counts.

    Returns:
        (B,) nats per channel.
    """
    mean, variance = _remembered(layer)
    both = np.tensordot(weights / weights.sum(1, keepdims=True), seen, 1)  # (B, C, 2)
    ratio = ((both[..., 1] - both[..., 0] ** 2).clip(0) + layer.eps) / variance
    found: np.ndarray = 0.5 * (ratio + (both[..., 0] - mean) ** 2 / variance - 1 - np.log(ratio)).mean(1)
    return found


def compare(
    layer: _NormBase,
    seen: Mapping[str, np.ndarray],
    *,
    groups: np.ndarray | None,
    confidence: float,
    num_resamples: int,
    seed: int,
) -> list[Row]:
    """How much nearer each variant is to what the layer remembers than the card's preprocessing, or whether that is chance.

    Args:
        seen: (N, C, 2) by name: "card", and the variants.
        groups: (N,) examples of a group are drawn together; or None.
        confidence: of all lower bounds together, as in `preprocessing.compare`.

    Returns:
        One row for the card (a reduction of 0), then one per variant, in the given order.
    """

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {name: divergence(layer, each, weights) for name, each in seen.items()}

    num = len(seen["card"])
    values, samples = statistics.bootstrap(measure, groups, num_examples=num, num_resamples=num_resamples, seed=seed)
    rows = []
    for name in seen:
        reduction = (values["card"] - values[name]) / max(values["card"], 1e-9)
        reductions = (samples["card"] - samples[name]) / samples["card"].clip(1e-9)
        lower = statistics.interval(reductions, 1 - (1 - confidence) / max(1, len(seen) - 1))[0]
        rows.append(Row(name, float(values[name]), float(reduction), float(lower), bool(lower > 0)))
    return rows


def decides(rows: list[Row]) -> bool:
    """Whether any of the preprocessings gives statistics near the remembered ones; else this comparison says nothing."""
    return bool(rows) and min(row.divergence for row in rows) <= NEAR


def words(rows: list[Row], variants: Mapping[str, Variant], margin: float) -> list[str]:
    """The nearest variant as a warning; none if the card's preprocessing is the nearest, or nearly."""
    if not decides(rows):
        return []
    best = min(rows, key=lambda row: row.divergence)
    card = next(row for row in rows if row.name == "card")
    if not best.wins or best.reduction <= margin:
        return []
    return [
        f"The first normalisation layer remembers what its inputs were like in training. With {best.name} the target's training "
        f"examples are nearer to that ({best.divergence:.3f} nats per channel) than with the preprocessing on the card "
        f"({card.divergence:.3f}). {variants[best.name].remedy}"
    ]


def _remembered(layer: _NormBase) -> tuple[np.ndarray, np.ndarray]:
    """Running mean and variance (C,), the variance with the layer's epsilon."""
    assert layer.running_mean is not None and layer.running_var is not None, "so were the layers chosen"
    return layer.running_mean.cpu().double().numpy(), layer.running_var.cpu().double().numpy() + layer.eps
