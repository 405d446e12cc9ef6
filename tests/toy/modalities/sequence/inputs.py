"""Sequences: from text to packed numbers, and from these to padded batches."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
import torch

from stages.lib.core.contracts import LoadedSplit
from stages.lib.core.datasets import PackedSplit


class Batch(NamedTuple):
    """What the network takes."""

    values: torch.Tensor  # (n, steps, 1), padded with 0
    mask: torch.Tensor  # (n, steps) bool: what is no padding


def decode(source: bytes) -> np.ndarray:
    """Numbers with spaces between them, (steps,)."""
    numbers = np.array(source.decode().split(), dtype=np.float32)
    if not len(numbers):
        raise ValueError("it holds no numbers")
    return numbers


def digest(numbers: np.ndarray) -> str:
    """Equal for equal numbers."""
    return hashlib.sha256(numbers.tobytes()).hexdigest()


def packing(most_steps: int, preprocessing: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `pack`."""
    return {"most_steps": most_steps}


def mismatch(packing: dict[str, Any], preprocessing: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Nothing about packing depends on the weights."""
    return {}


def pack(numbers: np.ndarray, *, most_steps: int) -> np.ndarray:
    """The first steps, (steps, 1)."""
    return numbers[:most_steps, None]


def remarks(numbers: np.ndarray, preprocessing: dict[str, Any]) -> dict[str, float]:
    """Whether some steps are left out."""
    lost = len(numbers) - preprocessing["most_steps"]
    return {"are cut and lose {:.0f} steps together": float(lost)} if lost > 0 else {}


def load(split: PackedSplit, targets: torch.Tensor, preprocessing: dict[str, Any], device: torch.device) -> LoadedSplit:
    """Batches padded to their longest sequence."""

    def inputs(indices: torch.Tensor, level: str, draws: torch.Tensor | None) -> Batch:
        rows = [torch.from_numpy(np.array(row)) for row in split.rows(indices.numpy())]
        values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = torch.arange(values.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
        values = (values - preprocessing["mean"]) / preprocessing["std"]
        if level == "noise":
            assert draws is not None
            values = values + 0.01 * draws[:, None]
        return Batch((values * mask[:, :, None]).to(device), mask.to(device))

    return LoadedSplit(inputs, targets.to(device), num_draws=1)


def probe(preprocessing: dict[str, Any], device: torch.device) -> Batch:
    """One sequence of two zeros."""
    return Batch(torch.zeros(1, 2, 1, device=device), torch.ones(1, 2, dtype=torch.bool, device=device))
