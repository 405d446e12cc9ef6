"""Files from outside: right ones arrive whole, wrong ones not at all, and the error says which it was."""

import hashlib
import http.server
import socketserver
import subprocess
import sys
import threading
import time
import zipfile
from typing import ClassVar

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


class Faulty(http.server.BaseHTTPRequestHandler):
    """What servers do wrong: the path says what, and `asked` notes what they were asked for."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self):
        self.asked.append((self.path, self.headers["Range"]))
        fault, times = self.path.strip("/").split("?")[0], len(self.asked)
        begin = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if self.headers["Range"] else 0
        if fault.isdigit() or (fault.startswith("at_first_") and times < fetch.ATTEMPTS):
            return self.send_error(int(fault.removeprefix("at_first_")))
        if fault == "circle":
            return self.send(302, {"Location": "/circle"})
        if fault == "elsewhere":
            return self.send(302, {"Location": "/data"})
        if fault == "to_a_file":
            return self.send(302, {"Location": "file:///etc/hostname"})
        if fault == "cut":
            return self.send(200, {"Content-Length": len(CONTENT)}, CONTENT[:5000])
        if fault == "cut_at_first":
            return self.send(200, {"Content-Length": len(CONTENT)}, CONTENT if times > 2 else CONTENT[: 5000 // times])
        if fault == "parts" and begin == len(CONTENT):
            return self.send_error(416)
        if fault in ("parts", "parts_of_another"):
            content = CONTENT if fault == "parts" or times > 2 else CONTENT[::-1]
            how = {"Content-Range": f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"} if begin else {}
            return self.send(206 if begin else 200, how | {"Content-Length": len(CONTENT) - begin}, content[begin : begin + 3000])
        if fault == "promises_more":
            return self.send(200, {"Content-Length": 2 * len(CONTENT)}, CONTENT)
        if fault == "promises_less":
            return self.send(200, {"Content-Length": 100}, CONTENT)
        if fault == "no_length":
            return self.send(200, {}, CONTENT)
        if fault == "slow":
            self.send(200, {"Content-Length": len(CONTENT)})
            for start in range(0, len(CONTENT), 2000):
                time.sleep(0.02)
                self.wfile.write(CONTENT[start : start + 2000])
            return None
        if fault == "another_at_first" and times == 1:
            return self.send(200, {"Content-Length": len(CONTENT)}, b"<html>" * 20)
        return self.send(200, {"Content-Length": len(CONTENT)}, CONTENT)

    def send(self, status, headers, content=b""):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def running():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Faulty) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.fixture
def server(running, monkeypatch):
    """The address of a real web server; between attempts there is no pause worth mentioning."""
    monkeypatch.setattr(fetch, "PAUSE_S", 0.001)
    Faulty.asked.clear()
    return running


def test_url(server, tmp_path):
    fetch.url(f"{server}/data?raw=true", SHA256, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert len(Faulty.asked) == 1


@pytest.mark.parametrize("fault, num_asked", [
    ("elsewhere", 2), ("slow", 1), ("no_length", 1), ("at_first_404", 4), ("at_first_500", 4), ("at_first_503", 4),
    ("cut_at_first", 3), ("parts", 5), ("promises_more", 1), ("another_at_first", 2),
])  # fmt: skip
def test_url_of_a_server_that_fails_for_a_while_is_asked_again(server, tmp_path, fault, num_asked):
    fetch.url(f"{server}/{fault}", SHA256, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert len(Faulty.asked) == num_asked


def test_url_goes_on_where_the_server_stopped(server, tmp_path):
    fetch.url(f"{server}/parts", SHA256, tmp_path / "here")
    assert [asked for _, asked in Faulty.asked] == [None, *(f"bytes={done}-" for done in range(3000, len(CONTENT), 3000))]


def test_url_whose_parts_are_of_two_files_is_fetched_from_its_beginning(server, tmp_path):
    fetch.url(f"{server}/parts_of_another", SHA256, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == CONTENT
    assert [asked for _, asked in Faulty.asked].count(None) == 2


@pytest.mark.parametrize("fault, sha256, said", [
    ("data", "0" * 64, f"sha256: .*{SHA256}"),
    ("promises_less", SHA256, "sha256: "),
    ("404", SHA256, r"could not be downloaded: .*404.*asked 4 times.*Check the address"),
    ("500", SHA256, r"could not be downloaded: .*500.*asked 4 times"),
    ("circle", SHA256, "sends from one address to the next without end"),
    ("to_a_file", SHA256, "could not be downloaded: "),
    ("cut", SHA256, "the connection broke before all of the file was there"),
])  # fmt: skip
def test_url_that_fails_leaves_nothing(server, tmp_path, fault, sha256, said):
    with pytest.raises(UserError, match=said):
        fetch.url(f"{server}/{fault}", sha256, tmp_path / "here")
    assert not list(tmp_path.iterdir())
    assert len(Faulty.asked) <= fetch.ATTEMPTS * 35, "a circle has an end"


def test_url_waits_longer_before_each_attempt(server, tmp_path, monkeypatch):
    paused = []
    monkeypatch.setattr(fetch, "PAUSE_S", 1)
    monkeypatch.setattr(time, "sleep", paused.append)
    with pytest.raises(UserError):
        fetch.url(f"{server}/500", SHA256, tmp_path / "here")
    assert paused == [1, 2, 4]


def test_url_has_no_half_file_under_its_name_at_any_time(server, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(time, "sleep", lambda _: seen.append({path.name for path in tmp_path.iterdir()}))
    with pytest.raises(UserError):
        fetch.url(f"{server}/cut", SHA256, tmp_path / "here")
    assert seen == [{"here.part"}] * (fetch.ATTEMPTS - 1)


def test_url_that_nobody_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "PAUSE_S", 0.001)
    with pytest.raises(UserError, match=r"Connection refused.*Check the address, the network and the proxy"):
        fetch.url("http://127.0.0.1:9/file", SHA256, tmp_path / "here")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome"], ids=["nothing", "a beginning"])
def test_url_whose_server_falls_silent(tmp_path, monkeypatch, sent):
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(fetch, "PAUSE_S", 0.001)
    held = []

    class Silent(socketserver.BaseRequestHandler):
        def handle(self):
            held.append(self.request.recv(1000))
            self.request.sendall(sent)
            ended.wait(60)

    ended = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        with pytest.raises(UserError, match=r"could not be downloaded: the server sent nothing for 0\.3 s .*Check the address"):
            fetch.url(f"http://127.0.0.1:{server.server_address[1]}/file", SHA256, tmp_path / "here")
        ended.set()
        server.shutdown()
    assert fetch.ATTEMPTS <= len(held) <= fetch.ATTEMPTS + 1  # the beginning was something new
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://example.org/a", "/etc/hostname", "data:,abc"])
def test_url_of_other_kinds_is_refused(tmp_path, address):
    with pytest.raises(UserError, match="Allowed: addresses that begin with https://"):
        fetch.url(address, SHA256, tmp_path / "here")
