"""Weights in your own file, or in a folder in Hugging Face's layout (model.safetensors, config.json, tokenizer.json)."""

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
    """Read the file or folder, whose hash must be sha256: whoever changes it must change params.yaml too.

    The hash of a folder is that of its files' hashes, as `sha256sum` lists them: of the weights and of the files beside them that
    are read.
    """
    place = Path(path)
    if place.is_dir():
        name, names = _tensors.in_folder([file.name for file in place.iterdir() if file.is_file()], f"path: the folder {path}")
        content, beside = (place / name).read_bytes(), {each: (place / each).read_bytes() for each in names}
        read = beside | {name: content}
        lines = "".join(f"{hashlib.sha256(read[each]).hexdigest()}  {each}\n" for each in sorted(read))
        found = hashlib.sha256(lines.encode()).hexdigest()
    elif place.is_file():
        name, content, beside = path, place.read_bytes(), {}
        found = hashlib.sha256(content).hexdigest()
    else:
        raise UserError(f"path: there is no file or folder {path} (seen from {Path.cwd()}).")
    if found != sha256:
        raise UserError(f"sha256: {path} has {found}, but params.yaml says {sha256}. If it is right, copy its sha256.")
    return _tensors.read(content, name, path, by_order, architecture, preprocessing, beside)
