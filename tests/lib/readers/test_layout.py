"""What is taken for a class, what for a split, and what is said of folders that could be either, or are lost."""

import os
import zipfile
from pathlib import Path

import pytest

from stages.lib.errors import UserError
from stages.lib.readers import image_folder, text_folder
from tests.lib.readers.test_image_folder import made, mistake, read


def taken(raw):
    """Label and split of each path."""
    return {e.key: (e.label, e.split) for e in read(raw)}


@pytest.mark.parametrize("train, val, test", [
    ("seg_train", "seg_val", "seg_test"), ("training_set", "validation_set", "test_set"), ("train2017", "val2017", "test2017"),
    ("TrainImages", "ValidImages", "TestImages"), ("trainset", "valset", "testset"), ("my train", "my valid", "my test data"),
    ("Train", "Val", "Test2"),
])  # fmt: skip
def test_splits_by_longer_names(tmp_path, capsys, train, val, test):
    raw = made(tmp_path / "raw", [f"{split}/{label}/1.jpg" for split in (train, val, test) for label in ("cat", "dog")])
    assert taken(raw) == {
        f"{folder}/{label}/1.jpg": (label, split)
        for folder, split in [(train, "train"), (val, "val"), (test, "test")]
        for label in ("cat", "dog")
    }
    told = capsys.readouterr().out
    assert f"{train} (train)" in told and f"{test} (test)" in told


def test_a_folder_more_in_every_split(tmp_path):
    paths = [f"seg_{split}/seg_{split}/{label}/1.jpg" for split in ("train", "test") for label in ("cat", "dog")]
    assert set(taken(made(tmp_path / "raw", paths)).values()) == {(a, b) for a in ("cat", "dog") for b in ("train", "test")}


def test_a_split_with_one_class_alone_is_not_skipped(tmp_path):
    raw = made(tmp_path / "raw", ["train/cat/a/1.jpg", "train/dog/a/1.jpg", "test/cat/a/2.jpg"])
    assert set(taken(raw).values()) == {("cat", "train"), ("dog", "train"), ("cat", "test")}


def test_splits_below_the_classes(tmp_path, capsys):
    raw = made(tmp_path / "raw", [f"{label}/{split}/1.jpg" for label in ("nut", "bolt") for split in ("train", "test")])
    assert set(taken(raw).values()) == {(a, b) for a in ("nut", "bolt") for b in ("train", "test")}
    assert f"{raw}: splits below each class are given: test (test), train (train)" in capsys.readouterr().out


@pytest.mark.parametrize("paths", [
    [f"{product}/{rest}/1.png" for product in ("nut", "bolt") for rest in ("train/good", "test/good", "test/bent")],  # MVTec's
    ["cat/1.jpg", "cat/test/2.jpg", "dog/1.jpg"],
    ["cat/train/1.jpg", "cat/test/2.jpg", "dog/1.jpg"],
    ["cat/train/1.jpg", "cat/more/2.jpg", "dog/train/1.jpg"],
])  # fmt: skip
def test_splits_below_that_can_be_meant_in_two_ways_are_refused(tmp_path, paths):
    said = mistake(made(tmp_path / "raw", paths))
    assert "which are the classes, and which the splits?" in said and "csv" in said
    for path in paths:
        assert f"\n  {Path(path).parent}: 1" in said, "the folders that were seen"


def test_a_class_called_train_needs_a_split_around_it(tmp_path):
    said = mistake(made(tmp_path / "raw", ["bus/1.jpg", "train/1.jpg"]))
    assert "If train is a class, put all class folders into one folder called train" in said and "\n  bus: 1" in said
    inside = made(tmp_path / "inside", ["train/bus/1.jpg", "train/train/1.jpg"])
    assert set(taken(inside).values()) == {("bus", "train"), ("train", "train")}


def test_unlabelled_test_images_beside_classes_are_refused(tmp_path):
    assert "mixes splits (test)" in mistake(made(tmp_path / "raw", ["cat/1.jpg", "dog/1.jpg", "test/1.jpg"]))


def test_classes_that_look_like_a_split_are_told(tmp_path, capsys):
    assert {e.label for e in read(made(tmp_path / "raw", ["cat/1.jpg", "dog/1.jpg", "test_images/1.jpg"]))} >= {"test_images"}
    assert "WARNING" in (told := capsys.readouterr().out) and "classes with names of splits: test_images." in told


def test_splits_without_classes_are_refused(tmp_path):
    assert "images outside of class folders" in mistake(made(tmp_path / "raw", ["train_images/1.jpg", "test_images/1.jpg"]))


def test_folders_that_all_hold_the_same_folders_are_told(tmp_path, capsys):
    raw = made(tmp_path / "raw", [f"{site}/{label}/1.jpg" for site in ("north", "south") for label in ("cat", "dog")])
    assert {e.label for e in read(raw)} == {"north", "south"}
    told = capsys.readouterr().out
    assert (
        "WARNING" in told
        and "the classes north, south all hold the same folders (cat, dog)" in told
        and "\n  south/dog: 1" in told
    )
    read(made(tmp_path / "other", ["cat/a/1.jpg", "cat/b/1.jpg", "dog/a/1.jpg", "dog/c/1.jpg"]))
    assert "WARNING" not in capsys.readouterr().out


