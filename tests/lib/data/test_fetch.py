"""Files from outside: right ones arrive whole, wrong ones not at all, and the error says which it was."""

import hashlib
import http.server
import socket
import subprocess
import sys
import threading
import zipfile

import pytest

from stages.lib.data import fetch
from stages.lib.errors import UserError

SIX = {"package": "six", "version": "1.16.0", "sha256": "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"}
CONTENT = b"\x00\x01 some bytes" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Skips where pip itself reaches no package index."""
    ask = [sys.executable, "-m", "pip", "download", "--no-deps", "--retries", "0", "--timeout", "10", "--quiet", "six==1.16.0"]
    asked = subprocess.run(ask, cwd=tmp_path_factory.mktemp("ask"), capture_output=True, text=True)
    if asked.returncode:
        pytest.skip(f"no package index in reach: {asked.stderr.strip()[-200:]}")


def test_wheel(index, tmp_path):
    path = fetch.wheel(**SIX, folder=tmp_path)
    assert path == tmp_path / "six-1.16.0-py2.py3-none-any.whl"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SIX["sha256"]
    assert "six.py" in zipfile.ZipFile(path).namelist()
    assert list(tmp_path.iterdir()) == [path], "pip's own files stay out of the folder"


def test_wheel_with_another_sha256(index, tmp_path):
    with pytest.raises(UserError) as error:
        fetch.wheel(**SIX | {"sha256": "0" * 64}, folder=tmp_path)
    assert "not the file that sha256 names" in str(error.value)
    assert SIX["sha256"] in str(error.value), "pip's line with the hash it got"
    assert not list(tmp_path.iterdir())


def test_wheel_of_no_such_version(index, tmp_path):
    with pytest.raises(UserError, match=r"no wheel of six 0\.0\.999 .* Check package and version"):
        fetch.wheel(**SIX | {"version": "0.0.999"}, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_wheel_without_network(tmp_path, monkeypatch):
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    nowhere = {"INDEX_URL": "http://127.0.0.1:9/simple", "RETRIES": "1", "CONFIG_FILE": "/dev/null", "NO_CACHE_DIR": "1"}
    for name, value in nowhere.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(UserError, match="package index did not answer") as error:
        fetch.wheel(**SIX, folder=tmp_path)
    assert "Connection refused" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_wheel_without_pip(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])  # nothing can be found: what a fresh environment without pip answers
    for name in [name for name in sys.modules if name.partition(".")[0] == "pip"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match="uv pip install pip"):
        fetch.wheel(**SIX, folder=tmp_path)


@pytest.fixture(scope="module")
def server():
    """A real web server: /data/file.bin, everything else is missing; /cut promises more bytes than it sends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.split("?")[0] not in ("/data/file.bin", "/cut"):
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT) * (2 if self.path == "/cut" else 1)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_url(server, tmp_path):
    fetch.url(f"{server}/data/file.bin?raw=true", SHA256, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize("path, sha256, said", [
    ("/data/file.bin", "0" * 64, f"sha256: .*{SHA256}"),
    ("/cut", hashlib.sha256(CONTENT * 2).hexdigest(), "sha256: "),
    ("/missing", SHA256, "could not be downloaded: .*404"),
])  # fmt: skip
def test_url_that_fails_leaves_nothing(server, tmp_path, path, sha256, said):
    with pytest.raises(UserError, match=said):
        fetch.url(server + path, sha256, tmp_path / "here")
    assert not list(tmp_path.iterdir())


def test_url_that_nobody_answers(tmp_path):
    with pytest.raises(UserError, match="Check the address, the network and the proxy"):
        fetch.url("http://127.0.0.1:9/file", SHA256, tmp_path / "here")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome"], ids=["nothing", "a beginning"])
def test_url_whose_server_falls_silent(tmp_path, monkeypatch, sent):
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connections.append(server.accept()[0])
            connections[0].sendall(sent)

        connections = []
        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UserError, match=r"could not be downloaded: the server sent nothing for 0\.5 s\. Check the address"):
            fetch.url(f"http://127.0.0.1:{server.getsockname()[1]}/file", SHA256, tmp_path / "here")
        thread.join()
        connections[0].close()
    assert not list(tmp_path.iterdir())
    assert socket.getdefaulttimeout() is None, "no other connection is cut short"


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://example.org/a", "/etc/hostname", "data:,abc"])
def test_url_of_other_kinds_is_refused(tmp_path, address):
    with pytest.raises(UserError, match="Allowed: addresses that begin with https://"):
        fetch.url(address, SHA256, tmp_path / "here")
