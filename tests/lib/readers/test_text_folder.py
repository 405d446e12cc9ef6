"""Texts in class folders: which files are texts, and the errors in words of texts. test_image_folder tests the layouts."""

import shutil
from pathlib import Path

import pytest

from stages.lib.errors import UserError
from stages.lib.readers import text_folder

TEXTS = {"neg/2.TXT": "Nein.\r\n", "neg/deep/1.txt": "no, \"never\"", "pos/1.txt": "\ufeffJa 🎉\n", "NA/ü.txt": ""}  # fmt: skip


@pytest.fixture
def raw(tmp_path):
    return made(tmp_path / "raw", TEXTS)


def made(folder, texts):
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text.encode())
    return folder


def read(raw, group_from=""):
    return text_folder.read(raw, group_from=group_from)


def mistake(raw, group_from=""):
    with pytest.raises(UserError) as error:
        read(raw, group_from)
    return str(error.value)


def test_every_byte_of_the_texts(raw):
    examples = read(raw)
    assert [(e.key, e.label, e.group, e.split) for e in examples] == [
        ("NA/ü.txt", "NA", "", ""), ("neg/2.TXT", "neg", "", ""), ("neg/deep/1.txt", "neg", "", ""), ("pos/1.txt", "pos", "", ""),
    ]  # fmt: skip
    assert {e.key: e.open().decode() for e in examples} == TEXTS


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_an_archive(raw, tmp_path, kind):
    archive = Path(shutil.make_archive(tmp_path / "archive", kind, raw))
    assert {e.key: e.open().decode() for e in read(archive)} == TEXTS


def test_given_splits_and_groups(tmp_path):
    raw = made(tmp_path / "raw", dict.fromkeys(["train/neg/7_a.txt", "train/pos/8_b.txt", "test/neg/7_c.txt"], "a"))
    assert [(e.key, e.label, e.group, e.split) for e in read(raw, r"(\d+)_")] == [
        ("test/neg/7_c.txt", "neg", "7", "test"), ("train/neg/7_a.txt", "neg", "7", "train"),
        ("train/pos/8_b.txt", "pos", "8", "train"),
    ]  # fmt: skip
    assert "group_from: (8)_ does not match 2 paths: test/neg/7_c.txt, train/neg/7_a.txt" in mistake(raw, "(8)_")


def test_files_that_are_no_texts_are_skipped_with_a_word(raw, capsys):
    made(raw, dict.fromkeys(["pos/1.png", "pos/2.pdf", "notes.md", "pos/.3.txt"], "x"))
    assert [e.key for e in read(raw)] == sorted(TEXTS)
    assert "skipping files that are not texts: 1 .md, 1 .pdf, 1 .png" in capsys.readouterr().out


@pytest.mark.parametrize("paths, said", [
    (["pos/1.html", "neg/2.wav"], "holds no texts (1 .html, 1 .wav). Allowed endings: .txt."),
    (["1.txt"], "1 texts outside of class folders: 1.txt. Make a folder for each class"),
    (["README.txt", "pos/1.txt", "neg/1.txt"], "has 1 texts outside of class folders: README.txt"),
    (["train/a/1.txt", "test/a/1.txt", "pos/1.txt"], "mixes splits (test, train) with other folders or texts (pos)"),
])  # fmt: skip
def test_layouts_that_cannot_be_meant(tmp_path, paths, said):
    assert said in mistake(made(tmp_path / "raw", dict.fromkeys(paths, "a")))
