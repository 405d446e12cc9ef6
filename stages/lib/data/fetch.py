"""Download files, each pinned by its sha256: wheels from the package index, and files from URLs."""

import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from stages.lib.errors import UserError

TIMEOUT_S = 60  # to connect, or to wait for the next byte


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
    """Download one file over http or https to `path`, with a progress bar; a failure leaves no file behind.

    Raises:
        UserError: the URL is not http(s), cannot be read, sends nothing for TIMEOUT_S, or gives a file with a different sha256.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(f"url: {url!r} was given. Allowed: addresses that begin with https:// or http://.")
    from http.client import HTTPException

    from torch.hub import download_url_to_file

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)  # torch.hub has no argument for it, and would wait forever
    try:
        download_url_to_file(url, str(path), hash_prefix=sha256, progress=sys.stderr.isatty())
    except RuntimeError as error:  # how torch.hub reports a hash mismatch
        raise UserError(
            f"sha256: {url} does not give the file that params.yaml names: {error}. If the new file is right, copy its sha256."
        ) from None
    except (OSError, HTTPException, ValueError) as error:  # no network, no such host, 404, a malformed URL
        silent = isinstance(getattr(error, "reason", error), TimeoutError)  # urllib wraps a connection timeout in a URLError
        said = f"the server sent nothing for {TIMEOUT_S} s" if silent else error
        raise UserError(f"url: {url} could not be downloaded: {said}. Check the address, the network and the proxy.") from None
    finally:
        socket.setdefaulttimeout(before)
