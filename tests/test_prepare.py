"""The stage prepare on real files: what it packs, what it leaves out, what it refuses, and the same bytes each time."""

import copy
import io
import re
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import prepare
from stages.lib.core import cards, datasets
from stages.lib.data import packing
from stages.lib.errors import UserError
from stages.lib.modalities.image import inputs
from tests.tiny import FOLDER, HOW, PARAMS, model_card, write_params

SPLITS = ["train", "val", "test"]


def picture(seed, width=40, height=30):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def encoded(image, kind="PNG"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the card of a source and 20 cats, 30 dogs; `run` prepares it and returns card and splits."""
    monkeypatch.chdir(tmp_path)
    card = model_card("tiny", kind="source", preprocessing=HOW, chain=["tiny"])
    cards.write_json(Path("models/tiny/card.json"), card.model_dump())
    for label, num in [("cat", 20), ("dog", 30)]:
        Path("raw", label).mkdir(parents=True)
        for index in range(num):
            Path("raw", label, f"{index:02}.png").write_bytes(encoded(picture(zlib.crc32(f"{label}{index}".encode()))))
    return run


def run(**changes):
    params = copy.deepcopy(PARAMS)
    params["datasets"]["pets"] = {key: value for key, value in (FOLDER | {"raw": "raw"} | changes).items() if value is not None}
    write_params(Path(), params)
    prepare.main("pets")
    folder = Path("data/prepared/pets")
    return cards.read_data_card(folder), {split: datasets.read_split(folder, split) for split in SPLITS}


def mistake(**changes):
    with pytest.raises(UserError) as error:
        run(**changes)
    assert not Path("data/prepared/pets/card.json").exists(), "a dataset that failed must not look finished"
    return str(error.value)


def files():
    folder = Path("data/prepared/pets")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_packed(project, capsys):
    card, data = project()
    assert capsys.readouterr().out == "pets: train 25, val 10, test 15 images of 2 classes; licence: our own\n"
    assert card.labels == ["cat", "dog"] and card.kind == "data" and card.modality == "image"
    assert card.counts == {"train": {"cat": 10, "dog": 15}, "val": {"cat": 4, "dog": 6}, "test": {"cat": 6, "dog": 9}}
    assert card.packing == {"px": 32, "fit": "squash", "channels": 3, "crop_pct": 1.0, "interpolation": "bilinear"}
    assert (card.preprocessing_of, card.reader, card.licence) == ("tiny", "image_folder", "our own")
    assert card.settings == FOLDER | {"raw": "raw"}
    assert card.broken == card.duplicates_dropped == []
    for split in SPLITS:
        assert data[split].keys == sorted(data[split].keys) and data[split].groups is None
        assert data[split].inputs.dtype == np.uint8 and data[split].inputs.shape == (len(data[split].keys), 32, 32, 3)
        for row, key in enumerate(data[split].keys):
            assert data[split].labels[row] == key.split("/")[0]
            image = inputs.decode(Path("raw", key).read_bytes())
            np.testing.assert_array_equal(data[split].inputs[row], inputs.pack(image, **card.packing))
    everything = [key for split in SPLITS for key in data[split].keys]
    assert sorted(everything) == sorted(str(path.relative_to("raw")) for path in Path("raw").rglob("*.png")), "each image once"
    for name, sha256 in card.sha256.items():
        assert cards.sha256(Path("data/prepared/pets", name)) == sha256
    written = [f"{split}/{name}" for split in SPLITS for name in ("inputs.npy", "table.csv")]
    assert sorted(card.sha256) == sorted(written)
    assert sorted(files()) == sorted(["card.json", "samples.png", *written]), "nothing else is left in the folder"


def test_the_file_is_what_numpy_writes(project):
    _, data = project()
    file = io.BytesIO()
    np.save(file, data["train"].inputs)
    assert Path("data/prepared/pets/train/inputs.npy").read_bytes() == file.getvalue()


def test_same_seed_same_bytes_another_seed_another_split(project):
    _, first = project()
    before = files()
    project()
    assert files() == before
    _, other = project(split=FOLDER["split"] | {"seed": 1})
    assert other["test"].keys != first["test"].keys


def test_more_images_than_a_batch(project, monkeypatch):
    before = project() and files()
    monkeypatch.setattr(packing, "BATCH", 7)
    project()
    assert files() == before


def test_limit(project):
    card, _ = project(limit=20)
    assert {label: sum(card.counts[split][label] for split in SPLITS) for label in card.labels} == {"cat": 10, "dog": 10}


def bomb():
    """A PNG whose header promises 60,000 x 60,000 pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def test_broken_images_are_left_out_and_listed(project, capsys):
    whole = encoded(picture(0), "JPEG")
    broken = {"cat/cut.jpg": whole[: len(whole) // 2], "cat/empty.png": b"", "dog/bomb.png": bomb(), "dog/text.jpg": b"not found"}
    for key, content in broken.items():
        Path("raw", key).write_bytes(content)
    card, data = project(max_broken=0.1)
    reasons = {entry["key"]: entry["reason"] for entry in card.broken}
    assert reasons.keys() == broken.keys()
    assert "truncated" in reasons["cat/cut.jpg"] and "Bomb" in reasons["dog/bomb.png"]
    assert not broken.keys() & {key for split in data.values() for key in split.keys}
    assert sum(len(split.keys) for split in data.values()) == 50
    assert "4 of 54 images cannot be read and are left out:\n  cat/cut.jpg: " in capsys.readouterr().out
    before = files()
    project(max_broken=0.1)
    assert files() == before, "no address in memory stands in the card"

    text = mistake(max_broken=0.05)
    assert "4 of 54 images cannot be read; max_broken: 0.05 allows 2." in text
    assert all(key in text for key in broken) and text.startswith("datasets.pets: ")


def test_the_same_image_in_two_splits_is_refused_or_dropped(project):
    for index in range(8):  # other files, same pixels
        Path(f"raw/cat/{index:02}_copy.bmp").write_bytes(encoded(picture(zlib.crc32(f"cat{index}".encode())), "BMP"))
    text = mistake()
    assert "in more than one split" in text and "`duplicates: drop` keeps the first of each" in text
    line = next(line for line in text.splitlines() if line.startswith("  cat/"))
    first, second = line.strip().split(" = ")
    assert first.split(".png")[0] == second.split("_copy.bmp")[0] and first.split("(")[1] != second.split("(")[1]

    card, data = project(duplicates="drop")
    assert card.duplicates_dropped == [
        {"key": f"cat/{i:02}_copy.bmp", "label": "cat", "same_as": f"cat/{i:02}.png", "its_label": "cat"} for i in range(8)
    ]
    pixels = [image.tobytes() for split in data.values() for image in split.inputs]
    assert len(pixels) == len(set(pixels)) == 50


def test_the_same_image_twice_in_one_split_is_no_leak(project):
    given(lambda index: SPLITS[index % 3])
    for copy_of in ("cat/00.png", "dog/01.png"):
        path = next(Path("raw").glob(f"*/{copy_of}"))
        path.with_name("copy.png").write_bytes(path.read_bytes())
    card, _ = project()
    assert sum(card.num(split) for split in SPLITS) == 52


def test_equal_bytes_in_another_shape_are_another_image(project):
    pixels = np.asarray(inputs.decode(Path("raw/cat/00.png").read_bytes()))
    Path("raw/cat/tall.png").write_bytes(encoded(Image.fromarray(pixels.reshape(40, 30, 3))))
    card, _ = project(duplicates="drop")
    assert card.duplicates_dropped == []


def test_one_image_with_two_labels_is_named(project, capsys):
    Path("raw/dog/99.png").write_bytes(Path("raw/cat/00.png").read_bytes())
    card, _ = project(duplicates="drop")
    out = capsys.readouterr().out
    assert "WARNING: 1 images with conflicting labels:\n  cat/00.png (cat) = dog/99.png (dog)\n" in out
    assert card.duplicates_dropped == [{"key": "dog/99.png", "label": "dog", "same_as": "cat/00.png", "its_label": "cat"}]


def given(split_of):
    """Move the images into folders of splits."""
    for path in sorted(Path("raw").glob("*/*.png")):
        to = Path("raw", split_of(int(path.stem)), path.parent.name, path.name)
        to.parent.mkdir(parents=True, exist_ok=True)
        path.rename(to)
    for label in ("cat", "dog"):
        Path("raw", label).rmdir()


def test_given_splits_are_kept(project):
    given(lambda index: SPLITS[index % 3])
    card, data = project()
    assert card.given_splits == ["test", "train", "val"]
    for split in SPLITS:
        assert {key.split("/")[0] for key in data[split].keys} == {split}


def test_val_is_drawn_from_train_where_only_test_is_given(project):
    given(lambda index: "test" if index % 5 == 0 else "train")
    card, data = project()
    assert {key.split("/")[0] for key in data["test"].keys} == {"test"}
    assert {key.split("/")[0] for key in data["val"].keys} == {"train"}
    assert card.counts == {"train": {"cat": 12, "dog": 18}, "val": {"cat": 4, "dog": 6}, "test": {"cat": 4, "dog": 6}}


def test_unused_labels_are_in_no_split_and_told(project, capsys):
    card, data = project()
    fewer, left = project(split=FOLDER["split"] | {"train": 10})
    assert {split: fewer.num(split) for split in SPLITS} == {"train": 10, "val": 4, "test": card.num("test")}
    assert left["test"].keys == data["test"].keys and set(left["train"].keys) < set(data["train"].keys)
    assert fewer.counts["train"] == {"cat": 4, "dog": 6}
    told = f"split.train: 10 of {card.num('train')} training images are used; the others are in no split"
    assert told in fewer.notes and told in capsys.readouterr().out
    assert "split.train: 26 examples cannot be drawn" in mistake(split=FOLDER["split"] | {"train": 26})


@pytest.mark.parametrize("split, key", [("test", "test/cat/02.png"), ("val", "val/cat/01.png")])
def test_a_duplicate_of_a_held_out_image_leaves_training(project, split, key):
    given(lambda index: SPLITS[index % 3])
    Path("raw/train/cat/copy.png").write_bytes(Path("raw", key).read_bytes())
    assert "1 images are in more than one split" in mistake()
    card, data = project(duplicates="drop")
    assert [entry["key"] for entry in card.duplicates_dropped] == ["train/cat/copy.png"]
    assert key in data[split].keys


def test_groups_stay_together(project):
    split = FOLDER["split"] | {"by_group": True}
    card, data = project(group_from=r"(\d)\.png", split=split)  # the last digit: ten groups of two or three of each class
    groups = {name: set(data[name].groups) for name in SPLITS}
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 10
    assert card.counts == {"train": {"cat": 10, "dog": 15}, "val": {"cat": 4, "dog": 6}, "test": {"cat": 6, "dog": 9}}
    assert "split.by_group: true needs a group" in mistake(split=split)


def test_labels_that_are_no_classes_are_any_text_and_are_not_counted(project, capsys):
    """A number for each image, in a table: where labels are not classes, the splits have their sizes and nothing else."""
    paths = sorted(path.relative_to("raw").as_posix() for path in Path("raw").rglob("*.png"))
    lines = [f"{path},{index / 10}" for index, path in enumerate(paths)]
    Path("raw/table.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    how = {"reader": "csv", "split": FOLDER["split"] | {"stratify": False}}
    card, data = project(**how, group_from=None)
    assert card.labels is None and card.counts == {"train": {"": 25}, "val": {"": 10}, "test": {"": 15}}
    assert [card.num(split) for split in SPLITS] == [25, 10, 15]
    found = {key: label for split in data.values() for key, label in zip(split.keys, split.labels, strict=True)}
    assert found == {path: str(index / 10) for index, path in enumerate(paths)}, "each with its own label, as it stands there"
    assert capsys.readouterr().out == "pets: train 25, val 10, test 15 images; licence: our own\n"
    assert "samples.png" in files()


# Episodes of few shots.

EPISODES = {"way": [2, 3], "shots": [1, 2], "queries": 2, "number": 9, "seed": 0}
NEW_CLASSES = {"group_from": "([^/]+)/[^/]+$", "split": FOLDER["split"] | {"by_group": True, "stratify": False}}


@pytest.fixture
def species(project):
    """Twelve more classes of four images each, in place of cats and dogs."""
    for path in Path("raw").iterdir():
        shutil.rmtree(path)
    for index in range(12):
        Path("raw", f"bird {index:02}").mkdir()
        for number in range(4):
            Path("raw", f"bird {index:02}", f"{number}.png").write_bytes(encoded(picture(100 * index + number)))
    return run


def test_episodes_are_of_classes_that_are_in_no_training(species):
    card, data = species(**NEW_CLASSES, episodes=EPISODES)
    classes = [set(data[split].labels) for split in SPLITS]
    assert len(set.union(*classes)) == sum(map(len, classes)) == 12
    drawn = data["test"].episodes
    assert drawn.support.shape == (9, 3, 2) and drawn.queries.shape == (9, 3, 2)
    assert data["train"].episodes is None and data["val"].episodes is None
    assert card.settings["episodes"] == EPISODES
    assert card.sha256["test/episodes.npz"] == cards.sha256(Path("data/prepared/pets/test/episodes.npz"))
    first = files()
    species(**NEW_CLASSES, episodes=EPISODES)
    assert files() == first, "the same bytes"


def test_other_episodes_are_of_the_same_splits(species):
    _, first = species(**NEW_CLASSES, episodes=EPISODES)
    _, other = species(**NEW_CLASSES, episodes=EPISODES | {"seed": 1, "number": 20})
    assert [first[split].keys for split in SPLITS] == [other[split].keys for split in SPLITS]
    assert not np.array_equal(first["test"].episodes.support, other["test"].episodes.support[:9])


def test_episodes_that_cannot_be_drawn_stop_prepare(species):
    torn = NEW_CLASSES | {"split": NEW_CLASSES["split"] | {"by_group": False}}
    assert re.search(r"datasets.pets: episodes: \d+ classes of the test are in training", mistake(**torn, episodes=EPISODES))
    for name in range(12):
        Path(f"raw/bird {name:02}/1.png").unlink()
    said = mistake(**NEW_CLASSES, episodes=EPISODES)
    assert "each class needs 4 images (shots: 2, queries: 2)" in said and "in the test have fewer: bird" in said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"way": []}, "episodes.way"), ({"way": [1]}, "episodes.way.0"), ({"shots": [1, 1]}, "episodes.shots: must hold no number"),
     ({"queries": 0}, "episodes.queries"), ({"size": 3}, "episodes.size: unknown key")],
)  # fmt: skip
def test_a_mistake_in_the_block_of_episodes_is_named(species, wrong, said):
    assert said in mistake(**NEW_CLASSES, episodes=EPISODES | wrong)


