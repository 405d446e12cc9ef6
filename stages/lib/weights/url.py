"""Weights behind a web address, pinned by their sha256."""

import tempfile
from pathlib import Path

from pydantic import Field

from stages.lib import fetch as fetching
from stages.lib import pretrained
from stages.lib.strict import Architecture, Preprocessing, Sha256, Strict
from stages.lib.weights import Source


class Knobs(Strict):
    url: str = Field(pattern=r"^https?://")
    sha256: str = Sha256
    by_order: bool
    architecture: Architecture
    preprocessing: Preprocessing


def fetch(*, url, sha256, by_order, architecture, preprocessing) -> Source:
    """Download the file; see stages.lib.pretrained for what it may hold."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights"
        fetching.url(url, sha256, path)
        return pretrained.read(path.read_bytes(), url, url, by_order, architecture, preprocessing)
