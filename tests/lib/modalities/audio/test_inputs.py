"""Packing of recordings, what is told about it, and how much memory it takes."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages.lib.core import datasets
from stages.lib.core.contracts import Example
from stages.lib.data.packing import pack_all
from stages.lib.errors import UserError
from stages.lib.modalities.audio import inputs
from stages.lib.modalities.audio.files import FULL
from tests.lib.modalities.audio.sounds import CARD, encoded, packed, voice

HOW = {"sample_rate": 16_000, "max_seconds": 10.0}


def decoded(samples, rate=16_000, **how):
    return inputs.decode(encoded(samples, rate=rate, **how))


def test_equal_samples_have_an_equal_digest_whatever_the_file():
    samples = voice()
    digests = {inputs.digest(decoded(samples, kind=kind, subtype=subtype)) for kind, subtype in (
        ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("AIFF", "PCM_16")
    )}  # fmt: skip
    assert len(digests | {inputs.digest(inputs.decode((samples, 16_000)))}) == 1
    for other in (decoded(voice(seed=1)), decoded(samples[:-1]), decoded(samples, rate=8_000)):
        assert inputs.digest(other) not in digests


def test_samples_of_16_bits_are_packed_as_they_are():
    samples = voice()
    given = inputs.pack(decoded(samples), **HOW)
    assert given.dtype == np.int16 and given.shape == (16_000,)
    np.testing.assert_array_equal(given, samples * FULL)
    loud = inputs.pack(inputs.decode((np.array([1.2, -1.2, 0.5] * 1_000), 16_000)), **HOW)
    assert loud[:3].tolist() == [FULL - 1, -FULL, FULL // 2]


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_resampling_keeps_a_tone_and_its_time(rate):
    def tone(of):
        return 0.5 * np.sin(2 * np.pi * 440 * np.arange(of) / of)

    given = inputs.pack(decoded(tone(rate), rate=rate), **HOW)
    assert len(given) == 16_000
    np.testing.assert_allclose(given[500:-500] / FULL, tone(16_000)[500:-500], atol=2e-3)


def test_resampling_leaves_no_tone_above_half_of_the_rate():
    high = 0.5 * np.sin(2 * np.pi * 15_000 * np.arange(44_100) / 44_100)
    assert np.abs(inputs.pack(decoded(high, rate=44_100), **HOW)[200:-200]).max() < 0.01 * FULL


def test_long_recordings_are_cut_at_their_end_as_if_they_were_longer():
    whole = decoded(voice(3, rate=44_100), rate=44_100)
    cut = inputs.pack(whole, sample_rate=16_000, max_seconds=1.5)
    assert len(cut) == 24_000
    np.testing.assert_array_equal(cut, inputs.pack(whole, sample_rate=16_000, max_seconds=10.0)[:24_000])


def test_whisper_hears_30_seconds():
    assert inputs.packing(30, CARD) == {"sample_rate": 16_000, "max_seconds": 30}
    assert inputs.packing(31, CARD | {"features": "waves"})["max_seconds"] == 31
    with pytest.raises(UserError, match="at most 30 seconds"):
        inputs.packing(31, CARD)


def test_the_sample_rate_must_be_that_of_the_weights():
    assert inputs.mismatch(HOW, CARD | {"max_seconds": 5}) == {}
    assert inputs.mismatch(HOW, {"sample_rate": 8_000, "features": "waves"}) == {"sample_rate": (16_000, 8_000)}


def test_what_packing_changes_is_remarked():
    how = {"sample_rate": 16_000, "max_seconds": 1.5}
    assert inputs.remarks(decoded(voice()), how) == {}
    (found,) = inputs.remarks(decoded(voice(2)), how).items()
    assert found[0].format(3.14159) == "were cut after 1.5 s (max_seconds) and lost 3.1 s together"
    assert found[1] == pytest.approx(0.5)
    low = inputs.remarks(decoded(np.clip(20 * voice(channels=2, rate=8_000), -1, 1), rate=8_000), how)
    assert [text.split()[0] for text in low] == ["came", "had", "are"] and not any(low.values())
    assert "nothing above 4000 Hz" in next(iter(low))
    assert "resampled to 16000" in next(iter(inputs.remarks(decoded(voice(rate=48_000), rate=48_000), how)))


def test_batches_have_one_of_few_lengths_but_none_beyond_the_longest_that_may_come():
    how = CARD | {"max_seconds": 1.0}
    for rows in ([seconds(0.3)], [seconds(0.3), seconds(0.9)], [seconds(1.0)]):
        loaded = inputs.load(datasets.in_memory(rows, True), torch.zeros(len(rows)), how, torch.device("cpu"))
        values, lengths = loaded.inputs(torch.arange(len(rows)), "none", None)
        assert values.shape[-1] in (64, 100) and values.shape[-1] >= lengths.max()
        assert not values[..., int(lengths.max()) :].any()


def seconds(length):
    return inputs.pack(decoded(voice(length)), sample_rate=16_000, max_seconds=1.0)


def test_lengths_are_those_of_the_recordings():
    rows = packed(3)
    loaded = inputs.load(datasets.in_memory(rows, True), torch.zeros(3), CARD, torch.device("cpu"))
    assert loaded.lengths.tolist() == [len(row) for row in rows] and loaded.mix is None


def own_memory():
    """MB of this process that no file holds."""
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1_000


def test_memory_does_not_grow_with_the_recordings(tmp_path, monkeypatch):
    """200 MB of files, which become 100 MB of packed samples."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)  # as many recordings are decoded at once
    file, how, seen = encoded(voice(30, channels=2)), {"sample_rate": 16_000, "max_seconds": 30.0}, []

    def opened():
        seen.append(own_memory())
        return file

    examples = [Example(f"{each:03}", "", "", "", opened) for each in range(104)]
    before = own_memory()
    with (tmp_path / "store").open("w+b") as store:
        sizes = [each.shape[0] for each in pack_all(examples, inputs, how, {}, store, "recording")]
        assert store.tell() == sum(sizes) * 2 > 99e6
        assert max(seen) - before < 60, "decoding and packing"
        store.seek(0)
        rows = (np.frombuffer(store.read(2 * size), np.int16) for size in sizes)
        table = pd.DataFrame({"key": [each.key for each in examples], "label": "", "group": ""})
        datasets.write_split(tmp_path, "train", rows, table, sizes)

    split = datasets.read_split(tmp_path, "train")
    loaded = inputs.load(split, torch.zeros(len(sizes)), CARD | how, torch.device("cpu"))
    before = own_memory()
    seen.clear()
    for index in range(0, len(sizes), 4):
        loaded.inputs(torch.tensor([index]), "none", None)
        seen.append(own_memory())
    assert max(seen) - before < 60, "loading"
