"""Cards and folders on disk: read back as they were written, frozen, and refused in words where something is wrong."""

import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from stages.lib.core import cards, datasets
from stages.lib.errors import UserError
from tests.tiny import data_card, model_card

TABLE = pd.DataFrame({"key": ["a", "b", "c"], "label": ["NA", "01", ""], "group": ["", "", ""]})


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def write(folder, kind):
    if kind == "data":
        cards.write_data_card(folder, data_card("x"))
        return cards.read_data_card
    cards.write_model(folder, {"w": torch.zeros(2)}, model_card("x"))
    return cards.read_model_card


# Cards.


def test_cards_come_back_as_they_were(tmp_path):
    data = data_card("x", counts={"train": {"cross": 3, "frame": 4}, "val": {"": 2}}, broken=[{"key": "ü", "reason": "cut"}])
    cards.write_data_card(tmp_path / "data", data)
    assert cards.read_data_card(tmp_path / "data") == data
    assert [data.num(split) for split in ("train", "val")] == [7, 2]
    model = model_card("x", parent={"name": "tiny", "sha256": "0"}, chain=["tiny", "dots", "x"], best={"val_loss": 0.1 + 0.2})
    cards.write_model(tmp_path / "model", {}, model)
    read = cards.read_model_card(tmp_path / "model")
    assert read.model_dump() == model.model_dump() | {"sha256": read.sha256} and len(read.sha256) == 64
    assert (read.ancestors, read.hops, read.num_outputs) == (["tiny", "dots"], ["dots"], 2)
    assert model_card("x", output_names=None).num_outputs == 0


@pytest.mark.parametrize("kind", ["data", "model"])
@pytest.mark.parametrize("version", [1, 3, "2", None])
def test_a_card_of_another_version_is_refused_in_words(tmp_path, kind, version):
    read = write(tmp_path, kind)
    assert json.loads((tmp_path / "card.json").read_text())["version"] == 2
    change(tmp_path / "card.json", version=version)
    said = rf"{tmp_path}/card\.json was not written by this version of the code \(version\)\. Make it again with: dvc repro"
    with pytest.raises(UserError, match=said):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["data", "model"])
def test_a_card_with_a_field_too_many_or_of_another_kind_is_refused(tmp_path, kind):
    read, other = write(tmp_path, kind), {"data": cards.read_model_card, "model": cards.read_data_card}[kind]
    with pytest.raises(UserError, match="was not written by this version"):
        other(tmp_path)
    change(tmp_path / "card.json", classes=["a"])
    with pytest.raises(UserError, match=r"\(classes\)"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["", "{", None])
def test_a_missing_or_damaged_card_says_how_to_make_it_again(tmp_path, text):
    if text is not None:
        (tmp_path / "card.json").write_text(text)
    with pytest.raises(UserError, match=r"card\.json cannot be read .*Make it again with: dvc repro"):
        cards.read_data_card(tmp_path)


def test_cards_are_frozen():
    for card in (data_card("x"), model_card("x", parent={"name": "tiny", "sha256": "0"})):
        with pytest.raises(ValidationError, match="frozen"):
            card.name = "y"
    with pytest.raises(ValidationError, match="frozen"):
        card.parent.name = "y"


def test_equal_values_are_equal_bytes(tmp_path):
    cards.write_json(tmp_path / "deep/a.json", {"b": [1, 0.1], "a": "ü"})
    cards.write_json(tmp_path / "b.json", {"a": "ü", "b": [1, 0.1]})
    content = (tmp_path / "deep/a.json").read_bytes()
    assert content == (tmp_path / "b.json").read_bytes() and "ü".encode() in content and content.endswith(b"}\n")


# Splits.


def test_a_split_comes_back_as_it_was(tmp_path):
    inputs = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    datasets.write_split(tmp_path, "train", iter(inputs), TABLE)
    split = datasets.read_split(tmp_path, "train")
    assert split.inputs.dtype == np.int16 and split.offsets is None and split.groups is None
    np.testing.assert_array_equal(split.inputs, inputs)
    np.testing.assert_array_equal(split.rows(np.array([2, 0])), inputs[[2, 0]])
    assert (split.keys, split.labels) == (["a", "b", "c"], ["NA", "01", ""]), "text, whatever it looks like"
    assert isinstance(split.inputs, np.memmap), "not read"


@pytest.mark.parametrize("lengths", [[3, 1, 2], [0, 4, 0], [2, 2, 2]])
@pytest.mark.parametrize("width", [(), (2,)])
def test_a_ragged_split_comes_back_as_it_was(tmp_path, lengths, width):
    random = np.random.default_rng(0)
    inputs = [random.normal(size=(length, *width)).astype(np.float32) for length in lengths]
    datasets.write_split(tmp_path, "train", iter(inputs), TABLE.assign(group=["g", "", "h"]), lengths)
    split = datasets.read_split(tmp_path, "train")
    assert split.inputs.shape == (sum(lengths), *width) and split.offsets.tolist() == np.cumsum([0, *lengths]).tolist()
    for order in ([0, 1, 2], [2, 0], [1, 1]):
        rows = split.rows(np.array(order))
        assert len(rows) == len(order)
        for row, index in zip(rows, order, strict=True):
            assert row.dtype == np.float32
            np.testing.assert_array_equal(row, inputs[index])
    assert split.groups.tolist() == ["g", "", "h"]


