"""Sounds and files that the tests make."""

import io

import numpy as np
import soundfile

from stages.lib.modalities.audio.files import FULL

CARD = {"sample_rate": 16_000, "features": "log_mel", "max_seconds": 10.0}


def voice(seconds=1.0, rate=16_000, seed=0, channels=1):
    """A tone that glides, with noise: (S,) or (S, channels) float32 on the grid of 16 bits, about -20 dB."""
    random = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    tone = 0.2 * np.sin(2 * np.pi * (200 + 50 * seed + 150 * times) * times)
    samples = tone[:, None] + 0.02 * random.normal(size=(len(times), channels))
    samples = (np.round(samples * FULL) / FULL).astype(np.float32)
    return samples[:, 0] if channels == 1 else samples


def encoded(samples, kind="WAV", subtype=None, rate=16_000, **how):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype, **how)
    return file.getvalue()


def packed(num, seed=0):
    """Recordings of different lengths as `pack` gives them."""
    random = np.random.default_rng(seed)
    return [(voice(0.3 + 0.7 * random.random(), seed=each) * FULL).astype(np.int16) for each in range(num)]
