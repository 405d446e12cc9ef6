"""Names of files as the outside world writes them: bytes, in an encoding that is stated nowhere."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from stages.lib.errors import UserError

DOS = ("cp437", "cp1252", "cp932")  # what names in a .zip may be if not UTF-8: by its standard, of Windows, Japanese (Shift-JIS)
UNIX = ("cp1252", "cp932", "cp437")  # and those in a .tar or a folder; cp1252 holds the letters of Latin-1


def decoded(names: Sequence[bytes], raw: Path, encodings: Sequence[str]) -> list[str]:
    """All names, in the one encoding in which all of them can be meant; names that are UTF-8 are read as that.

    Args:
        names: of files, each with its folders.
        encodings: to try in this order. One fits if every word is of letters of one script.

    Raises:
        UserError: none fits.
    """
    try:
        return [name.decode() for name in names]
    except UnicodeDecodeError:
        fitting = {encoding: texts for encoding in encodings if (texts := _as(names, encoding))}
    odd = [name for name in names if not name.isascii()]
    remedy = "Name them in UTF-8: unpack the archive, correct the names, and give the folder."
    if not fitting:
        shown = ", ".join(repr(name)[2:-1] for name in odd[:5])
        raise UserError(
            f"raw: {raw} has {len(odd)} names that are neither UTF-8 nor all of {', '.join(encodings)}: {shown}. {remedy}"
        )
    encoding, texts = next(iter(fitting.items()))
    others = {text for other in list(fitting)[1:] for text in fitting[other] if text not in texts}
    doubt = f"WARNING: {raw}" if others else raw
    print(
        f"{doubt}: {len(odd)} names are not UTF-8 and are read as {encoding}: {_first(texts)}."
        + (f" They could also be {_first(sorted(others))}. If they are wrong: {remedy}" if others else "")
    )
    return texts


def _as(names: Sequence[bytes], encoding: str) -> list[str]:
    try:
        texts = [name.decode(encoding) for name in names]
    except UnicodeDecodeError:
        return []
    return texts if all(map(_can_be_meant, texts)) else []


def _can_be_meant(text: str) -> bool:
    """Whether every word is of letters of one script: wrong encodings mix Latin with Greek, Chinese or lines of boxes."""
    names = {char: unicodedata.name(char, "UNKNOWN") for char in text}
    if any(name.startswith(("HIRAGANA", "KATAKANA")) for name in names.values()):
        return True  # no other encoding gives these by mistake, and Japanese mixes scripts
    if any(not char.isascii() and not char.isalnum() for char in text):
        return False
    return all(len({names[char].split()[0] for char in word}) == 1 for word in re.findall(r"[^\W\d_]+", text))


def _first(texts: Sequence[str]) -> str:
    return ", ".join([text for text in texts if not text.isascii()][:3])
