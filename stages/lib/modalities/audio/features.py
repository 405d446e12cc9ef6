"""What networks take: log-mel spectrograms or scaled waves, of a whole batch at once, on any device.

The features of a recording do not depend on the padding of its batch.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

WINDOW, HOP = 400, 160  # samples: 25 and 10 ms at 16 kHz
MELS = {"log_mel": 80, "log_mel_128": 128}
FLOOR, RANGE = 1e-10, 8.0  # least power, and how far below a recording's maximum (powers of ten) its features end


class Recordings(NamedTuple):
    """What the network takes: recordings padded with 0 to the longest."""

    values: torch.Tensor  # (n, mels, T) or (n, S) float32
    lengths: torch.Tensor  # (n,) int64: frames or samples that are no padding


def features(waves: torch.Tensor, lengths: torch.Tensor, preprocessing: dict[str, Any]) -> Recordings:
    """The input of the network.

    Args:
        waves: (n, S) float32 from -1 to 1, 0 beyond each recording's length.
        lengths: (n,) int64, samples of each; more than WINDOW / 2.
        preprocessing: of a model's card.

    Returns:
        Log-mel spectrograms of S // HOP frames, or waves of S samples.
    """
    kind = preprocessing["features"]
    if kind in MELS:
        mels = power(waves, lengths, mel_filters(preprocessing["sample_rate"], MELS[kind]))
        return Recordings(whisper_scaled(mels, lengths // HOP), lengths // HOP)
    return Recordings(scaled(waves, lengths) if kind == "waves" else waves, lengths)


def inside(lengths: torch.Tensor, longest: int) -> torch.Tensor:
    """(n, longest) bool: the steps that are no padding."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def scaled(waves: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Waves with mean 0 and variance 1 over each recording, (n, S), as the feature extractor of wav2vec 2.0 scales them."""
    # Sums of 16-bit samples are exact in float64, so they are the same in any order, with any padding.
    exact = torch.float32 if waves.device.type == "mps" else torch.float64
    mean, square = (each.sum(1, dtype=exact) / lengths for each in (waves, waves.square()))
    deviation = ((square - mean.square()).clamp(min=0) + 1e-7).sqrt()
    values = (waves - mean[:, None].float()) / deviation[:, None].float()
    return values * inside(lengths, waves.shape[1])


def power(waves: torch.Tensor, lengths: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    """Power in each mel band.

    Both ends of a recording are reflected, as torch.stft does to a recording alone: frame t is centred on sample t * HOP.

    Args:
        waves, lengths: as in `features`.
        filters: (WINDOW / 2 + 1, mels).

    Returns:
        (n, S // HOP, mels), at least FLOOR; arbitrary beyond each recording's length.
    """
    last = lengths[:, None] - 1
    places = torch.arange(-(WINDOW // 2), waves.shape[1] + WINDOW // 2, device=waves.device).abs()
    places = (last - (last - places).abs()).clamp(min=0)
    frames = waves.gather(1, places).unfold(1, WINDOW, HOP)[:, :-1]
    spectrum = torch.fft.rfft(frames * torch.hann_window(WINDOW, device=waves.device))
    mels: torch.Tensor = (spectrum.real.square() + spectrum.imag.square()) @ filters.to(waves.device)
    return mels.clamp(min=FLOOR)


def whisper_scaled(mels: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Whisper's scaling of the power in mel bands: log10, at most RANGE below the recording's maximum, shifted to about -1 to 1.

    Args:
        mels: (n, T, mels) from `power`.
        frames: (n,) of each recording.

    Returns:
        (n, mels, T), 0 beyond each recording's frames.

    Reference:
        Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, 2022 (arXiv 2212.04356); the numbers are
        those of its code and of transformers' WhisperFeatureExtractor.
    """
    here = inside(frames, mels.shape[1])[:, :, None]
    logs = mels.log10()
    highest = logs.masked_fill(~here, -torch.inf).amax((1, 2), keepdim=True)
    values = (torch.maximum(logs, highest - RANGE) + 4) / 4
    return values.masked_fill(~here, 0).transpose(1, 2).contiguous()


@cache
def mel_filters(rate: int, num: int) -> torch.Tensor:
    """Triangular filters from 0 Hz to half of the sample rate, each with the same area.

    Returns:
        (WINDOW / 2 + 1, num) float32.

    Reference:
        Slaney, Auditory Toolbox, 1998: mels are linear in frequency up to 1 kHz and logarithmic above.
    """
    bins = np.linspace(0, rate / 2, WINDOW // 2 + 1)
    edges = _hertz(np.linspace(0, _mel(rate / 2), num + 2))
    rising = (bins - edges[:-2, None]) / np.diff(edges[:-1])[:, None]
    falling = (edges[2:, None] - bins) / np.diff(edges[1:])[:, None]
    triangles = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(triangles.T.astype(np.float32))


def _mel(hertz: float) -> float:
    return 3 * hertz / 200 if hertz < 1000 else 15 + 27 * float(np.log(hertz / 1000) / np.log(6.4))


def _hertz(mels: np.ndarray) -> np.ndarray:
    return np.where(mels < 15, 200 * mels / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
