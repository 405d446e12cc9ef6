"""A folder or an archive with one folder of .txt files per class, or one for each split with these in it."""

from pathlib import Path

from stages.lib.core.contracts import Example
from stages.lib.readers import _folders

TEXTS = (".txt",)

Params = _folders.Params


def read(raw: Path, *, group_from: str) -> list[Example]:
    """List the texts; stages.lib.readers._folders describes the layout and the errors."""
    return _folders.read(raw, group_from=group_from, noun="text", endings=TEXTS)
