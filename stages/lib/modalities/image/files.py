"""Image files as people have them, decoded completely to upright RGB with 8 bits, or refused in words.

The one place where pixels are read: prepare, predict and the served model call it. Its content says what a file is, not its name.
"""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

# Those that Pillow reads by itself. Others start a program (EPS), describe no pixels (WMF), or hold what is no picture (FITS).
FORMATS = ("AVIF", "BMP", "DDS", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "PSD", "QOI", "SGI", "SUN", "TGA", "TIFF",
           "WEBP")  # fmt: skip
BEGINNING = 16  # bytes from which Pillow tells formats apart
HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc")  # how such a file goes on after its first four bytes
TO_JPEG = "Convert it to JPEG: heif-convert IN.heic OUT.jpg (of libheif), or on a Mac: sips -s format jpeg IN.heic --out OUT.jpg"
PNG = b"\x89PNG\r\n\x1a\n"
NO_PIXELS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # chunks of PNG that are not used here
REMARKS = "remarks"  # where a decoded image holds them, in its `info`
WHITE_IS_ZERO = 0  # the photometric interpretation of TIFF in which grey values are inverted
DARK = 1 << 14  # 16-bit images of detectors with 10, 12 or 14 bits stay below it
TURNED = "have damaged metadata, and are used without turning them"
PAGES = "have several pages or frames, of which the first is used"
TOO_DARK = ("are 16-bit grey images without a value above 16,383, and so nearly black. If they hold 12 or 14 bits, multiply them "
            "by 16 or 4 first")  # fmt: skip


def recognised(read: Callable[[int], bytes]) -> bool:
    """Whether a file's content is that of an image, whole or damaged.

    Args:
        read: returns at most so many bytes of the file's beginning; all for -1.
    """
    Image.init()
    beginning = read(BEGINNING).ljust(BEGINNING, b"\0")
    accepts = [accept for name in FORMATS if (accept := Image.OPEN[name][1])]  # all but TGA, which begins with anything
    if not any(accept(beginning) for accept in accepts):
        return False
    try:
        _opened(read(-1))
        return True
    except UnidentifiedImageError:
        return False
    except Exception:  # it is one, but damaged or too large: `decode` says so
        return True


def decode(source: bytes | Image.Image) -> Image.Image:
    """Decode an image completely (a truncated file raises here) to upright RGB; of several pages or frames, the first.

    Grey values with more than 8 bits are divided so that the largest that their format can hold becomes 255: 65,535, or 4,095 in
    a TIFF that says that it has 12 bits.

    Returns:
        The image, with what people should know about it in `info[REMARKS]`, as `remarks` of a modality returns it.

    Raises:
        ValueError: it is a HEIC photo, whatever its name says; or the range from black to white is unknown, because the pixels
            are floating-point numbers, or whole numbers with a sign or more than 16 bits.
        Exception: of any other kind, if the file is damaged, or no image.
    """
    if isinstance(source, bytes) and source[4:12] in HEIC:
        raise ValueError(f"it is a HEIC photo, whatever its name says. {TO_JPEG}")
    image = source if isinstance(source, Image.Image) else _opened(source)
    kind, tags, remarks = image.format, getattr(image, "tag_v2", {}), dict[str, float]()
    if kind != "MPO" and getattr(image, "is_animated", False):  # MPO: photographs with previews of themselves
        remarks[PAGES] = 1
    image.load()
    try:
        image = _upright(image)
    except Exception:  # Pillow raises many kinds, and the pixels are whole
        remarks[TURNED] = 1
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of an unknown range; save it with 8 or 16 bits")
    if image.mode == "I" and kind not in ("PNG", "PPM"):  # Pillow reads their 16 bits without a sign into 32 with one
        raise ValueError(
            "its pixels are whole numbers with a sign, or of 32 bits (as in CT or elevation), whose range from black to white is "
            "unknown; clip it to the range that matters, and save it with 8 or 16 bits without a sign"
        )
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        bits = _first(tags.get(ExifTags.Base.BitsPerSample), 16)
        if bits == 16 and values.max() < DARK:
            remarks[TOO_DARK] = 1
        most = (1 << bits) - 1
        values = most - values if _first(tags.get(ExifTags.Base.PhotometricInterpretation), 1) == WHITE_IS_ZERO else values
        image = Image.fromarray((values * 255 / most).round().clip(0, 255).astype(np.uint8))
    image = image if image.mode == "RGB" and image is not source else image.convert("RGB")  # which copies all pixels
    image.info = {REMARKS: remarks}
    return image


def _opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(_pixels_alone(content)), formats=FORMATS)


def _upright(image: Image.Image) -> Image.Image:
    """The image as its metadata say that it lies: a copy only if it is turned."""
    return ImageOps.exif_transpose(image) if image.getexif().get(ExifTags.Base.Orientation, 1) != 1 else image


def _first(tag: Any, otherwise: int) -> int:
    values = tag if isinstance(tag, tuple) else (tag,)
    return values[0] if isinstance(values[0], int) else otherwise


def _pixels_alone(content: bytes) -> bytes:
    """A PNG without its texts and its colour profile: Pillow refuses the whole file if one is damaged or very long."""
    if not content.startswith(PNG):
        return content
    kept, at = [PNG], len(PNG)
    while at + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        end = at + length + 12  # with its length, kind and checksum
        if kind not in NO_PIXELS:
            kept.append(content[at:end])
        at = end
    return b"".join([*kept, content[at:]])
