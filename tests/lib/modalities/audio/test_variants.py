"""Each variant is the mistake that its name says, and only what it can be for."""

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly

from stages.lib.core.datasets import in_memory
from stages.lib.modalities.audio import inputs
from stages.lib.modalities.audio.files import FULL
from stages.lib.modalities.audio.variants import VARIANTS, as_on_card
from tests.lib.modalities.audio.sounds import CARD, packed

RATES = {"half the sample rate", "twice the sample rate"}
WAVES = {"waves from -1 to 1", "waves of mean 0 and variance 1", "waves of 16-bit numbers"}
MELS = {"natural logarithms", "each mel of mean 0 and variance 1"}


def card(features):
    return CARD | {"features": features}


def same(batch, other):
    return batch[0].shape == other[0].shape and torch.allclose(batch[0], other[0], atol=1e-4)


@pytest.mark.parametrize(("features", "possible"), [
    ("log_mel", RATES | MELS), ("waves", RATES | WAVES - {"waves of mean 0 and variance 1"}),
    ("raw_waves", RATES | WAVES - {"waves from -1 to 1"}),
])  # fmt: skip
def test_what_differs_from_the_card(features, possible):
    rows = packed(3)
    right = as_on_card(rows, card(features))
    loaded = inputs.load(in_memory(rows, True), torch.zeros(3), card(features), torch.device("cpu"))
    values, lengths = loaded.inputs(torch.arange(3), "none", None)  # padded to one of few lengths
    assert same(right, inputs.Recordings(values[..., : lengths.max()], lengths))
    batches = {name: variant.prepare(rows, card(features)) for name, variant in VARIANTS.items()}
    assert {name for name, batch in batches.items() if not same(batch, right)} == possible
    for values, lengths in batches.values():
        assert values.dtype == torch.float32 and lengths.dtype == torch.int64 and values.shape[-1] == lengths.max()
        assert values.ndim == right[0].ndim and all(not each[..., end:].any() for each, end in zip(values, lengths, strict=True))
    differing = [batches[name] for name in possible]
    assert not any(same(one, other) for index, one in enumerate(differing) for other in differing[:index])


@pytest.mark.parametrize(("name", "factor"), [("half the sample rate", 0.5), ("twice the sample rate", 2)])
def test_another_rate_is_what_a_card_with_that_rate_gives(name, factor):
    rows = packed(2)
    recordings = [inputs.decode((row, 16_000)) for row in rows]
    rate = round(16_000 * factor)
    there = [inputs.pack(recording, sample_rate=rate, max_seconds=10) for recording in recordings]
    assert same(VARIANTS[name].prepare(rows, card("raw_waves")), as_on_card(there, card("raw_waves") | {"sample_rate": rate}))


def test_scales_of_waves():
    rows = packed(2)
    raw = as_on_card(rows, card("raw_waves"))[0]
    assert same(VARIANTS["waves from -1 to 1"].prepare(rows, card("waves")), (raw, None))
    assert same(VARIANTS["waves of 16-bit numbers"].prepare(rows, card("waves")), (raw * FULL, None))
    assert same(VARIANTS["waves of mean 0 and variance 1"].prepare(rows, card("raw_waves")), as_on_card(rows, card("waves")))


def test_scales_of_spectrograms():
    rows = packed(2)
    right, lengths = as_on_card(rows, card("log_mel"))
    plain = VARIANTS["natural logarithms"].prepare(rows, card("log_mel"))[0]
    loud = right[0] > right[0].max() - 1
    np.testing.assert_allclose(plain[0][loud] / np.log(10), 4 * right[0][loud] - 4, atol=1e-3)
    scaled = VARIANTS["each mel of mean 0 and variance 1"].prepare(rows, card("log_mel"))[0]
    for values, end in zip(scaled, lengths.tolist(), strict=True):
        assert values[:, :end].mean(1).abs().max() < 1e-3 and (values[:, :end].std(1, correction=0) - 1).abs().max() < 1e-2


def test_a_tone_survives_another_rate():
    tone = (10_000 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 16_000)).astype(np.int16)
    values = VARIANTS["half the sample rate"].prepare([tone], card("raw_waves"))[0][0]
    np.testing.assert_allclose(values, resample_poly(tone / FULL, 1, 2), atol=1e-4)