@pytest.mark.parametrize("ragged", [False, True])
def test_inputs_in_memory_are_as_those_on_disk(tmp_path, ragged):
    lengths = [1, 3, 2] if ragged else [2, 2, 2]
    inputs = [np.full((length, 2), index, dtype=np.uint8) for index, length in enumerate(lengths)]
    datasets.write_split(tmp_path, "train", inputs, TABLE, lengths if ragged else None)
    on_disk, split = datasets.read_split(tmp_path, "train"), datasets.in_memory(inputs, ragged)
    for index in range(3):
        np.testing.assert_array_equal(split.rows(np.array([index]))[0], on_disk.rows(np.array([index]))[0])
    assert split.inputs.shape == on_disk.inputs.shape and (split.offsets is None) == (on_disk.offsets is None) == (not ragged)
    assert split.labels == [""] * 3 and len(set(split.keys)) == 3 and split.groups is None


@pytest.mark.parametrize(
    ("file", "said"), [("inputs.npy", "is not complete"), ("table.csv", "is missing"), ("offsets.npy", "is not complete")]
)
def test_a_split_that_is_not_whole_says_how_to_make_it_again(tmp_path, file, said):
    datasets.write_split(tmp_path, "train", [np.zeros((2, 2))] * 3, TABLE, [2, 2, 2])
    path = tmp_path / "train" / file
    if file == "offsets.npy":
        path.write_bytes(b"")
    else:
        path.unlink()
    with pytest.raises(UserError, match=rf"train.*{said}.*Make it again with: dvc repro"):
        datasets.read_split(tmp_path, "train")
    (tmp_path / "train/inputs.npy").write_bytes(b"not numpy")
    with pytest.raises(UserError, match="Make it again with: dvc repro"):
        datasets.read_split(tmp_path, "train")


# Models.


def test_a_model_comes_back_bit_for_bit(tmp_path):
    tensors = {"a": torch.randn(3, 4), "b.c": torch.arange(5), "d": torch.randn(2, 2).bfloat16(), "e": torch.randn(4, 3).T}
    cards.write_model(tmp_path, tensors, model_card("x"))
    read, card = cards.read_model(tmp_path)
    assert read.keys() == tensors.keys() and card.sha256 == cards.sha256(tmp_path / "weights.safetensors")
    assert all(read[name].dtype == tensor.dtype and torch.equal(read[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("how", ["missing", "another"])
def test_weights_that_the_card_does_not_describe_are_refused(tmp_path, how):
    cards.write_model(tmp_path, {"w": torch.zeros(2)}, model_card("x"))
    if how == "missing":
        (tmp_path / "weights.safetensors").unlink()
    else:
        cards.write_model(tmp_path / "other", {"w": torch.ones(2)}, model_card("x"))
        (tmp_path / "other/weights.safetensors").rename(tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="is missing, or is not the file that its card describes"):
        cards.read_model(tmp_path)


# The files that a model's preprocessing needs.

FILES = {"tokenizer.json": b'{"a": 1}', "other.bin": bytes(range(256))}


@pytest.fixture
def with_files(tmp_path):
    cards.write_model(tmp_path / "m", {"w": torch.zeros(2)}, model_card("x"), FILES)
    return tmp_path / "m"


def test_files_lie_beside_the_weights_and_their_hashes_are_on_the_card(with_files):
    tensors, card = cards.read_model(with_files)
    assert card.files == {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    assert {name: (with_files / name).read_bytes() for name in FILES} == FILES == card.contents and tensors.keys() == {"w"}
    assert card.how == card.preprocessing | {"folder": str(with_files)} and "folder" not in card.preprocessing
    assert (
        "_folder" not in (with_files / "card.json").read_text() and str(with_files) not in (with_files / "card.json").read_text()
    )


def test_a_model_without_files_has_none(tmp_path):
    cards.write_model(tmp_path, {"w": torch.zeros(2)}, model_card("x"))
    _, card = cards.read_model(tmp_path)
    assert card.files == card.contents == {} and card.how == card.preprocessing


def test_a_changed_card_still_knows_where_its_files_are(with_files):
    card = cards.read_model_card(with_files).model_copy(update={"name": "y"})
    assert card.how["folder"] == str(with_files) and card.contents == FILES


def test_a_copied_folder_is_as_good_and_the_files_are_read_from_it(with_files, tmp_path):
    shutil.copytree(with_files, tmp_path / "copy")
    shutil.rmtree(with_files)
    card = cards.read_model(tmp_path / "copy")[1]
    assert card.contents == FILES and card.how["folder"] == str(tmp_path / "copy")


@pytest.mark.parametrize("how", ["missing", "changed", "folder"])
def test_a_file_that_the_card_does_not_describe_is_refused(with_files, how):
    path = with_files / "tokenizer.json"
    if how == "changed":
        path.write_bytes(b'{"a": 2}')
    else:
        path.unlink()
    if how == "folder":
        path.mkdir()
    said = rf"{path} is missing, or is not the file that its card describes\. Make it again with: dvc repro"
    with pytest.raises(UserError, match=said):
        cards.read_model(with_files)
    card = cards.read_model_card(with_files)  # which needs no more than the card
    with pytest.raises(UserError, match=said):
        _ = card.contents


def test_files_of_one_model_are_handed_to_the_next(with_files, tmp_path):
    card = cards.read_model_card(with_files)
    cards.write_model(tmp_path / "next", {"w": torch.ones(2)}, model_card("y"), card.contents)
    assert cards.read_model(tmp_path / "next")[1].files == card.files
