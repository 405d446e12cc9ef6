"""One file from a URL (such as an archive), kept as it is."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import Field

from stages.lib.data import fetch as fetching
from stages.lib.params.fields import Sha256, Strict


class Params(Strict):
    url: str = Field(pattern=r"^https?://")
    sha256: str = Sha256


def fetch(folder: Path, *, url: str, sha256: str) -> None:
    """Save the file in `folder` under the last part of its URL."""
    fetching.url(url, sha256, folder / file_name(url))


def file_name(url: str) -> str:
    """A plain file name from a URL: no folder, no leading dot, only letters, digits and . _ -"""
    last = unquote(urlsplit(url).path).rsplit("/", 1)[-1]
    return re.sub(r"[^\w.-]", "_", last).lstrip(".") or "file"
