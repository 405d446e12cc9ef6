"""Weights in a .zip behind an address: a folder in Hugging Face's layout, read in memory."""

import hashlib
import http.server
import threading
import zipfile
from functools import partial

import pytest
import torch

from stages.lib.core import plugins
from stages.lib.errors import UserError
from stages.lib.modalities.text import Preprocessing
from stages.lib.weights.url import Params
from tests import texts
from tests.lib.weights.test_folder import ARCHITECTURE, PREPROCESSING, fetch

LAYOUT = ["config.json", "model.safetensors", "tokenizer.json"]


@pytest.fixture
def folder(tmp_path):
    texts.write_bert(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def address(tmp_path):
    """Where the files of a folder are served, by real HTTP."""
    (tmp_path / "served").mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def get(tmp_path, address):
    """Fetch weights from a file that is served as `name`; `query` follows its address."""

    def get(content, name="bert.zip", query=""):
        (tmp_path / "served" / name).write_bytes(content)
        params = Params(url=f"{address}/{name}{query}", sha256=hashlib.sha256(content).hexdigest(), by_order=False)
        how = {"architecture": ARCHITECTURE, "preprocessing": PREPROCESSING}
        return plugins.load("weights", "url").fetch(**params.model_dump(), **how)

    return get


def zipped(tmp_path, files):
    """An archive of {name in it: content}."""
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path.read_bytes()


def contents(folder, inside=""):
    return {f"{inside}{name}": (folder / name).read_bytes() for name in LAYOUT}


@pytest.mark.parametrize("inside", ["", "./", "bert/", "a b/models/bert/"])
@pytest.mark.parametrize("query", ["", "?download=true"])
def test_an_archive_gives_what_the_folder_gives(folder, tmp_path, get, inside, query):
    others = {"README.md": "A model.", "__MACOSX/bert/._model.safetensors": "no weights", "other/config.json": "{}",
              "other/tokenizer.json": "not this one"}  # fmt: skip
    source, expected = get(zipped(tmp_path, contents(folder, inside) | others), query=query), fetch(folder)
    assert source.beside == expected.beside and source.architecture == expected.architecture
    assert source.origin.endswith(f"/bert.zip{query}")
    assert source.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(tensor, source.tensors[name]) for name, tensor in expected.tensors.items())
    assert not (tmp_path / "model.safetensors").exists()


def test_the_extension_is_that_of_the_path(folder, get):
    content = (folder / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"there is no config\.json"):  # it could be read, but lies alone
        get(content, "model.safetensors", "?download=true")


def test_two_folders_of_weights_are_one_too_many(folder, tmp_path, get):
    with pytest.raises(UserError, match=r"must have exactly one folder with one of model\.safetensors, .*; it has 2"):
        get(zipped(tmp_path, contents(folder, "one/") | contents(folder, "two/")))
    with pytest.raises(UserError, match="it has 0"):
        get(zipped(tmp_path, {"README.md": "A model."}))


def test_both_files_of_weights_in_one_folder_are_one_model(folder, tmp_path, get):
    expected = fetch(folder).tensors
    found = get(zipped(tmp_path, contents(folder) | {"pytorch_model.bin": b"never read"})).tensors
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_what_is_no_archive_or_damaged_is_told(folder, tmp_path, get):
    with pytest.raises(UserError, match=r"url: http://.*/bert\.zip does not give a \.zip file"):
        get(b"<html>Not found</html>")
    whole = bytearray(zipped(tmp_path, {"model.safetensors": bytes(range(256)) * 40}))
    whole[60:70] = bytes(10)
    with pytest.raises(UserError, match=r"url: the archive .*/bert\.zip cannot be unpacked: "):
        get(bytes(whole))
    locked = bytearray(zipped(tmp_path, contents(folder)))
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # say that each member needs a password
        place = locked.find(header)
        while place >= 0:
            locked[place + flags] |= 1
            place = locked.find(header, place + 1)
    with pytest.raises(UserError, match=r"cannot be unpacked: .*password"):
        get(bytes(locked))


def test_an_archive_that_is_not_the_one_in_params_is_refused(folder, tmp_path, address):
    (tmp_path / "served/bert.zip").write_bytes(zipped(tmp_path, contents(folder)))
    how = {"by_order": False, "architecture": ARCHITECTURE, "preprocessing": Preprocessing.model_validate(texts.HOW)}
    with pytest.raises(UserError, match="copy its sha256"):
        plugins.load("weights", "url").fetch(url=f"{address}/bert.zip", sha256="0" * 64, **how)
    with pytest.raises(UserError, match="could not be downloaded: 404"):
        plugins.load("weights", "url").fetch(url=f"{address}/none.zip", sha256="0" * 64, **how)
