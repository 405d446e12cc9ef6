"""Recordings: from files to packed samples (once), and from packed samples to network inputs (in every step)."""

import hashlib
import math
from typing import Any

import numpy as np
import torch
from scipy.signal import resample_poly
from torch.nn.functional import pad

from stages.lib.core.contracts import LoadedSplit
from stages.lib.core.datasets import PackedSplit
from stages.lib.errors import UserError
from stages.lib.modalities.audio.augmentation import NUM_DRAWS, changed, masked
from stages.lib.modalities.audio.features import HOP, MELS, Recordings, features
from stages.lib.modalities.audio.files import FULL, Recording, decode

__all__ = ["decode", "digest", "load", "mismatch", "pack", "packing", "probe", "remarks"]

LONGEST_LOG_MEL = 30  # seconds that Whisper's encoder has positions for
FEW = 64  # frames: a batch is padded to a multiple of it
MARGIN = 0.1  # seconds more than are kept, so that the end is filtered as if the recording had not been cut before
CLIPPED = 0.01  # fraction of a recording's samples at full scale from which it is told


def digest(recording: Recording) -> str:
    """SHA-256 of the decoded samples: equal for equal recordings, whatever the file format."""
    samples = recording.samples + 0.0  # there is a negative zero
    return hashlib.sha256(f"{recording.rate} ".encode() + samples.tobytes()).hexdigest()


def packing(max_seconds: float, preprocessing: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `pack`, from the dataset's block and the source's card."""
    if preprocessing["features"] in MELS and max_seconds > LONGEST_LOG_MEL:
        raise UserError(
            f"max_seconds: {max_seconds:g} is too long for features {preprocessing['features']}: Whisper hears at most "
            f"{LONGEST_LOG_MEL} seconds. Allowed: up to {LONGEST_LOG_MEL}; divide longer recordings before."
        )
    return {"sample_rate": preprocessing["sample_rate"], "max_seconds": max_seconds}


def mismatch(packing: dict[str, Any], preprocessing: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where packed recordings differ from the weights' training recordings: (as packed, as trained) by name."""
    given, wanted = packing["sample_rate"], preprocessing["sample_rate"]
    return {} if given == wanted else {"sample_rate": (given, wanted)}


def pack(recording: Recording, *, sample_rate: int, max_seconds: float) -> np.ndarray:
    """Resample a recording, and cut it at its end.

    Args:
        recording: mono.
        sample_rate: Hz, of the result.
        max_seconds: that are kept.

    Returns:
        (S,) int16, mono.
    """
    samples = recording.samples[: math.ceil((max_seconds + MARGIN) * recording.rate)]
    if recording.rate != sample_rate:
        common = math.gcd(sample_rate, recording.rate)
        samples = resample_poly(samples, sample_rate // common, recording.rate // common)
    kept = samples[: round(max_seconds * sample_rate)]
    packed: np.ndarray = (kept * FULL).round().clip(-FULL, FULL - 1).astype(np.int16)
    return packed


def remarks(recording: Recording, preprocessing: dict[str, Any]) -> dict[str, float]:
    """What people should know about how one recording is packed; afterwards nobody can see it.

    Returns:
        By a sentence that continues "... recordings ", an amount; "{:.1f}" in the sentence stands for the sum of the amounts of
        all recordings.
    """
    found, sample_rate, max_seconds = {}, preprocessing["sample_rate"], preprocessing["max_seconds"]
    lost = len(recording.samples) / recording.rate - max_seconds
    if lost > 0:
        found[f"were cut after {max_seconds:g} s (max_seconds) and lost {{:.1f}} s together"] = lost
    if recording.rate < sample_rate:
        found[f"came with {recording.rate} samples per second instead of {sample_rate}, and hold nothing above "
              f"{recording.rate // 2} Hz"] = 0.0  # fmt: skip
    elif recording.rate > sample_rate:
        found[f"came with {recording.rate} samples per second and were resampled to {sample_rate}"] = 0.0
    if recording.channels > 1:
        found[f"had {recording.channels} channels, which were averaged"] = 0.0
    if recording.clipped > CLIPPED:
        found[f"are clipped: more than {CLIPPED:.0%} of their samples are at full scale"] = 0.0
    return found


def load(split: PackedSplit, targets: torch.Tensor, preprocessing: dict[str, Any], device: torch.device) -> LoadedSplit:
    """Load packed recordings for training and evaluation, as `preprocessing` (of a model's card) says."""
    assert split.offsets is not None, "recordings are ragged"
    most = round(preprocessing["max_seconds"] * preprocessing["sample_rate"])

    def inputs(indices: torch.Tensor, level: str, draws: torch.Tensor | None) -> Recordings:
        rows = split.rows(indices.numpy())
        assert isinstance(rows, list)
        # Half precision is for networks: logarithms of it would be coarse.
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            waves, lengths = padded(rows, device)
            if level == "none":
                return rounded(features(waves, lengths.to(device), preprocessing), most, preprocessing)
            assert draws is not None
            waves, lengths = changed(waves, lengths, level, draws.cpu(), most)
            batch, kind = features(waves, lengths.to(device), preprocessing), preprocessing["features"]
            steps = lengths // HOP if kind in MELS else lengths
            batch = batch._replace(values=masked(batch.values, steps, kind, level, draws.cpu()))
            return rounded(batch, most, preprocessing)

    lengths = torch.from_numpy(np.diff(split.offsets))
    return LoadedSplit(inputs, targets.to(device), NUM_DRAWS, lengths=lengths)


def rounded(batch: Recordings, most: int, preprocessing: dict[str, Any]) -> Recordings:
    """Pad a batch to one of few lengths.

    Memory that was used for one size does not fit another, so with a new size in every batch a training on a CPU takes more and
    more of it (2.0 GB instead of 1.6 GB after 40 batches of Whisper tiny, 3.1 GB after 250).

    Args:
        most: samples of the longest recording that may come.
    """
    unit = 1 if preprocessing["features"] in MELS else HOP
    num, longest = batch.values.shape[-1], most // HOP * unit
    wanted = min(-(-num // (FEW * unit)) * FEW * unit, max(num, longest))
    return batch._replace(values=pad(batch.values, (0, wanted - num)))


def padded(rows: list[np.ndarray], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed recordings as one batch.

    Returns:
        (n, S) float32 from -1 to 1 on the device, padded with 0 to the longest, and the lengths (n,) int64 on the CPU.
    """
    lengths = torch.tensor([len(row) for row in rows])
    batch = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int16)
    for each, row in zip(batch.numpy(), rows, strict=True):
        each[: len(row)] = row
    return batch.to(device).float() / FULL, lengths


def probe(preprocessing: dict[str, Any], device: torch.device) -> Recordings:
    """Silence as long as a recording may be (but 30 seconds at most), to test whether a network takes it."""
    seconds = min(preprocessing["max_seconds"], LONGEST_LOG_MEL)
    waves = torch.zeros(1, round(seconds * preprocessing["sample_rate"]), device=device)
    return features(waves, torch.tensor([waves.shape[1]], device=device), preprocessing)
