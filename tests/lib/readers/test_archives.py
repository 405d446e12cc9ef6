"""Archives that mean harm, or were packed by mistake: nothing is written, memory and disk are bounded, errors say what to do."""

import io
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from stages.lib.errors import UserError
from stages.lib.readers._folders import files
from tests.lib.readers.test_image_folder import made, mistake, read

GOOD = ["cats/1.jpg", "dogs/1.jpg"]
LINK, HARD_LINK, DEVICE, BLOCK, PIPE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE


def tar(path, *members, mode="w"):
    """A tar of two right images and of members (name, kind, link)."""
    with tarfile.open(path, mode) as archive:
        for name in GOOD:
            member = tarfile.TarInfo(name)
            member.size = 5
            archive.addfile(member, io.BytesIO(b"bytes"))
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            archive.addfile(member)
    return path


def zip_(path, *members):
    """A zip of two right images and of members (name, mode, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in GOOD:
            archive.writestr(name, b"bytes")
        for name, mode, content in members:
            member = zipfile.ZipInfo(name)
            member.external_attr, member.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
    return path


@pytest.fixture
def untouched(tmp_path):
    """Afterwards, nothing was written beside the archive, or where a name in it points to."""
    folder = tmp_path / "deep/inside"
    folder.mkdir(parents=True)
    yield folder
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in folder.parent.iterdir()] == ["inside"]
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("name", ["../../outside.jpg", "cats/../../../outside.jpg", "/etc/outside.jpg", "C:\\outside.jpg"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_points_out_is_a_name_and_nothing_else(untouched, kind, name):
    path = untouched / f"a.{kind}"
    if kind == "zip":
        zip_(path, (name, 0o100644, b"bytes"))
    else:
        tar(path, (name, tarfile.REGTYPE, ""))
    try:
        examples = read(path)
    except UserError as error:
        assert "outside of class folders" in str(error)
    else:
        assert {*GOOD} <= {e.key for e in examples} and not any(".." in e.key or e.key.startswith("/") for e in examples)
    assert not Path("/etc/outside.jpg").exists()


@pytest.mark.parametrize("kind, link", [
    (LINK, "/etc/passwd"), (LINK, "../../../../etc/passwd"), (LINK, "2.jpg"), (HARD_LINK, "/etc/passwd"),
    (HARD_LINK, "cats/none.jpg"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["cats/2.jpg", "cats/2"])
def test_links_that_lead_out_or_nowhere_are_refused(untouched, name, kind, link):
    assert "1 links in place of what they point to: cats/2" in mistake(tar(untouched / "a.tar", (name, kind, link)))


@pytest.mark.parametrize("kind, link", [(LINK, "1.jpg"), (LINK, "../dogs/1.jpg"), (HARD_LINK, "dogs/1.jpg")])
def test_links_to_other_files_of_the_tar_are_followed(untouched, kind, link):
    examples = read(tar(untouched / "a.tar", ("cats/2.jpg", kind, link)))
    assert {e.key: e.open() for e in examples}["cats/2.jpg"] == b"bytes"


@pytest.mark.parametrize("name", ["cats/2.jpg", "cats/2"])
@pytest.mark.parametrize("kind", [DEVICE, BLOCK, PIPE])
def test_devices_and_pipes_are_refused(untouched, kind, name):
    told = mistake(tar(untouched / "a.tar", (name, kind, "")))
    assert "has 1 pipes or devices, which are no files: cats/2" in told


def test_devices_and_pipes_in_zip_files_and_folders_are_refused(tmp_path):
    assert "1 pipes or devices" in mistake(zip_(tmp_path / "a.zip", ("cats/2.jpg", 0o010644, b"")))
    assert "1 pipes or devices" in mistake(zip_(tmp_path / "b.zip", ("cats/2.jpg", 0o020644, b"")))
    raw = made(tmp_path / "raw", GOOD)
    os.mkfifo(raw / "cats/2.jpg")
    assert "1 pipes or devices, which are no files: cats/2.jpg. Leave them out." in mistake(raw)
    (raw / "cats/2.jpg").rename(raw / "cats/.2.jpg")
    assert len(read(raw)) == 2, "what is hidden is the system's"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_file_that_is_too_large_once_it_is_unpacked_is_not_read(untouched, kind, monkeypatch):
    monkeypatch.setattr(files, "LARGEST", 1000)
    path = untouched / f"a.{kind}"
    if kind == "zip":
        zip_(path, ("cats/2.jpg", 0o100644, bytes(1001)))
    else:
        with tarfile.open(tar(path), "a") as archive:
            member = tarfile.TarInfo("cats/2.jpg")
            member.size = 1001
            archive.addfile(member, io.BytesIO(bytes(1001)))
    examples = {e.key: e for e in read(path)}
    assert examples["cats/1.jpg"].open() == b"bytes"
    with pytest.raises(ValueError, match=r"it has 0\.0 GB once it is unpacked"):
        examples["cats/2.jpg"].open()


def test_a_zip_that_lies_about_its_sizes_gives_no_more_than_it_says(tmp_path):
    path = zip_(tmp_path / "a.zip", ("cats/2.jpg", 0o100644, bytes(1 << 20)))
    content = path.read_bytes().replace((1 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        {e.key: e for e in read(path)}["cats/2.jpg"].open()


def test_members_that_share_their_bytes_are_refused_one_by_one(tmp_path):
    """The way to petabytes from a few kilobytes (D. Fifield, A better zip bomb, 2019)."""
    path = zip_(tmp_path / "a.zip", ("cats/2.jpg", 0o100644, b"a picture"), ("cats/3.jpg", 0o100644, b"another one"))
    with zipfile.ZipFile(path) as archive:
        second, third = (archive.getinfo(f"cats/{index}.jpg").header_offset for index in (2, 3))
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    path.write_bytes(content[:start] + content[start:].replace(third.to_bytes(4, "little"), second.to_bytes(4, "little")))
    with pytest.raises(zipfile.BadZipFile):
        [e.open() for e in read(path)]


def test_a_tar_that_swells_is_refused_before_it_fills_the_disk(untouched, monkeypatch):
    monkeypatch.setattr(files, "LARGEST", 1000)
    spools, temporary = [], tempfile.TemporaryFile

    def noted():
        spools.append(temporary())
        return spools[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    path = untouched / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("cats/1.jpg")
        member.size = 50 << 20
        archive.addfile(member, io.BytesIO(bytes(50 << 20)))
    assert "more than 100 times as large once it is decompressed" in mistake(path)
    assert [spool.closed for spool in spools] == [True]


def test_an_archive_with_a_password_is_an_error_in_words(tmp_path):
    path = zip_(tmp_path / "a.zip", ("cats/notes", 0o100644, b"bytes"))
    content = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # say that each member needs a password
        place = content.find(header)
        while place >= 0:
            content[place + flags] |= 1
            place = content.find(header, place + 1)
    path.write_bytes(content)
    examples = read(path)  # their names say that they are images
    with pytest.raises(RuntimeError, match="password"):
        examples[0].open()


@pytest.mark.parametrize("paths, remedy", [
    (["cats.zip", "dogs.zip"], "Unpack the archives that are inside"),
    (["photos.zip"], "Unpack the archives that are inside"),
    (["cats/1.heic", "dogs/1.HEIC", "dogs/2.heif"], "heif-convert IN.heic OUT.jpg"),
    (["cats/1.NEF"], "Export raw files of cameras as JPEG"),
    (["cats/1.txt"], "Allowed endings: .jpg"),
])  # fmt: skip
def test_files_that_could_be_images_after_all_are_answered_with_what_to_do(tmp_path, paths, remedy):
    folder = made(tmp_path / "raw", paths)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for each in paths:
            archive.write(folder / each, each)
    told = mistake(path)
    assert "holds no images" in told and remedy in told


def test_photos_that_are_skipped_among_others_are_a_warning(tmp_path, capsys):
    raw = made(tmp_path / "raw", [*GOOD, "cats/2.heic"])
    assert len(read(raw)) == 2
    told = capsys.readouterr().out
    assert told.startswith(f"WARNING: {raw}: skipping files that are not images: 1 .heic. Convert .heic and")
    (raw / "cats/2.heic").rename(raw / "cats/notes.txt")
    assert len(read(raw)) == 2
    assert "WARNING" not in capsys.readouterr().out
