"""A local server that answers as the Hugging Face hub does, and keeps a record of what it was asked."""

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

LARGE = (".safetensors", ".bin")  # kept elsewhere (LFS): the hub redirects to them


class Hub(NamedTuple):
    """A running server."""

    address: str
    asked: list[tuple[str, str]]  # method and path of each request
    agents: set[str]  # what the requests said of who asks
    tokens: dict[str, str]  # what they sent as a login, by path


@contextmanager
def running(repositories: dict[tuple[str, str], Path]) -> Iterator[Hub]:
    """Serve repositories: the folder of each (name, revision)."""
    asked, agents, tokens = list[tuple[str, str]](), set[str](), dict[str, str]()
    by_digest = {sha256(path): path for folder in repositories.values() for path in folder.iterdir()}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            asked.append((self.command, self.path))
            agents.add(self.headers.get("User-Agent", ""))
            tokens[self.path] = self.headers.get("Authorization", "")
            path = urlsplit(self.path).path
            if match := re.fullmatch(r"/api/models/(.+)/tree/(\w+)/?", path):
                self.tree(*match.groups())
            elif match := re.fullmatch(r"/(.+)/resolve/(\w+)/(.+)", path):
                self.resolve(*match.groups())
            elif match := re.fullmatch(r"/large/(\w+)", path):
                self.answer(200, by_digest[match[1]].read_bytes())
            else:
                self.answer(404)

        do_GET = do_POST = do_HEAD

        def found(self, name: str, revision: str) -> Path | None:
            folder = repositories.get((name, revision))
            if folder is None:
                code = "RevisionNotFound" if any(name == known for known, _ in repositories) else "RepoNotFound"
                said = {"RevisionNotFound": f"Invalid rev id: {revision}", "RepoNotFound": "Repository not found"}[code]
                body = json.dumps({"error": said}).encode()
                self.answer(404, body, **{"X-Error-Code": code, "X-Error-Message": said, "Content-Type": "application/json"})
            return folder

        def tree(self, name: str, revision: str) -> None:
            if folder := self.found(name, revision):
                files = [{"type": "file", "oid": "0" * 40, "size": path.stat().st_size, "path": path.name}
                         for path in sorted(folder.iterdir())]  # fmt: skip
                self.answer(200, json.dumps(files).encode(), **{"Content-Type": "application/json"})

        def resolve(self, name: str, revision: str, file: str) -> None:
            if folder := self.found(name, revision):
                path, commit = folder / file, {"X-Repo-Commit": revision}
                if not path.is_file():
                    said = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
                    self.answer(404, b"Entry not found", **commit | said)
                elif file.endswith(LARGE):
                    there = {"X-Linked-Etag": f'"{sha256(path)}"', "X-Linked-Size": str(path.stat().st_size)}
                    self.answer(302, b"", **commit | there | {"Location": f"{elsewhere}/large/{sha256(path)}"})
                else:
                    content = path.read_bytes()
                    self.answer(200, content, **commit | {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            """Nothing: what is asked is recorded."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        address, elsewhere = (f"http://{host}:{server.server_address[1]}" for host in ("127.0.0.1", "localhost"))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield Hub(address, asked, agents, tokens)
        server.shutdown()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
