"""Weights in a folder in Hugging Face's layout, and random ones of a library that needs a configuration."""

import argparse
import hashlib
import io
import json
import re
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.lib.core import cards, plugins
from stages.lib.errors import UserError
from stages.lib.libraries.transformers import Params
from stages.lib.modalities.text import Preprocessing
from stages.lib.networks import backbones
from stages.lib.params.fields import Architecture
from stages.lib.weights import _tensors
from tests import texts
from tests.tiny import Repo, write_params

FILES = ["config.json", "model.safetensors", "tokenizer.json"]


class Encoder(Params, Architecture):
    """An architecture as params.yaml gives it for transformers."""


ARCHITECTURE, PREPROCESSING = Encoder.model_validate(texts.ARCHITECTURE), Preprocessing.model_validate(texts.HOW)


@pytest.fixture
def folder(tmp_path):
    texts.write_bert(tmp_path / "bert")
    return tmp_path / "bert"


def fetch(folder, sha256=None, architecture=ARCHITECTURE):
    how = {"by_order": False, "architecture": architecture, "preprocessing": PREPROCESSING}
    return plugins.load("weights", "file").fetch(path=str(folder), sha256=sha256 or hash_of(folder), **how)


def pickled(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def hash_of(folder):
    """What the message says that a folder has."""
    with pytest.raises(UserError) as error:
        fetch(folder, "0" * 64)
    assert "params.yaml says 0000" in str(error.value) and "copy its sha256" in str(error.value)
    return re.search(rf"{folder} has ([0-9a-f]{{64}}),", str(error.value))[1]


def test_a_folder_gives_the_encoder_and_the_files_beside_it(folder, capsys):
    source = fetch(folder)
    assert sorted([*source.beside, "model.safetensors"]) == FILES and source.origin == str(folder) and source.classes is None
    assert source.beside["tokenizer.json"] == (folder / "tokenizer.json").read_bytes()
    told = capsys.readouterr().out
    assert "left out on purpose" in told and "classifier.weight" in told and "bert.pooler.dense.bias" in told
    model = backbones.build(source.architecture, 2)
    assert backbones.load(model, source.tensors) == []
    from transformers import BertModel

    pieces = torch.tensor([[2, 5, 9, 12, 3]])
    with torch.no_grad():
        expected = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()(pieces).last_hidden_state.mean(1)
        found = model.backbone.eval()((pieces, torch.ones(1, 5, dtype=torch.bool), torch.ones(1, 1, dtype=torch.int64)))
    torch.testing.assert_close(found, expected)


def test_its_hash_is_that_of_what_sha256sum_lists(folder):
    listed = subprocess.run(["sha256sum", *FILES], cwd=folder, capture_output=True, check=True).stdout
    assert hash_of(folder) == hashlib.sha256(listed).hexdigest()


@pytest.mark.parametrize("name", FILES)
def test_whoever_changes_a_file_that_is_read_must_change_the_hash(folder, name):
    before = hash_of(folder)
    path = folder / name
    if name == "model.safetensors":
        tensors = load_file(path)
        tensors["bert.embeddings.word_embeddings.weight"][0, 0] += 1
        save_file(tensors, path)
    else:
        path.write_text(json.dumps(json.loads(path.read_text()), indent=7))
    with pytest.raises(UserError, match="copy its sha256"):
        fetch(folder, before)
    assert hash_of(folder) != before


def test_a_file_that_is_not_read_has_no_part_in_the_hash(folder):
    before = hash_of(folder)
    (folder / "README.md").write_text("A model.")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    assert hash_of(folder) == before
    (folder / "vocab.txt").write_text("the\n")
    assert hash_of(folder) != before


def test_a_new_file_beside_the_weights_that_is_read_changes_the_hash(folder):
    before = hash_of(folder)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(UserError, match="copy its sha256"):
        fetch(folder, before)


def test_a_file_of_torch_in_the_folder_gives_the_same_tensors(folder):
    expected = fetch(folder).tensors
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    found = fetch(folder).tensors
    assert found.keys() == expected.keys() and all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


class Evil:
    def __reduce__(self):
        return print, ("this code must not run",)


@pytest.mark.parametrize("old", [True, False], ids=["old", "zip"])
def test_a_pickled_file_that_would_run_code_is_refused(folder, capsys, old):
    (folder / "model.safetensors").unlink()
    torch.save({"bert.w": Evil()}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not old)
    with pytest.raises(UserError, match=r"pytorch_model\.bin cannot be read as weights: .*can run code"):
        fetch(folder)
    assert "must not run" not in capsys.readouterr().out


OTHER = [b"}", b"0" * 40, b"\x80\x02}q\x00.", b"\x80\x04K\x05.", b"PK\x03\x04 nothing", b"(lp0\n", bytes(range(256))]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", OTHER)
def test_other_bytes_called_weights_are_answered_in_words(folder, content):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read as weights|holds something other|These weights do not fit"):
        fetch(folder)


@pytest.mark.parametrize("old", [True, False], ids=["old", "zip"])
def test_a_damaged_file_is_answered_in_words_wherever_it_ends(folder, old):
    (folder / "model.safetensors").unlink()
    file = io.BytesIO()
    torch.save({"a": torch.zeros(2, 3), "b": torch.ones(2)}, file, _use_new_zipfile_serialization=not old)
    for end in range(0, len(file.getvalue()), 7):
        (folder / "pytorch_model.bin").write_bytes(file.getvalue()[:end])
        with pytest.raises(UserError):
            fetch(folder)


def test_a_folder_without_weights_says_what_is_in_it(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(UserError) as error:
        fetch(folder, "0" * 64)
    assert "has none of model.safetensors, pytorch_model.bin" in str(error.value)
    assert "config.json, model-00001-of-00002.safetensors, tokenizer.json" in str(error.value)


def test_a_place_where_nothing_is(tmp_path):
    with pytest.raises(UserError, match=f"path: there is no file or folder {tmp_path}/none"):
        fetch(tmp_path / "none", "0" * 64)


def test_a_configuration_of_another_network_is_told(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "roberta"}))
    with pytest.raises(UserError, match=r"bert was given, but config\.json beside the weights is that of a roberta"):
        fetch(folder)
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"base\.encoder\.layer\.2\..* is missing"):
        fetch(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"there is no config\.json"):
        fetch(folder)


