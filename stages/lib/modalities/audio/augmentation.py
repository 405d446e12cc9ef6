"""Random changes that keep what a recording says: its speed, noise, and masks over its features (SpecAugment).

The changes of each recording depend only on its own row of random draws, so it does not matter how a batch is divided between
processes. Everything that is computed once per recording is computed on the CPU, so that it does not depend on the device.
"""

import math
from typing import NamedTuple

import torch

from stages.lib.modalities.audio.features import MELS, inside
from stages.lib.modalities.audio.files import FULL

NUM_DRAWS = 11  # per recording: speed, level and samples of the noise, and a width and a place for each of four masks
TAPS, PHASES = 16, 512  # of the interpolation: samples that each new one is made of, and places between two samples
STEP = 1 << 16  # speeds are multiples of 1 / STEP, so that places in a recording are whole numbers and exact


class Level(NamedTuple):
    """How much a level of augmentation changes."""

    slowest: float  # factors of the speed (and the pitch)
    fastest: float
    least_snr: float  # signal-to-noise ratio in dB
    most_snr: float
    masks: bool


LEVELS = {"light": Level(0.9, 1.1, 20, 50, False), "strong": Level(0.8, 1.2, 5, 50, True)}
WIDEST_BAND, WIDEST_TIME = 27 / 80, 0.1  # of the mels, and of a recording's length: the most that one mask covers


def changed(
    waves: torch.Tensor, lengths: torch.Tensor, level: str, draws: torch.Tensor, most: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Change the speed of each recording, and add white noise.

    Args:
        waves: (n, S) float32 from -1 to 1, multiples of 1 / FULL, 0 beyond each recording's length; on any device.
        lengths: (n,) int64 on the CPU, samples of each.
        level: "light": speed 0.9 to 1.1, noise 20 to 50 dB below the recording's mean power. "strong": speed 0.8 to 1.2, noise
            5 to 50 dB below it.
        draws: (n, NUM_DRAWS) uniform in [0, 1), on the CPU.
        most: samples; recordings are not slowed down beyond it.

    Returns:
        Waves of the same kind, and their lengths on the CPU.

    Reference:
        Ko et al., Audio Augmentation for Speech Recognition, Interspeech 2015, for the speed.
    """
    how, exact = LEVELS[level], draws.double()
    factors = how.slowest + (how.fastest - how.slowest) * exact[:, 0]
    factors = torch.maximum(factors, (lengths / most).clamp(max=1))  # what is as long as allowed is not slowed down
    snr = how.least_snr + (how.most_snr - how.least_snr) * exact[:, 1]
    share = (10 ** (-snr / 20)).float().to(waves.device)
    # Whole numbers of 16-bit levels: their sums are exact in any order, with any padding.
    levels = (waves * FULL).long()
    strength = (levels.square().sum(1) / lengths.to(waves.device)).sqrt() / FULL * share
    waves, lengths = at_speed(waves, lengths, factors)
    seeds = (exact[:, 2] * (1 << 24)).long().to(waves.device)
    noisy = waves + strength[:, None] * noise(seeds, waves.shape[1])
    here = inside(lengths.to(waves.device), waves.shape[1])
    return ((noisy * FULL).round().clamp(-FULL, FULL - 1) / FULL) * here, lengths


def at_speed(waves: torch.Tensor, lengths: torch.Tensor, factors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Play each recording at its own speed; pitch and length change together.

    Band-limited interpolation (a windowed sinc of TAPS samples); what would be above half of the sample rate is filtered out.

    Args:
        factors: (n,) float64 on the CPU: 1.1 is faster, higher and shorter.
    """
    steps = (factors * STEP).round().long()
    lengths = (lengths - 1) * STEP // steps + 1
    offsets = torch.arange(TAPS) - (TAPS // 2 - 1)
    away = offsets - (torch.arange(PHASES, dtype=torch.float64) / PHASES)[:, None]  # (PHASES, TAPS) in samples
    cut = (STEP / steps).clamp(max=1)[:, None, None]  # the highest frequency that is kept, of half the sample rate
    window = (away * math.pi / TAPS).cos().square()
    kernels = (cut * (cut * away).sinc() * window).float().to(waves.device)  # (n, PHASES, TAPS)

    places = torch.arange(int(lengths.max()), device=waves.device) * steps.to(waves.device)[:, None]  # in STEPs of a sample
    phases = (places % STEP) * PHASES // STEP
    before = places // STEP
    padded = torch.nn.functional.pad(waves, (TAPS // 2 - 1, TAPS))
    last = padded.shape[1] - TAPS
    played = torch.zeros(places.shape, device=waves.device)
    for tap in range(TAPS):
        played += padded.gather(1, before.clamp(max=last) + tap) * kernels[:, :, tap].gather(1, phases)
    return played * inside(lengths.to(waves.device), played.shape[1]), lengths


def noise(seeds: torch.Tensor, longest: int) -> torch.Tensor:
    """White noise of variance 1, the same for the same seed: (n, longest) float32.

    A hash of the seed and of the place gives four numbers of 8 bits for each sample, whose sum is nearly normal.

    Args:
        seeds: (n,) int64 in [0, 2**24), on any device.
    """
    mixed = torch.arange(longest, device=seeds.device) + _hashed(seeds + 1)[:, None]
    bits = _hashed(mixed & 0xFFFFFFFF)
    total = (bits & 0xFF) + ((bits >> 8) & 0xFF) + ((bits >> 16) & 0xFF) + (bits >> 24)
    return (total - 510) / math.sqrt(4 * (256**2 - 1) / 12)


def _hashed(numbers: torch.Tensor) -> torch.Tensor:
    """A hash of whole numbers in [0, 2**32) to the same range, in which every bit depends on every other."""
    for _ in range(2):
        numbers = (((numbers >> 16) ^ numbers) * 0x45D9F3B) & 0xFFFFFFFF
    return (numbers >> 16) ^ numbers


def masked(values: torch.Tensor, lengths: torch.Tensor, kind: str, level: str, draws: torch.Tensor) -> torch.Tensor:
    """Set two spans of time of each recording to 0, and two bands of a spectrogram.

    Args:
        values, lengths: from stages.lib.modalities.audio.features.features, but `lengths` on the CPU.
        kind: of the features.
        level: only "strong" masks.
        draws: as in `changed`.

    Reference:
        Park et al., SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition, Interspeech 2019; without
        time warping, and each span is at most WIDEST_TIME of the recording, because short words would vanish.
    """
    if not LEVELS[level].masks:
        return values
    exact = draws.double()
    for index in (3, 5):
        hidden = _span(exact[:, index], exact[:, index + 1], lengths, WIDEST_TIME, values.shape[-1]).to(values.device)
        values = values.masked_fill(hidden if values.ndim == 2 else hidden[:, None], 0)
    if kind in MELS:
        bands = torch.full_like(lengths, MELS[kind])
        for index in (7, 9):
            hidden = _span(exact[:, index], exact[:, index + 1], bands, WIDEST_BAND, MELS[kind]).to(values.device)
            values = values.masked_fill(hidden[:, :, None], 0)
    return values


def _span(width: torch.Tensor, place: torch.Tensor, lengths: torch.Tensor, widest: float, longest: int) -> torch.Tensor:
    """(n, longest) bool: one span in each row, from two draws (n,) and the rows' own lengths (n,)."""
    widths = (width * (widest * lengths + 1)).long()
    starts = (place * (lengths - widths + 1)).long()
    steps = torch.arange(longest)
    return (steps >= starts[:, None]) & (steps < (starts + widths)[:, None])