# Classes that would be lost.


def test_a_class_of_which_nothing_can_be_read_stops_prepare(project):
    Path("raw/owl").mkdir()
    for index in range(3):
        Path(f"raw/owl/{index}.png").write_bytes(b"no image")
    text = mistake(max_broken=0.5)
    assert "1 of 3 classes would be lost: owl (3). None of their images can be read." in text and "\n  owl/0.png: " in text


def test_a_class_of_copies_stops_prepare(project):
    Path("raw/owl").mkdir()
    for index in range(3):
        shutil.copy(f"raw/cat/{index:02}.png", f"raw/owl/{index}.png")
    text = mistake(duplicates="drop")
    assert "1 of 3 classes would be lost: owl (3). All their images are copies of others" in text


def test_a_limit_that_leaves_a_class_out_stops_prepare(project):
    assert "1 of 2 classes would be lost: " in (text := mistake(limit=1)) and "limit: 1 is less than one image for each" in text


def test_labels_that_are_no_classes_may_go(project):
    """Of people or numbers some may go: they are told as broken images are."""
    Path("raw/owl").mkdir()
    Path("raw/owl/1.png").write_bytes(b"no image")
    card, _ = project(max_broken=0.5, split=FOLDER["split"] | {"stratify": False})
    assert [entry["key"] for entry in card.broken] == ["owl/1.png"]


def test_what_was_changed_in_reading_is_on_the_card(project, capsys):
    for path in sorted(Path("raw/cat").iterdir())[:5]:
        values = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16  # 12 bits
        path.write_bytes(encoded(Image.fromarray(values)))
    card, _ = project()
    assert len(card.notes) == 1 and card.notes[0].startswith("5 of 50 images are 16-bit grey images without a value above 16,383")
    assert f"pets: {card.notes[0]}\n" in capsys.readouterr().out
