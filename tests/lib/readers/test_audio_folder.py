"""Recordings in class folders: which files are recordings, and the errors in words. test_image_folder tests the layouts."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stages.lib.errors import UserError
from stages.lib.readers import audio_folder

# What soundfile calls the format of each ending.
FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".mp3": "MP3", ".aiff": "AIFF"}
WAVE = np.sin(np.arange(4000) / 10)


def made(folder, paths):
    for path in map(Path, paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / path, WAVE, 8000, format=FORMATS.get(path.suffix.lower(), "WAV"))
    return folder


def read(raw, group_from=""):
    return audio_folder.read(raw, group_from=group_from)


def mistake(raw, group_from=""):
    with pytest.raises(UserError) as error:
        read(raw, group_from)
    return str(error.value)


def test_every_format_of_soundfile_in_a_folder_and_in_an_archive(tmp_path):
    assert set(audio_folder.RECORDINGS) == set(FORMATS)
    paths = [f"{label}/deep/{ending[1:]}{ending}" for ending in FORMATS for label in ("one", "two")] + ["two/LOUD.WAV"]
    raw = made(tmp_path / "raw", paths)
    archive = Path(shutil.make_archive(tmp_path / "archive", "zip", raw))
    for source in (raw, archive):
        examples = read(source)
        assert [e.key for e in examples] == sorted(paths)
        assert all(e.label == e.key[:3] for e in examples)
        for example in examples:
            wave, rate = soundfile.read(io.BytesIO(example.open()))
            assert rate == 8000 and np.corrcoef(wave[:4000], WAVE)[0, 1] > 0.95, example.key


def test_given_splits_and_speakers(tmp_path):
    raw = made(tmp_path / "raw", ["training/one/0_lucas_1.wav", "valid/one/0_theo_2.wav", "test/two/1_lucas_1.wav"])
    assert [(e.key, e.label, e.group, e.split) for e in read(raw, r"/\d_([a-z]+)_")] == [
        ("test/two/1_lucas_1.wav", "two", "lucas", "test"), ("training/one/0_lucas_1.wav", "one", "lucas", "train"),
        ("valid/one/0_theo_2.wav", "one", "theo", "val"),
    ]  # fmt: skip
    assert "does not match 1 paths: valid/one/0_theo_2.wav" in mistake(raw, "(lucas)")


def test_files_that_are_no_recordings_are_skipped_with_a_word(tmp_path, capsys):
    raw = made(tmp_path / "raw", ["one/1.wav", "two/1.flac", "one/1.txt", "one/1.lab", "one/._1.wav", "two/clip.mp4"])
    assert [e.key for e in read(raw)] == ["one/1.wav", "two/1.flac"]
    assert "skipping files that are not recordings: 1 .lab, 1 .mp4, 1 .txt" in capsys.readouterr().out


@pytest.mark.parametrize("paths, said", [
    (["one/1.m4a", "two/1.txt"], "holds no recordings (1 .m4a, 1 .txt). Allowed endings: .wav, .flac, .ogg, .oga, .mp3, .aiff."),
    (["one/1.wav", "one/2.wav"], "has one class (one); at least two are needed. Add a folder for each other class"),
    (["1.wav", "one/1.wav", "two/1.wav"], "has 1 recordings outside of class folders: 1.wav"),
    (["test/one/1.wav", "two/1.wav"], "mixes splits (test) with other folders or recordings (two)"),
])  # fmt: skip
def test_layouts_that_cannot_be_meant(tmp_path, paths, said):
    assert said in mistake(made(tmp_path / "raw", paths))
