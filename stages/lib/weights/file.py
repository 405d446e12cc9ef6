"""Weights in your own file: safetensors, or a torch file that contains only tensors."""

import hashlib
from pathlib import Path

from pydantic import Field

from stages.lib.core.contracts import Source
from stages.lib.errors import UserError
from stages.lib.params.fields import Architecture, Sha256, Strict
from stages.lib.weights import _tensors


class Params(Strict):
    path: str = Field(min_length=1)
    sha256: str = Sha256
    by_order: bool


def fetch(*, path: str, sha256: str, by_order: bool, architecture: Architecture, preprocessing: Strict) -> Source:
    """Read the file, whose hash must be sha256: whoever changes the file must change params.yaml too."""
    if not Path(path).is_file():
        raise UserError(f"path: there is no file {path} (seen from {Path.cwd()}).")
    content = Path(path).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(f"sha256: {path} has {found}, but params.yaml says {sha256}. If the file is right, copy its sha256.")
    return _tensors.read(content, path, path, by_order, architecture, preprocessing)