def test_weights_alone_take_their_configuration_from_params(folder):
    whole = fetch(folder)
    given = Encoder.model_validate(texts.ARCHITECTURE | {"config": texts.CONFIG})
    path = folder / "model.safetensors"
    source = fetch(path, hashlib.sha256(path.read_bytes()).hexdigest(), given)
    assert source.beside == {} and source.architecture["config"] == texts.CONFIG
    assert all(torch.equal(tensor, source.tensors[name]) for name, tensor in whole.tensors.items())


# The stage, with a tokenizer.


def made(folder, source, call, ok=True):
    """What `python -m stages source tiny` leaves, or says."""
    write_params(folder, texts.params(source))
    told = call(Repo(folder), "source", "tiny", ok=ok)
    return (told, cards.read_model(folder / "models/tiny")[1]) if ok else told


def test_the_stage_keeps_the_tokenizer_beside_the_weights(folder, tmp_path, call):
    source = texts.SOURCE | {"weights": "file", "path": "bert", "sha256": hash_of(folder), "by_order": False,
                             "architecture": texts.ARCHITECTURE}  # fmt: skip
    source.pop("seed")
    _, card = made(tmp_path, source, call)
    content = (folder / "tokenizer.json").read_bytes()
    assert (tmp_path / "models/tiny/tokenizer.json").read_bytes() == content
    digest = hashlib.sha256(content).hexdigest()
    assert card.files == {"tokenizer.json": digest}
    assert card.preprocessing == {"tokenizer": "beside", "tokenizer_sha256": digest, "special_tokens": True}
    assert card.architecture["config"]["num_hidden_layers"] == 2 and card.architecture["per"] == "example"
    assert card.pretrained and card.how["folder"] == str(tmp_path / "models/tiny")


def test_random_weights_take_their_configuration_and_tokenizer_from_params(tmp_path, call):
    texts.how(tmp_path / "own")
    digest = hashlib.sha256((tmp_path / "own/tokenizer.json").read_bytes()).hexdigest()
    how = {"tokenizer": "own/tokenizer.json", "tokenizer_sha256": digest, "special_tokens": True}
    told, card = made(tmp_path, texts.SOURCE | {"preprocessing": how}, call)
    assert "bert from random weights, seed 0" in told and not card.pretrained
    assert card.files == {"tokenizer.json": digest} and card.preprocessing == how
    assert card.architecture["config"] == texts.CONFIG
    first, _ = cards.read_model(tmp_path / "models/tiny")
    made(tmp_path, texts.SOURCE | {"preprocessing": how, "seed": 1}, call)
    other, _ = cards.read_model(tmp_path / "models/tiny")
    name = "backbone.base.embeddings.word_embeddings.weight"
    assert first[name].shape == (texts.CONFIG["vocab_size"], 16) and not torch.equal(first[name], other[name])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preprocessing": texts.HOW}, "tokenizer: there is no tokenizer.json .and no vocab.txt. beside the weights"),
        ({"preprocessing": texts.HOW | {"tokenizer": "none.json"}}, "preprocessing.tokenizer: there is no file none.json"),
        ({"preprocessing": texts.HOW | {"tokenizer": "own/tokenizer.json"}}, r"own/tokenizer.json has [0-9a-f]{64}, but "
         "params.yaml says nothing. If the file is right, copy its sha256"),
        ({"architecture": texts.ARCHITECTURE}, r"architecture.config: {} was given, and there is no config.json"),
        ({"architecture": texts.ARCHITECTURE | {"config": texts.CONFIG | {"hidden": 3}}}, "config.hidden: 3 was given"),
        ({"architecture": {"library": "transformers", "model": "bert"}}, "architecture.pooling"),
    ],
)  # fmt: skip
def test_what_random_weights_lack_is_told(tmp_path, call, changes, said):
    texts.how(tmp_path / "own")
    assert re.search(said, made(tmp_path, texts.SOURCE | changes, call, ok=False))


def test_weights_of_texts_are_not_for_images(tmp_path, call):
    write_params(tmp_path, texts.params(texts.SOURCE) | {"modality": "image"})
    told = call(Repo(tmp_path), "source", "tiny", ok=False)
    assert "source.tiny.preprocessing" in told


@pytest.mark.parametrize(("num", "said"), [(0, "none."), (20, "x-18, x-19."), (25, "x-18, x-19 and 5 more.")])
def test_not_too_many_names_are_listed(num, said):
    with pytest.raises(UserError, match=said):
        _tensors.in_folder([f"x-{index:02}" for index in range(num)], "here")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "it is a Git LFS pointer; get the file itself"),
        (b"\n<!DOCTYPE html><html>Not found</html>", "it is a web page"),
        (
            pickled({"model": torch.zeros(1), "args": argparse.Namespace(lr=0.1)}),
            "it holds an object argparse.Namespace besides tensors",
        ),
    ],
    ids=["pointer", "page", "object"],
)
def test_a_file_that_is_something_else_is_named_without_unsafe_advice(content, said):
    with pytest.raises(UserError, match=said) as error:
        _tensors._tensors(content, "w.pt")
    assert "weights_only" not in str(error.value) and "\x1b" not in str(error.value)
