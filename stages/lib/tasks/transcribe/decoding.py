"""From a network's outputs (n, T, C) for each frame to texts."""

import numpy as np
import torch

from stages.lib.core.contracts import NO_STEP
from stages.lib.tasks.transcribe.alphabet import BLANK, SPACE

CHUNK = 32  # utterances that are decoded, or whose loss is computed, at once; a whole split would need gigabytes


def frames(outputs: torch.Tensor) -> torch.Tensor:
    """Which frames are real (n, T), and not padding; what is not a number is real, so that a training that diverges shows it."""
    return ~(outputs[..., 0] < NO_STEP / 2)


def best_path(outputs: torch.Tensor) -> torch.Tensor:
    """The most likely index in each frame (n, T); the blank in padded frames."""
    return outputs.argmax(-1).masked_fill(~frames(outputs), BLANK)


def greedy(outputs: torch.Tensor) -> tuple[np.ndarray, list[list[int]]]:
    """The text of the best path: repeated characters are one, then blanks are dropped, then spaces as in every transcript.

    Returns:
        The confidence of each text (n,) in float32: the mean probability of the characters on the best path, over the frames that
        have one. Blanks do not count, as in NVIDIA's Riva: they are most of the frames, and nearly certain. A text without
        characters has the mean probability of its blanks, and 0 if there are no frames at all.
        The indices of its characters.

    Reference:
        Graves et al., Connectionist Temporal Classification, ICML 2006 (best path decoding).
    """
    confidences, rows = [], []
    for part in outputs.split(CHUNK) if outputs.numel() else ():
        best, real = best_path(part), frames(part)
        chances = part.softmax(-1).gather(-1, best[..., None])[..., 0].cpu().numpy().astype(np.float64)
        for path, chance, held in zip(best.cpu().numpy(), chances, real.cpu().numpy(), strict=True):
            counted = path != BLANK if (path != BLANK).any() else held
            confidences.append(chance[counted].mean() if counted.any() else 0.0)
            starts = (path != BLANK) & (path != np.concatenate([[BLANK], path[:-1]]))
            rows.append(_spaced(path[starts].tolist()))
    return np.array(confidences, dtype=np.float32), rows


def _spaced(row: list[int]) -> list[int]:
    """Without spaces at the ends, and with single ones between words: a model need not learn what every transcript has."""
    kept = [index for index, before in zip(row, [SPACE, *row], strict=False) if index != SPACE or before != SPACE]
    return kept[:-1] if kept[-1:] == [SPACE] else kept
