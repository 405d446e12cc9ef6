"""Names of files and folders in the encodings of the outside world, in folders, zips and tars."""

import io
import os
import sys
import tarfile
import zipfile
from functools import partial
from unicodedata import normalize

import pytest

from stages.lib.errors import UserError
from stages.lib.readers import csv
from stages.lib.readers._folders import names
from tests.lib.readers.test_image_folder import made, mistake, read

GERMAN, FRENCH, JAPANESE = ["Käfer", "Möwe", "Spaß"], ["château", "forêt"], ["ねこ", "イヌ cat", "日本犬"]


def zipped(path, stored, flag=False):
    """A zip with an image in each folder, whose names are written as these bytes."""
    file = io.BytesIO()
    placeholders = [f"{'x' * len(name)}{index:03}" for index, name in enumerate(stored)]
    with zipfile.ZipFile(file, "w") as archive:
        for place in placeholders:
            archive.writestr(f"{place}/1.jpg", place)
    content = file.getvalue()
    for place, name in zip(placeholders, stored, strict=True):
        content = content.replace(place.encode() + b"/", name + place[-3:].encode() + b"/")
    path.write_bytes(content)
    return path


def tarred(path, stored):
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for index, name in enumerate(stored):
            member = tarfile.TarInfo(f"{name.decode('utf-8', 'surrogateescape')}{index:03}/1.jpg")
            archive.addfile(member)
    return path


def labels(raw):
    return [label[:-3] for label in sorted({e.label for e in read(raw)}, key=lambda label: label[-3:])]


@pytest.mark.parametrize("words, encoding", [
    (GERMAN, "utf-8"), (GERMAN, "cp437"), (GERMAN, "cp1252"), (FRENCH, "cp437"), (FRENCH, "cp1252"), (JAPANESE, "cp932"),
    (JAPANESE, "utf-8"), (["кошка", "собака"], "utf-8"),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["zip", "tar", "folder"])
def test_names_are_read_in_the_encoding_in_which_they_can_be_meant(tmp_path, capsys, words, encoding, kind):
    stored = [word.encode(encoding) for word in words]
    if kind == "zip":
        raw = zipped(tmp_path / "a.zip", stored)
    elif kind == "tar":
        raw = tarred(tmp_path / "a.tar", stored)
    else:
        raw = tmp_path / "raw"
        for index, name in enumerate(stored):
            folder = raw / os.fsdecode(name + f"{index:03}".encode())
            folder.mkdir(parents=True)
            (folder / "1.jpg").write_bytes(b"x")
    assert labels(raw) == words
    assert all(e.open() is not None and e.key.encode("utf-8") for e in read(raw))
    assert (f"names are not UTF-8 and are read as {encoding}" in capsys.readouterr().out) == (encoding != "utf-8")


def test_a_doubtful_encoding_is_a_warning_that_shows_both(tmp_path, capsys):
    assert labels(zipped(tmp_path / "a.zip", ["Ärger".encode("cp437"), b"dog"])) == ["Ärger", "dog"]
    told = capsys.readouterr().out
    assert told.startswith(f"WARNING: {tmp_path}/a.zip: 1 names are not UTF-8 and are read as cp437: Ärger000/1.jpg.")
    assert "They could also be Žrger000/1.jpg." in told


def test_names_in_no_encoding_are_refused(tmp_path):
    said = mistake(zipped(tmp_path / "a.zip", [b"\x81\xff\xfe", "Käfer".encode("cp1252")]))
    assert "2 names that are neither UTF-8 nor all of cp437, cp1252, cp932: " in said and r"\x81\xff\xfe" in said


def test_names_that_a_zip_says_are_utf8_are(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for word in (*GERMAN, *JAPANESE):
            archive.writestr(f"{word}/1.jpg", b"")
    assert {e.label for e in read(tmp_path / "a.zip")} == {*GERMAN, *JAPANESE}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("folders", [False, True])
def test_backslashes_of_windows_are_folders(tmp_path, folders):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ["photos\\", "photos\\cat\\"] * folders + ["photos\\cat\\1.jpg", "photos\\dog\\1.jpg"]:
            archive.writestr(zipfile.ZipInfo(name), b"x")
    assert [(e.key, e.label, e.open()) for e in read(tmp_path / "a.zip")] == [
        ("cat/1.jpg", "cat", b"x"), ("dog/1.jpg", "dog", b"x"),
    ]  # fmt: skip


def test_a_backslash_in_a_name_of_linux_stays(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ["cat/a\\b.jpg", "dog/1.jpg"]:
            archive.writestr(zipfile.ZipInfo(name), b"x")
    assert [e.key for e in read(tmp_path / "a.zip")] == ["cat/a\\b.jpg", "dog/1.jpg"]


def test_one_class_in_two_spellings_of_unicode(tmp_path, capsys):
    one, two = normalize("NFC", "Käfer"), normalize("NFD", "Käfer")
    raw = made(tmp_path / "raw", [f"train/{one}/1.jpg", f"test/{two}/1.jpg", "train/dog/1.jpg", "test/dog/1.jpg"])
    examples = read(raw, "([^/]+)/[^/]+$")
    assert {e.label for e in examples} == {one, "dog"} == {e.group for e in examples}
    assert {e.key for e in examples} >= {f"test/{two}/1.jpg"}, "the path stays as it is"
    assert f"taken as one class though spelled in two ways in Unicode (NFC, NFD): {one}\n" in capsys.readouterr().out


def test_labels_and_groups_of_a_table_too(tmp_path):
    one, two = normalize("NFC", "Käfer"), normalize("NFD", "Käfer")
    (tmp_path / "t.csv").write_text(f"text,label,group\na {two},{one},{one}\nb,{two},{two}\n", encoding="utf-8")
    assert [(e.label, e.group, e.open().decode()) for e in csv.read(tmp_path)] == [(one, one, f"a {two}"), (one, one, "b")]


def test_no_name_at_all_and_names_of_one_encoding():
    assert names.decoded([], "raw", names.DOS) == []
    assert names.decoded([b"a"], "raw", names.DOS) == ["a"]


def test_a_damaged_zip_is_told(tmp_path):
    whole = zipped(tmp_path / "a.zip", [b"cat", b"dog"]).read_bytes()
    at = whole.index(b"PK\x01\x02")
    (tmp_path / "a.zip").write_bytes(whole[:at] + b"PK\x07\x07" + whole[at + 4 :])
    assert "is damaged" in mistake(tmp_path / "a.zip")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_folder_for_temporary_files_is_told(tmp_path, monkeypatch):
    """The device that is always full stands in for it: what is written is what a compressed tar is decompressed to."""
    made(tmp_path / "raw", ["cat/1.jpg", "dog/1.jpg"])
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "raw", arcname=".")
    monkeypatch.setattr("tempfile.TemporaryFile", partial(open, "/dev/full", "wb", buffering=0))
    with pytest.raises(UserError, match=r"there is no room in .* set TMPDIR to a folder with more") as error:
        read(tmp_path / "a.tar.gz")
    assert "damaged" not in str(error.value)
