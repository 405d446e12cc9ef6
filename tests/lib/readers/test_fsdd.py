"""The reader of the Free Spoken Digit Dataset, on tones in its layout."""

import io
import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from stages.lib.data import splits
from stages.lib.errors import UserError
from stages.lib.readers import fsdd

SPEAKERS = ["anna", "ben", "carl"]
BLOCK = {"what": "digits", "speakers": [], "test_speakers": [], "val_speakers": [], "num_strings": 0, "seed": 0}
PER_DIGIT, RATE = 12, 8_000


def tone(digit, speaker, index):
    """Each recording has a pitch of its own, and its own length and level."""
    hertz = 200 + 9 * (digit + 10 * index + 130 * SPEAKERS.index(speaker))
    times = np.arange(1_000 + 20 * index) / RATE
    return ((0.1 + 0.02 * index) * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fsdd") / "free-spoken-digit-dataset-1.0.10"
    (folder / "recordings").mkdir(parents=True)
    (folder / "README.md").write_text("about")
    (folder / "spectrograms").mkdir()
    (folder / "spectrograms/0_anna_0.wav").write_bytes(b"not a recording")
    for speaker in SPEAKERS:
        for digit in range(10):
            for index in range(PER_DIGIT):
                soundfile.write(folder / f"recordings/{digit}_{speaker}_{index}.wav", tone(digit, speaker, index), RATE)
    return folder.parent


def read(raw, **given):
    return fsdd.read(raw, **fsdd.Params(**BLOCK | given).model_dump())


def test_digits(raw):
    examples = read(raw)
    assert len(examples) == len(SPEAKERS) * 10 * PER_DIGIT and [e.key for e in examples] == sorted(e.key for e in examples)
    first = examples[0]
    assert first[:4] == ("0_anna_0", "zero", "anna", "")
    assert soundfile.read(io.BytesIO(first.open()))[0] == pytest.approx(tone(0, "anna", 0), abs=1e-4)
    assert Counter(e.label for e in examples) == dict.fromkeys(fsdd.WORDS, 3 * PER_DIGIT)


def test_the_folder_its_recordings_and_archives_are_read_alike(raw, tmp_path):
    expected = [e[:4] for e in read(raw)]
    (inner,) = raw.iterdir()
    archives = [shutil.make_archive(tmp_path / name, kind, raw) for name, kind in (("a", "zip"), ("b", "xztar"))]
    for each in (inner, inner / "recordings", *archives):
        examples = read(type(raw)(each))
        assert [e[:4] for e in examples] == expected
        assert examples[7].open() == read(raw)[7].open()


def test_speakers_that_are_heard_in_the_test_alone(raw):
    examples = read(raw, test_speakers=["anna", "carl"])
    assert {(e.group, e.split) for e in examples} == {("anna", "test"), ("carl", "test"), ("ben", "train")}
    examples = read(raw, speakers=["anna", "ben"], val_speakers=["ben"])
    assert {(e.group, e.split) for e in examples} == {("anna", "train"), ("ben", "val")}


def test_the_official_test_of_speakers(raw):
    examples = read(raw, what="speakers")
    assert {(e.label, e.group) for e in examples} == {(speaker, "") for speaker in SPEAKERS}
    tested = {int(e.key.rpartition("_")[2]) for e in examples if e.split == "test"}
    others = {int(e.key.rpartition("_")[2]) for e in examples if e.split == ""}
    assert tested == set(range(5)) and others == set(range(5, PER_DIGIT))


def strings(raw, **given):
    return read(raw, what="strings", **{"num_strings": 40} | given)


def spoken_in(example):
    """The recordings of a string, by their pitch: (digit, index) of its speaker."""
    samples, rate = example.open()
    assert rate == RATE and samples.dtype == np.float32
    loud = np.flatnonzero(samples)
    parts = np.split(loud, np.flatnonzero(np.diff(loud) > 300) + 1)
    found = []
    for part in parts:
        spectrum = np.abs(np.fft.rfft(samples[part[0] : part[-1] + 1], 8 * RATE))
        number = round((spectrum.argmax() / 8 - 200) / 9) - 130 * SPEAKERS.index(example.key.partition("_")[0])
        found.append((number % 10, number // 10))
    return samples, parts, found


def test_strings_are_what_their_labels_say(raw):
    examples = strings(raw, num_strings=10)
    assert len(examples) == 30 and Counter(e.group for e in examples) == dict.fromkeys(SPEAKERS, 10)
    for example in examples:
        samples, parts, found = spoken_in(example)
        assert " ".join(fsdd.WORDS[digit] for digit, _ in found) == example.label
        assert len(found) in (3, 4) and 800 <= parts[0][0] <= 801
        for part, after in zip(parts, [*parts[1:], None], strict=True):
            assert np.abs(samples[part]).max() == pytest.approx(0.5, abs=1e-3)
            gap = (len(samples) if after is None else after[0]) - part[-1]
            assert 400 <= gap <= 1_205
    assert {len(e.label.split()) for e in examples} == {3, 4}


def test_strings_are_made_from_the_seed_alone(raw):
    first, again = strings(raw), strings(raw)
    assert [e[:4] for e in first] == [e[:4] for e in again]
    np.testing.assert_array_equal(first[3].open()[0], again[3].open()[0])
    assert [e.label for e in strings(raw, seed=1)] != [e.label for e in first]
    more = {e.key: e.label for e in strings(raw, num_strings=50)}
    assert all(more[e.key] == e.label for e in first), "more strings change none"
    alone = {e.key: e.label for e in strings(raw, speakers=["ben"])}
    assert alone == {e.key: e.label for e in first if e.key.startswith("ben")}, "nor do other speakers"


@pytest.mark.parametrize("given", [
    {}, {"speakers": ["ben"]}, {"test_speakers": ["anna", "ben"]}, {"val_speakers": ["ben"]},
    {"test_speakers": ["anna"], "val_speakers": ["ben"]},
])  # fmt: skip
def test_no_recording_is_in_strings_of_two_splits(raw, given):
    used: dict[tuple, set[str]] = {}
    examples = strings(raw, **given)
    for example in examples:
        speaker = example.key.partition("_")[0]
        for name, split in (("test_speakers", "test"), ("val_speakers", "val")):
            assert speaker not in given.get(name, []) or example.split == split
        for recording in spoken_in(example)[2]:
            used.setdefault((speaker, *recording), set()).add(example.split)
    assert {len(names) for names in used.values()} == {1}
    how = {"val": 0.1, "test": 0.1, "seed": 0, "by_group": False, "stratify": False}
    counts = Counter(splits.assign(examples, **how))
    assert counts["train"] >= 24 and min(counts["val"], counts["test"]) >= 8
    assert [e.split for e in examples] == splits.assign(examples, **how), "all splits are given"


def test_official_indices_are_the_test_of_strings(raw):
    for example in strings(raw, speakers=["anna"]):
        indices = {index for _, index in spoken_in(example)[2]}
        assert indices <= {"test": set(range(5)), "val": set(range(5, 10)), "train": {10, 11}}[example.split]


@pytest.mark.parametrize(("wrong", "words"), [
    ({"what": "words"}, "'digits', 'speakers' or 'strings'"),
    ({"test_speakers": ["anna"], "val_speakers": ["anna"]}, "nobody twice, but they have anna"),
    ({"speakers": ["ben"], "test_speakers": ["anna"]}, "anna must be among speakers too"),
    ({"what": "speakers", "test_speakers": ["anna"]}, "recordings 0 to 4 of each digit are the test"),
    ({"what": "strings"}, "num_strings must be 1 or more"),
    ({"num_strings": 5}, "for what: digits, num_strings must be 0"),
])  # fmt: skip
def test_params_that_make_no_sense(wrong, words):
    with pytest.raises(ValidationError, match=words):
        fsdd.Params(**BLOCK | wrong)


def test_unknown_speakers_and_wrong_folders(raw, tmp_path):
    with pytest.raises(UserError, match=r"test_speakers: .*no speaker 'bem'. Did you mean 'ben'\? Allowed: anna, ben, carl"):
        read(raw, test_speakers=["bem"])
    with pytest.raises(UserError, match="there is no"):
        read(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "7_jackson_32.txt").write_text("a")
    with pytest.raises(UserError, match=r"recordings/7_jackson_32\.wav"):
        read(tmp_path)


def test_a_damaged_recording_is_named_by_the_string_that_needs_it(tmp_path):
    (tmp_path / "recordings").mkdir()
    for index in range(12):
        soundfile.write(tmp_path / f"recordings/3_anna_{index}.wav", tone(3, "anna", index), RATE)
    cut = (tmp_path / "recordings/3_anna_0.wav").read_bytes()[:-100]
    for index in range(5):
        (tmp_path / f"recordings/3_anna_{index}.wav").write_bytes(cut)
    broken = next(e for e in strings(tmp_path) if e.split == "test")
    with pytest.raises(ValueError, match=r"3_anna_\d: it is cut off"):
        broken.open()
    with pytest.raises(UserError, match="anna has no recordings from which strings of test"):
        for index in range(5):
            (tmp_path / f"recordings/3_anna_{index}.wav").unlink()
        strings(tmp_path)
