"""Class folders, and the same in every kind of archive."""

import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stages.lib.errors import UserError
from stages.lib.readers import image_folder

PLAIN = ["cats/2.JPG", "cats/deep/er/1.png", "dogs/1.webp", "dogs/2.tif", "Ärger/ü.bmp"]
SPLIT = ["train/cats/1.jpg", "train/dogs/1.jpg", "valid/cats/1.jpg", "valid/dogs/1.jpg", "test/cats/1.jpg", "test/dogs/1.jpg"]


def made(folder, paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(f"bytes of {path}".encode())
    return folder


def read(raw, group_from=""):
    return image_folder.read(raw, group_from=group_from)


def mistake(raw, group_from=""):
    with pytest.raises(UserError) as error:
        read(raw, group_from)
    return str(error.value)


def test_class_folders(tmp_path):
    examples = read(made(tmp_path / "raw", PLAIN))
    assert [e.key for e in examples] == sorted(PLAIN)
    assert [e.label for e in examples] == ["cats", "cats", "dogs", "dogs", "Ärger"]
    assert {e.split for e in examples} == {e.group for e in examples} == {""}
    assert [e.open() for e in examples] == [f"bytes of {e.key}".encode() for e in examples]


def test_given_splits(tmp_path):
    examples = read(made(tmp_path / "raw", SPLIT))
    assert [(e.key, e.label, e.split) for e in examples] == [
        ("test/cats/1.jpg", "cats", "test"), ("test/dogs/1.jpg", "dogs", "test"),
        ("train/cats/1.jpg", "cats", "train"), ("train/dogs/1.jpg", "dogs", "train"),
        ("valid/cats/1.jpg", "cats", "val"), ("valid/dogs/1.jpg", "dogs", "val"),
    ]  # fmt: skip


def test_a_lone_split_is_no_class(tmp_path):
    examples = read(made(tmp_path / "raw", SPLIT[:2]))
    assert [(e.key, e.label, e.split) for e in examples] == [
        ("train/cats/1.jpg", "cats", "train"), ("train/dogs/1.jpg", "dogs", "train"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_threads_may_read_one_archive(tmp_path, kind):
    content = {f"{label}/{i}.png": bytes([i]) * 300_000 for label in ("cats", "dogs") for i in range(50)}
    for path, data in content.items():
        made(tmp_path / "raw", [path])
        (tmp_path / "raw" / path).write_bytes(data)
    examples = read(Path(shutil.make_archive(tmp_path / "archive", kind, tmp_path / "raw")))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda example: example.open(), examples * 3))
    assert found == [content[example.key] for example in examples * 3]


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "bztar", "xztar"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_archives_read_as_the_folder_does(tmp_path, kind, wrapped):
    folder = made(tmp_path / "raw", PLAIN)
    options = {"root_dir": tmp_path, "base_dir": "raw"} if wrapped else {"root_dir": folder}
    (tmp_path / "downloaded").mkdir()
    archive = shutil.make_archive(tmp_path / "downloaded/archive", kind, **options)
    expected = [(*e[:4], e.open()) for e in read(folder)]
    for raw in (tmp_path / "downloaded", Path(archive)):  # as the download `url` leaves it, and by itself
        examples = read(raw)
        backwards = {e.key: e.open() for e in reversed(examples)}
        assert [(*e[:4], backwards[e.key]) for e in examples] == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["downloaded", "raw"], "nothing is unpacked"


def test_a_member_that_points_out_of_the_archive_writes_nothing(tmp_path):
    inside = made(tmp_path / "raw", PLAIN) / "cats/2.JPG"
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        for name in ["cats/1.jpg", "dogs/1.jpg", "../../outside.jpg", "/absolute/outside.jpg"]:
            archive.add(inside, arcname=name) if not name.startswith("/") else archive.addfile(tarfile.TarInfo(name))
    before = sorted(tmp_path.rglob("*"))
    examples = read(tmp_path / "evil.tar")
    assert [e.key for e in examples] == ["absolute/outside.jpg", "cats/1.jpg", "dogs/1.jpg"]
    assert examples[1].open() == b"bytes of cats/2.JPG"
    assert sorted(tmp_path.rglob("*")) == before


def test_hidden_files_and_others_are_skipped_with_a_word(tmp_path, capsys):
    others = [".DS_Store", "cats/._2.JPG", "__MACOSX/cats/2.jpg", ".git/x/1.png", "cats/notes.txt", "readme.md", "dogs/1.heic"]
    examples = read(made(tmp_path / "raw", PLAIN + others))
    assert [e.key for e in examples] == sorted(PLAIN)
    assert "not images: 1 .heic, 1 .md, 1 .txt" in capsys.readouterr().out


def test_one_folder_around_everything(tmp_path):
    examples = read(made(tmp_path / "raw", [f"photos/of/pets/{path}" for path in PLAIN]))
    assert [e.key for e in examples] == sorted(PLAIN)


def test_groups_from_the_path(tmp_path):
    raw = made(tmp_path / "raw", ["sick/p01_a.png", "sick/p01_b.png", "well/p2_a.png"])
    assert [e.group for e in read(raw, r"p(\d+)_")] == ["01", "01", "2"]
    assert r"group_from: p(\d+)x does not match 3 paths: sick/p01_a.png" in mistake(raw, r"p(\d+)x")
    assert "is not a valid regular expression" in mistake(raw, "p(")
    assert "has no (group)" in mistake(raw, r"p\d+")


@pytest.mark.parametrize("paths, said", [
    ([], "is empty"),
    (["cats/a.txt", "dogs/b.heic"], r"holds no images (1 .heic, 1 .txt)"),
    (["cats/1.jpg", "cats/2.jpg"], "has one class (cats)"),
    (["1.jpg", "cats/1.jpg", "dogs/1.jpg"], "1 images outside of class folders: 1.jpg"),
    (["train/a/1.jpg", "train/b/1.jpg", "test/1.jpg"], "1 images outside of class folders: test/1.jpg"),
    (["train/a/1.jpg", "test/a/1.jpg", "cats/1.jpg"], "mixes splits (test, train) with other folders or images (cats)"),
])  # fmt: skip
def test_layouts_that_cannot_be_meant(tmp_path, paths, said):
    (tmp_path / "raw").mkdir()
    assert said in mistake(made(tmp_path / "raw", paths))


def test_no_folder_and_damaged_archives(tmp_path):
    assert "there is no" in mistake(tmp_path / "raw")
    (tmp_path / "raw.zip").write_bytes(b"PK, not really")
    assert "neither a folder nor an archive" in mistake(tmp_path / "raw.zip")
    whole = Path(shutil.make_archive(tmp_path / "a", "gztar", made(tmp_path / "raw", PLAIN)))
    whole.write_bytes(whole.read_bytes()[:-40])
    assert "is damaged" in mistake(whole)
