"""Speed, noise and masks do what they say, each from the recording's own draws."""

import math

import pytest
import torch

from stages.lib.core.datasets import in_memory
from stages.lib.modalities.audio import augmentation, inputs
from stages.lib.modalities.audio.augmentation import LEVELS, NUM_DRAWS, at_speed, changed, masked, noise
from tests.lib.modalities.audio.sounds import CARD, packed

RATE = 16_000


def tones(hertz, seconds=0.5):
    times = torch.arange(round(RATE * seconds)) / RATE
    return torch.stack([0.5 * (2 * math.pi * each * times).sin() for each in hertz])


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.0, 1.1, 1.2])
def test_speed_changes_length_and_pitch_together(factor):
    waves = tones([440, 3_000])
    played, lengths = at_speed(waves, torch.full((2,), waves.shape[1]), torch.full((2,), factor, dtype=torch.float64))
    assert lengths.tolist() == pytest.approx([waves.shape[1] / factor] * 2, abs=2)
    times = torch.arange(played.shape[1]) / RATE * (round(factor * augmentation.STEP) / augmentation.STEP)
    for wave, hertz in zip(played, (440, 3_000), strict=True):
        wanted = 0.5 * (2 * math.pi * hertz * times).sin()
        assert (wave - wanted)[20:-20].abs().max() < 0.01


def test_what_would_be_above_half_of_the_rate_is_filtered_out():
    waves = tones([7_900])
    played, _ = at_speed(waves, torch.tensor([waves.shape[1]]), torch.tensor([1.2], dtype=torch.float64))
    assert played[0, 50:-50].std() < 0.1 * waves.std()


def test_each_recording_has_its_own_speed():
    waves, lengths = tones([440, 440]), torch.tensor([8_000, 4_000])
    waves[1, 4_000:] = 0
    played, new = at_speed(waves, lengths, torch.tensor([1.1, 0.9], dtype=torch.float64))
    assert new.tolist() == pytest.approx([8_000 / 1.1, 4_000 / 0.9], abs=2) and played.shape[1] == new.max()
    assert not played[1, new[1] :].any()


def test_noise_is_white_and_normal_and_differs_between_seeds():
    found = noise(torch.tensor([0, 1, 2, 9_999_999]), 50_000).double()
    assert found.mean(1).abs().max() < 0.02 and (found.std(1) - 1).abs().max() < 0.01
    assert (found.abs() > 2).double().mean().item() == pytest.approx(0.0455, abs=0.01)
    spectrum = torch.fft.rfft(found).abs().square().reshape(4, -1)[:, :25_000].reshape(4, 10, -1).mean(2) / 50_000
    assert (spectrum - 1).abs().max() < 0.1
    assert (torch.corrcoef(found) - torch.eye(4)).abs().max() < 0.02
    assert (found[:, 1:] * found[:, :-1]).mean(1).abs().max() < 0.02


@pytest.mark.parametrize("level", list(LEVELS))
@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_noise_is_as_far_below_the_recording_as_drawn(level, draw):
    waves = (tones([440, 440]) * torch.tensor([[1.0], [0.1]]) * 32_768).round() / 32_768
    draws = torch.zeros(2, NUM_DRAWS)
    how = LEVELS[level]
    draws[:, 0] = (1 - how.slowest) / (how.fastest - how.slowest)  # the speed stays
    draws[:, 1] = draw
    noisy, lengths = changed(waves, torch.full((2,), 8_000), level, draws, 160_000)
    assert lengths.tolist() == [8_000, 8_000]
    ratio = 10 * (waves.square().mean(1) / (noisy - waves)[:, :8_000].square().mean(1)).log10()
    wanted = how.least_snr + (how.most_snr - how.least_snr) * draw
    assert ratio[0].item() == pytest.approx(wanted, abs=1) and ratio[1].item() == pytest.approx(wanted, abs=2)
    assert (noisy * 32_768).frac().abs().max() == 0, "as a recording of 16 bits"


def test_recordings_are_not_slowed_down_beyond_what_the_network_takes():
    waves = tones([440, 440])
    slow = torch.zeros(2, NUM_DRAWS)
    assert changed(waves, torch.full((2,), 8_000), "strong", slow, 8_000)[1].max() <= 8_000
    assert changed(waves, torch.full((2,), 8_000), "strong", slow, 9_000)[1].tolist() == pytest.approx([9_000] * 2, abs=2)
    assert changed(waves, torch.full((2,), 8_000), "strong", slow, 99_000)[1].tolist() == pytest.approx([10_000] * 2, abs=2)


def test_masks_hide_some_time_and_some_mels_and_nothing_in_the_padding():
    lengths = torch.tensor([100, 60, 100])
    values = torch.ones(3, 80, 100)
    draws = torch.tensor([0.999, 0.0, 0.999, 0.999, 0.999, 0.0, 0.999, 0.999]).repeat(3, 1)
    draws = torch.cat([torch.zeros(3, 3), draws], 1)
    hidden = masked(values, lengths, "log_mel", "strong", draws) == 0
    assert hidden[0].all(0).tolist() == [True] * 10 + [False] * 80 + [True] * 10
    assert hidden[1].all(0).nonzero()[:, 0].tolist() == [*range(6), *range(54, 60)]
    assert hidden[0].all(1).tolist() == [True] * 27 + [False] * 26 + [True] * 27
    assert masked(values, lengths, "log_mel", "light", draws) is values
    draws[2, 3:] = 0
    assert masked(values, lengths, "log_mel", "strong", draws)[2].all(), "the narrowest masks hide nothing"


def test_masks_of_waves_hide_time():
    hidden = masked(torch.ones(1, 1_000), torch.tensor([1_000]), "waves", "strong", torch.full((1, NUM_DRAWS), 0.999)) == 0
    assert hidden.sum() == 100 and hidden[0, 900:].all()


@pytest.mark.parametrize("level", list(LEVELS))
def test_a_level_changes_every_recording_as_its_draws_say(level):
    rows, everything = packed(4), torch.arange(4)
    batches = inputs.load(in_memory(rows, True), torch.zeros(4), CARD | {"features": "waves"}, torch.device("cpu"))
    draws = torch.rand(4, batches.num_draws, generator=torch.Generator().manual_seed(1))
    values, lengths = batches.inputs(everything, level, draws)
    factors = torch.tensor([len(row) for row in rows]) / lengths
    wanted = LEVELS[level].slowest + (LEVELS[level].fastest - LEVELS[level].slowest) * draws[:, 0]
    assert factors.tolist() == pytest.approx(wanted.tolist(), abs=1e-3) and values.isfinite().all()
    again = batches.inputs(everything, level, draws)[0]
    assert again.equal(values) and not batches.inputs(everything, level, draws.flip(0))[0].equal(values)
    draws[:, 2] = draws[:, 2].flip(0)  # other noise
    assert not batches.inputs(everything, level, draws)[0].equal(values)


def test_a_level_that_does_not_exist():
    batches = inputs.load(in_memory(packed(1), True), torch.zeros(1), CARD, torch.device("cpu"))
    with pytest.raises(KeyError):
        batches.inputs(torch.arange(1), "extreme", torch.zeros(1, NUM_DRAWS))
