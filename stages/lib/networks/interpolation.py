"""Interpolation between the weights of two networks of the same architecture."""

import torch


def between(start: dict[str, torch.Tensor], end: dict[str, torch.Tensor], alpha: float) -> dict[str, torch.Tensor]:
    """Tensors on the line from start (alpha 0) to end (alpha 1), exact at both ends; counters are those of the end."""
    mixed = {}
    for name, last in end.items():
        first = start[name].to(last.device)
        mixed[name] = torch.lerp(first, last, alpha) if last.is_floating_point() else last
    return mixed
