"""A folder or an archive with one folder of images per class, or one for each split with these in it."""

from pathlib import Path

from stages.lib.core.contracts import Example
from stages.lib.readers import _folders

# Files with other endings, or none, are images if their content says so.
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".pgm", ".ppm", ".tga")

Params = _folders.Params


def read(raw: Path, *, group_from: str) -> list[Example]:
    """List the images; stages.lib.readers._folders describes the layout and the errors."""
    from stages.lib.modalities.image import files  # imports Pillow

    return _folders.read(raw, group_from=group_from, noun="image", endings=IMAGES, recognised=files.recognised)
