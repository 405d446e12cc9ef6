"""Decoding of the files that people have, and words for those that cannot be used."""

import struct

import numpy as np
import pytest

from stages.lib.modalities.audio import files, mp3
from tests.lib.modalities.audio.sounds import encoded, voice


def reason(source):
    with pytest.raises(ValueError) as error:
        files.decode(source)
    return str(error.value)


@pytest.mark.parametrize(("kind", "subtype", "tolerance"), [
    ("WAV", "PCM_U8", 0.01), ("WAV", "PCM_16", 0), ("WAV", "PCM_24", 0), ("WAV", "PCM_32", 0), ("WAV", "FLOAT", 0),
    ("WAV", "DOUBLE", 0), ("WAV", "ULAW", 0.02), ("WAVEX", "PCM_16", 0), ("FLAC", "PCM_16", 0), ("FLAC", "PCM_24", 0),
    ("AIFF", "PCM_16", 0), ("OGG", "VORBIS", 0.1), ("OGG", "OPUS", 0.1), ("MP3", None, 0.1),
])  # fmt: skip
def test_formats(kind, subtype, tolerance):
    samples = voice()
    recording = files.decode(encoded(samples, kind, subtype))
    assert recording.samples.dtype == np.float32 and recording.samples.shape == samples.shape
    assert (recording.rate, recording.channels, recording.clipped) == (16_000, 1, 0)
    middle = slice(2_000, -2_000)
    assert np.abs(recording.samples - samples)[middle].max() <= tolerance
    assert np.corrcoef(recording.samples[middle], samples[middle])[0, 1] > 0.95


def test_more_than_one_block_is_decoded():
    samples = voice(12)
    assert len(samples) > 2 * files.BLOCK
    np.testing.assert_array_equal(files.decode(encoded(samples, "FLAC")).samples, samples)


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_channels_are_averaged(kind):
    samples = voice(channels=2)
    recording = files.decode(encoded(samples, kind))
    assert recording.channels == 2
    np.testing.assert_allclose(recording.samples, samples.mean(1), atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 11_025, 48_000])
def test_the_rate_is_that_of_the_file(rate):
    assert files.decode(encoded(voice(rate=rate), rate=rate)).rate == rate


def test_samples_from_a_reader():
    samples = voice(channels=2)
    of_file = files.decode(encoded(samples))
    for given in (samples, samples.astype(np.float64), (samples * files.FULL).astype(np.int16), samples.tolist()):
        recording = files.decode((given, 16_000))
        np.testing.assert_array_equal(recording.samples, of_file.samples)
        assert recording[1:] == of_file[1:]


def test_how_much_is_clipped_is_counted_and_not_refused():
    samples = np.clip(8 * voice(), -1, 1)
    full = float((np.abs(samples) == 1).mean())
    assert full > 0.1
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT"):
        assert files.decode(encoded(samples, subtype=subtype)).clipped == pytest.approx(full, abs=0.01)
    one_channel = np.stack([samples, voice()], axis=1)
    assert files.decode(encoded(one_channel)).clipped == pytest.approx(full, abs=1e-3)
    assert files.decode((samples, 16_000)).clipped == pytest.approx(full, abs=1e-3)


@pytest.mark.parametrize(("source", "words"), [
    (b"", "empty"),
    (b"hello", "no audio"),
    (bytes(1_000), "no audio"),
    (b"\x89PNG\r\n\x1a\n" + bytes(100), "no audio"),
    (b"\0\0\0\x20ftypM4A " + bytes(200), "ffmpeg"),
    (encoded(np.zeros(0, np.float32)), "no samples"),
    ((np.zeros((0, 2), np.float32), 16_000), "no samples"),
    (encoded(voice(), "W64"), "kind W64"),
    (encoded(voice(), rate=500), "sample rate is 500 Hz"),
    (encoded(np.where(np.arange(16_000) == 7, np.nan, voice()), subtype="FLOAT"), "1 of its samples are not numbers"),
    (encoded(np.where(np.arange(16_000) < 2, np.inf, voice()), subtype="FLOAT"), "2 of its samples are not numbers"),
    (encoded(voice() * 32_768, subtype="FLOAT"), "from -1 to 1"),
    (encoded(voice(0.03)), "lasts 30 ms"),
    (encoded(np.zeros(16_000, np.float32)), "silent: its loudest sample is 0"),
    (encoded(np.full(16_000, 0.25, np.float32)), "silent"),
    (encoded(voice() / 500), "silent: its loudest sample is -6"),
    ((np.full(16_000, 1 << 20), 16_000), "more than 16 bits"),
    ((np.array(["a"]), 16_000), "must be numbers"),
    ((np.zeros((2, 2, 2)), 16_000), "must be numbers"),
])  # fmt: skip
def test_what_cannot_be_used_is_said_in_words(source, words):
    found = reason(source)
    assert words in found and "0x" not in found


@pytest.mark.parametrize(("kind", "subtype"), [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", None),
])  # fmt: skip
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_file_that_was_cut_off_is_refused(kind, subtype, part):
    whole = encoded(voice(3), kind, subtype)
    assert "cut off" in reason(whole[: int(part * len(whole))])


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_a_few_missing_bytes_are_enough(kind, subtype):
    assert "cut off" in reason(encoded(voice(), kind, subtype)[:-5])


def test_a_flac_file_that_ends_between_frames_is_refused():
    whole = encoded(voice(3), "FLAC")
    frame = whole.rfind(b"\xff\xf8")
    assert "cut off" in reason(whole[:frame])


def test_sizes_that_a_stream_did_not_know_are_no_promise():
    whole = encoded(voice())
    place = whole.index(b"data") + 4
    for size in (0xFFFFFFFF, 0x7FFFFFFF):
        stream = whole[:place] + struct.pack("<I", size) + whole[place + 4 :]
        np.testing.assert_array_equal(files.decode(stream).samples, voice())


def test_chunks_around_the_samples_are_skipped():
    whole = encoded(voice())
    place = whole.index(b"data")
    more = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"  # of an odd size, so a byte follows it
    changed = whole[:place] + more + whole[place:] + more
    changed = changed[:4] + struct.pack("<I", len(changed) - 8) + changed[8:]
    np.testing.assert_array_equal(files.decode(changed).samples, voice())


def test_an_mp3_file_may_have_tags_before_it():
    whole = encoded(voice(3), "MP3")
    tagged = b"ID3\x04\0\0\0\0\x02\x00" + bytes(256) + whole
    assert len(files.decode(tagged).samples) == 3 * 16_000
    assert "cut off" in reason(tagged[: len(tagged) // 2])


def test_an_mp3_file_that_does_not_say_how_long_it_is_is_decoded_completely_or_refused():
    def untold(**how):
        whole = encoded(voice(3), "MP3", **how)
        assert b"Xing" in whole[:64] or b"Info" in whole[:64]
        return whole.replace(b"Xing", bytes(4)).replace(b"Info", bytes(4))

    constant = files.decode(untold(bitrate_mode="CONSTANT", compression_level=0.5))
    assert len(constant.samples) / 16_000 == pytest.approx(3, abs=0.2)
    assert "does not say how long it is" in reason(untold(bitrate_mode="VARIABLE"))


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 32_000, 44_100])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_frames_of_mp3_files_are_counted(rate, mode):
    whole = encoded(voice(3, rate=rate), "MP3", rate=rate, bitrate_mode=mode, compression_level=0.5)
    assert mp3.num_samples(whole) == pytest.approx(3 * rate, abs=4 * mp3.LONGEST_FRAME)
    assert mp3.num_samples(whole) >= 3 * rate
