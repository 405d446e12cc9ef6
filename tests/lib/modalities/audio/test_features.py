"""Log-mel spectrograms and scaled waves are those of transformers' feature extractors, whatever the padding."""

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from stages.lib.core.datasets import in_memory
from stages.lib.modalities.audio import features, inputs
from stages.lib.modalities.audio.files import FULL
from tests.lib.modalities.audio.sounds import CARD, packed

CPU = torch.device("cpu")
KINDS = ["log_mel", "log_mel_128", "waves", "raw_waves"]


def loaded(rows, kind):
    return inputs.load(in_memory(rows, True), torch.zeros(len(rows)), CARD | {"features": kind}, CPU)


def expected(row, kind):
    samples = row.astype(np.float32) / FULL
    if kind == "raw_waves":
        return samples
    how = {"sampling_rate": 16_000, "padding": False, "truncation": False, "return_tensors": "np"}
    if kind == "waves":
        return Wav2Vec2FeatureExtractor(do_normalize=True)(samples, sampling_rate=16_000, return_tensors="np").input_values[0]
    return WhisperFeatureExtractor(feature_size=features.MELS[kind])(samples, **how).input_features[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_padded_batch_holds_what_transformers_computes_of_each_recording(kind):
    rows = packed(6)
    rows[2] = rows[2] // 100  # quiet recordings are scaled by their own maximum
    rows[3] = rows[3] + np.int16(2_000)  # and those with an offset by their own mean
    values, lengths = loaded(rows, kind).inputs(torch.arange(6), "none", None)
    assert values.dtype == torch.float32 and lengths.dtype == torch.int64 and len(set(lengths.tolist())) > 3
    assert values.shape[-1] >= lengths.max()
    for row, value, length in zip(rows, values, lengths.tolist(), strict=True):
        wanted = expected(row, kind)
        assert value[..., :length].shape == wanted.shape
        np.testing.assert_allclose(value[..., :length].numpy(), wanted, atol=1e-4)
        assert not value[..., length:].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", ["none", "light", "strong"])
def test_padding_changes_no_bit(kind, level):
    rows = packed(8, seed=1)
    rows[5] = rows[5][:801]
    batches = loaded(rows, kind)
    draws = torch.rand(8, batches.num_draws, generator=torch.Generator().manual_seed(0))
    values, lengths = batches.inputs(torch.arange(8), level, draws)
    for index in range(8):
        alone, length = batches.inputs(torch.tensor([index]), level, draws[index : index + 1])
        assert length[0] == lengths[index] and alone[0][..., : length[0]].equal(values[index][..., : length[0]])
        assert not alone[0][..., length[0] :].any()
        assert not values[index][..., length[0] :].any()


@pytest.mark.parametrize("num", [80, 128])
def test_filters(num):
    wanted = mel_filter_bank(201, num, 0.0, 8_000.0, 16_000, norm="slaney", mel_scale="slaney")
    np.testing.assert_allclose(features.mel_filters(16_000, num), wanted, atol=1e-6)


def test_half_precision_of_the_network_does_not_reach_the_features():
    batches = loaded(packed(2), "log_mel")
    plain = batches.inputs(torch.arange(2), "none", None)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert batches.inputs(torch.arange(2), "none", None)[0].equal(plain)


@pytest.mark.parametrize("kind", KINDS)
def test_the_probe_is_as_long_as_a_recording_may_be_and_finite(kind):
    values, lengths = inputs.probe(CARD | {"features": kind}, CPU)
    assert values.isfinite().all() and lengths.tolist() == [1_000 if kind.startswith("log") else 160_000]
    assert values.shape[-1] == lengths[0]
    assert inputs.probe(CARD | {"features": kind, "max_seconds": 3_000}, CPU)[0].shape[-1] == 3 * values.shape[-1]
