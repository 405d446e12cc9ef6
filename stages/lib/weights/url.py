"""Weights from a URL, pinned by their sha256."""

import tempfile
from pathlib import Path

from pydantic import Field

from stages.lib.core.contracts import Source
from stages.lib.data import fetch as fetching
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
        return _tensors.read(path.read_bytes(), url, url, by_order, architecture, preprocessing)