@pytest.mark.parametrize("lost, told", [
    (["tram/1.heic", "tram/2.heic"], "tram (2 .heic)"), (["tram/deep/notes.txt"], "tram (1 .txt)"), (["tram/"], "tram (empty)"),
])  # fmt: skip
@pytest.mark.parametrize("above", ["", "photos/", "train/"])
def test_folders_without_images_are_told(tmp_path, capsys, lost, told, above):
    raw = made(
        tmp_path / "raw", [f"{above}cat/1.jpg", f"{above}dog/x/1.jpg", *(f"{above}{p}" for p in lost if not p.endswith("/"))]
    )
    for path in lost:
        (raw / f"{above}{path}").parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            (raw / f"{above}{path}").mkdir(exist_ok=True)
    archive = tmp_path / "raw.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in raw.rglob("*"):
            file.write(path, path.relative_to(raw))
    for source in (raw, archive):
        assert {e.label for e in read(source)} == {"cat", "dog"}
        assert f"WARNING: {source}: folders without images, which are no classes: {above}{told}\n" in capsys.readouterr().out


def test_a_folder_beside_the_one_around_all_classes_is_told(tmp_path, capsys):
    read(made(tmp_path / "raw", ["photos/cat/1.jpg", "photos/dog/1.jpg", "other/bird/1.heic", "README.md"]))
    assert "which are no classes: other (1 .heic)\n" in capsys.readouterr().out
    read(made(tmp_path / "texts", ["photos/cat/1.jpg", "photos/dog/1.jpg", "README.md", "photos/cat/notes.txt"]))
    assert "WARNING" not in capsys.readouterr().out


# Links.


def test_a_class_behind_a_link_is_read(tmp_path):
    raw = made(tmp_path / "raw", ["cat/1.jpg", "dog/1.jpg"])
    made(tmp_path / "elsewhere", ["a/1.jpg", "b/2.jpg"])
    (raw / "bird").symlink_to("../elsewhere", target_is_directory=True)
    (raw / "cat/2.jpg").symlink_to("1.jpg")
    assert [e.key for e in read(raw)] == ["bird/a/1.jpg", "bird/b/2.jpg", "cat/1.jpg", "cat/2.jpg", "dog/1.jpg"]
    assert {e.key: e.open() for e in read(raw)}["bird/b/2.jpg"] == b"bytes of b/2.jpg"


def test_links_that_lead_nowhere_or_around_are_refused(tmp_path):
    raw = made(tmp_path / "raw", ["cat/1.jpg", "dog/1.jpg"])
    (raw / "bird").symlink_to("../elsewhere")
    assert f"1 links lead nowhere: {raw}/bird" in mistake(raw)
    (raw / "bird").unlink()
    (raw / "cat/again").symlink_to("..")
    assert f"{raw}/cat/again is a link to a folder that contains it" in mistake(raw)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_told(tmp_path):
    raw = made(tmp_path / "raw", ["cat/1.jpg", "dog/1.jpg", "bird/1.jpg"])
    (raw / "bird").chmod(0)
    try:
        assert f"{raw}/bird cannot be read: Permission denied" in mistake(raw)
    finally:
        (raw / "bird").chmod(0o700)


# What a file is.


def test_an_image_is_one_by_its_content(tmp_path, capsys):
    from tests.lib.modalities.image.test_inputs import blocks, encoded

    raw = made(tmp_path / "raw", ["cat/1.jpg", "dog/README", "dog/notes.txt"])
    kinds = {"1.jfif": "JPEG", "2.avif": "AVIF", "3.jp2": "JPEG2000", "4": "PNG", "5.dat": "TIFF", "6.pbm": "PPM", "7.qoi": "QOI"}
    for name, kind in kinds.items():
        (raw / "dog" / name).write_bytes(encoded(blocks(), kind))
    (raw / "dog/notes.txt").write_bytes(b"Python and P5 and BM\n")
    (raw / "dog/README").write_bytes(b"")
    assert {e.key for e in read(raw)} == {"cat/1.jpg", *(f"dog/{name}" for name in kinds)}
    assert "skipping files that are not images: 1 .txt, 1 without ending" in capsys.readouterr().out


def test_a_damaged_image_without_ending_is_no_other_file(tmp_path):
    from tests.lib.modalities.image.test_inputs import blocks, encoded

    raw = made(tmp_path / "raw", ["cat/1.jpg", "dog/1.jpg"])
    whole = encoded(blocks(), "PNG")
    (raw / "dog/2").write_bytes(whole[: len(whole) // 2])
    assert "dog/2" in {e.key for e in read(raw)}, "prepare tells that it is damaged"


def test_texts_are_texts_by_their_ending_alone(tmp_path):
    raw = made(tmp_path / "raw", ["a/1.txt", "b/1.txt", "b/2.dat"])
    assert [e.key for e in text_folder.read(raw, group_from="")] == ["a/1.txt", "b/1.txt"]


def test_every_ending_is_one_that_pillow_knows():
    from PIL import Image

    from stages.lib.modalities.image.files import FORMATS

    Image.init()
    known = Image.registered_extensions()
    assert {known[ending] for ending in image_folder.IMAGES} <= {*FORMATS}
    assert set(FORMATS) <= set(Image.OPEN)


def test_an_archive_with_links_is_refused(tmp_path):
    import tarfile

    inside = made(tmp_path / "raw", ["cat/1.jpg", "dog/1.jpg"])
    (inside / "bird").symlink_to("../elsewhere")
    (inside / "cat/2.jpg").symlink_to("1.jpg")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(inside, arcname="raw")
    with pytest.raises(UserError, match="1 links in place of what they point to: raw/bird"):
        read(tmp_path / "a.tar")
    (inside / "bird").unlink()
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        archive.add(inside, arcname="raw")
    assert {e.key: e.open() for e in read(tmp_path / "b.tar")}["cat/2.jpg"] == b"bytes of cat/1.jpg"
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as file:
        file.writestr("cat/1.jpg", b"")
        link = zipfile.ZipInfo("bird")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "../elsewhere")
    assert "has 1 links in place of what they point to: bird" in mistake(tmp_path / "c.zip")
