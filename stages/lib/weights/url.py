"""Weights from a URL, pinned by their sha256: a file of weights, or a .zip of a folder in Hugging Face's layout."""

import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pydantic import Field

from stages.lib.core.contracts import Source
from stages.lib.data import fetch as fetching
from stages.lib.errors import UserError, listed
from stages.lib.params.fields import Architecture, Sha256, Strict
from stages.lib.weights import _tensors


class Params(Strict):
    url: str = Field(pattern=r"^https?://")
    sha256: str = Sha256
    by_order: bool


def fetch(*, url: str, sha256: str, by_order: bool, architecture: Architecture, preprocessing: Strict) -> Source:
    """Download the file; see stages.lib.weights._tensors for what it may contain."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights"
        fetching.url(url, sha256, path)
        name = urlsplit(url)._replace(query="", fragment="").geturl()  # without ?download=true, for its extension
        if name.endswith((".zip", ".whl")):
            name, content, beside = _in_archive(path, url)
        else:  # torch.save writes zip files too
            content, beside = path.read_bytes(), {}
    return _tensors.read(content, name, url, by_order, architecture, preprocessing, beside)


def _in_archive(path: Path, url: str) -> tuple[str, bytes, dict[str, bytes]]:
    """The only folder of the archive that holds weights; read in memory, nothing is unpacked."""
    if not zipfile.is_zipfile(path):
        raise UserError(f"url: {url} does not give a .zip file.")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {PurePosixPath(name): name for name in archive.namelist()}
            folders = {member.parent for member in members if member.name in _tensors.WEIGHTS}
            if len(folders) != 1:
                raise UserError(
                    f"url: the archive {url} must have exactly one folder with one of {listed(_tensors.WEIGHTS)}; it has "
                    f"{len(folders)}."
                )
            (inside,) = folders
            name, names = _tensors.in_folder([member.name for member in members if member.parent == inside], url)
            content, *others = (archive.read(members[inside / each]) for each in (name, *names))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # damaged, with a password, of another kind
        raise UserError(f"url: the archive {url} cannot be unpacked: {error}.") from None
    return name, content, dict(zip(names, others, strict=True))
