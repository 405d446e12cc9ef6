"""The stage download: what it leaves in data/raw, and that a second run leaves the same."""

import copy
import hashlib
import http.server
import threading
from functools import partial
from pathlib import Path

import pytest

from stages import download
from stages.lib.downloads.url import file_name
from stages.lib.errors import UserError
from tests.tiny import PARAMS, write_params

SIX = {"package": "six", "version": "1.16.0", "sha256": "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Download one block in a folder of its own; what is there afterwards."""
    monkeypatch.chdir(tmp_path)

    def run(**block):
        write_params(tmp_path, copy.deepcopy(PARAMS) | {"download": {"mine": block}})
        download.main("mine")
        folder = tmp_path / "data/raw/mine"
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return run


@pytest.fixture
def server(tmp_path_factory):
    """A real web server for one folder."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "a file.zip").write_bytes(b"content")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_url_repeats_and_empties_only_its_own_folder(run, server, capsys):
    block = {"fetch": "url", "url": f"{server}/a%20file.zip", "sha256": hashlib.sha256(b"content").hexdigest()}
    other, left = Path("data/raw/other/kept"), Path("data/raw/mine/half.partial")
    for path in (other, left):
        path.parent.mkdir(parents=True)
        path.write_text("here")
    assert run(**block) == run(**block) == {"a_file.zip": b"content"}
    assert other.read_text() == "here"
    assert "mine: 1 file, 0.0 MB" in capsys.readouterr().out


def test_wrong_sha256(run, server):
    with pytest.raises(UserError, match="does not give the file that params"):
        run(fetch="url", url=f"{server}/a%20file.zip", sha256="0" * 64)
    assert not list(Path("data/raw/mine").iterdir())


def test_wheel_is_kept_packed(run):
    try:
        found = run(fetch="pypi_wheel", **SIX)
    except UserError as error:
        if "did not answer" not in str(error):
            raise
        pytest.skip(f"no package index in reach: {error}")
    assert {name: hashlib.sha256(content).hexdigest() for name, content in found.items()} == {
        "six-1.16.0-py2.py3-none-any.whl": SIX["sha256"]
    }


@pytest.mark.parametrize("url, name", [
    ("https://example.org/data/images.tar.gz?download=1", "images.tar.gz"),
    ("https://example.org/a%2F..%2F..%2Fetc%2Fpasswd", "passwd"),
    ("https://example.org/..%5C..%5Cx y;z.zip", "_.._x_y_z.zip"),
    ("https://example.org/.bashrc", "bashrc"),
    ("https://example.org/", "file"),
    ("https://example.org/..", "file"),
])  # fmt: skip
def test_file_names_stay_in_the_folder(url, name):
    assert file_name(url) == name
