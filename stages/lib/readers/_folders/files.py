"""The files of a folder or an archive, read in place: nothing is unpacked."""

import errno
import lzma
import os
import stat
import struct
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from stages.lib.errors import UserError
from stages.lib.readers._folders import names

LARGEST = 1 << 30  # bytes of one file of an archive: no picture, text or recording has more, but a bomb does
DENSEST = 100  # how many times larger than the archive a decompressed tar may be, if it has more than LARGEST bytes
Read = Callable[..., bytes]  # returns a file, or with a number at most so many bytes of its beginning


class Found(NamedTuple):
    """What is there, by its path inside; files and folders whose names begin with a dot are left out."""

    files: dict[PurePosixPath, Read]
    folders: set[PurePosixPath]  # those that an archive lists, and all of a folder


def find(raw: Path, endings: Sequence[str], allowed: str) -> Found:
    """All files of a folder or archive, or of a folder that contains only one archive.

    Args:
        raw: the folder or archive.
        endings: of the files that are examples; a lone file with one of these is no archive.
        allowed: the layouts, for errors.

    Raises:
        UserError: there is none, it cannot be read, or it has links that lead nowhere.
    """
    if not raw.exists():
        raise UserError(f"raw: there is no {raw} (seen from {Path.cwd()}).")
    if raw.is_dir():
        found = _visible(_of_folder(raw))
        if len(found.files) != 1 or next(iter(found.files)).suffix.lower() in endings:
            return found
        (raw,) = (raw / path for path in found.files)  # as the download `url` leaves it
    if zipfile.is_zipfile(raw):
        return _visible(_of_zip(raw))
    if tarfile.is_tarfile(raw):
        return _visible(_of_tar(raw))
    raise UserError(f"raw: {raw} is neither a folder nor an archive that can be read. {allowed}")


def _of_folder(raw: Path) -> Found:
    """With links to folders, which DVC follows too."""
    files, folders, nowhere, odd = list[bytes](), list[bytes](), list[bytes](), list[str]()
    start = os.fsencode(raw)
    above = {start: [os.path.realpath(start)]}  # of each folder, the real folders around it and its own

    def unreadable(error: OSError) -> None:
        raise UserError(f"raw: {os.fsdecode(error.filename)} cannot be read: {error.strerror}.")

    for folder, inner, leaves in os.walk(start, onerror=unreadable, followlinks=True):
        for name in inner:
            path = os.path.join(folder, name)  # noqa: PTH118 (names may be bytes of any encoding)
            if (real := os.path.realpath(path)) in above[folder]:
                raise UserError(f"raw: {os.fsdecode(path)} is a link to a folder that contains it. Remove the link.")
            above[path] = [*above[folder], real]
            folders.append(path)
        for name in leaves:
            path = os.path.join(folder, name)  # noqa: PTH118
            if os.path.isfile(path):  # noqa: PTH113
                files.append(path)
            elif os.path.islink(path) and not name.startswith(b"."):  # noqa: PTH114
                nowhere.append(path)
            else:
                odd.append(os.fsdecode(os.path.relpath(path, start)))
    _refuse_devices(raw, odd)
    if nowhere:
        links = ", ".join(sorted(os.fsdecode(path) for path in nowhere)[:10])
        raise UserError(f"raw: {len(nowhere)} links lead nowhere: {links}. Remove them, or bring back what they point to.")
    paths = sorted([*files, *folders])
    texts = names.decoded([os.path.relpath(path, start) for path in paths], raw, names.UNIX)
    inside = {path: PurePosixPath(text.replace(os.sep, "/")) for path, text in zip(paths, texts, strict=True)}
    there: dict[PurePosixPath, Read] = {inside[path]: partial(_read, path) for path in files}
    return Found(there, {inside[path] for path in folders})


def _read(path: bytes, num_bytes: int = -1) -> bytes:
    with open(path, "rb") as file:
        return file.read(num_bytes)


def _of_zip(raw: Path) -> Found:
    try:
        archive = zipfile.ZipFile(raw)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error) as error:
        raise UserError(f"raw: the archive {raw} is damaged: {error}.") from None
    members = archive.infolist()
    kinds = {each.filename: stat.S_IFMT(each.external_attr >> 16) for each in members}
    _refuse_links(raw, [name for name, kind in kinds.items() if kind == stat.S_IFLNK], "zip -r without -y")
    _refuse_devices(raw, [name for name, kind in kinds.items() if kind not in (0, stat.S_IFREG, stat.S_IFDIR)])
    old = [each for each in members if not each.flag_bits & 0x800 and not each.filename.isascii()]  # no word of the encoding
    texts = {each.filename: each.filename for each in members}
    stored = {each.filename: _as_stored(each.filename) for each in old}
    texts |= dict(zip(stored, names.decoded(list(stored.values()), raw, names.DOS), strict=True))
    if any("\\" in name for name in texts.values()) and not any("/" in name for name in texts.values()):
        texts = {name: text.replace("\\", "/") for name, text in texts.items()}  # as some programs on Windows write folders

    def read(member: zipfile.ZipInfo, num_bytes: int = -1) -> bytes:
        _require_bounded(member.file_size)  # what it says: zipfile reads no more
        with archive.open(member) as file:
            return file.read(num_bytes)

    files: dict[PurePosixPath, Read] = {}
    for each in members:
        if not texts[each.filename].endswith("/"):
            files[PurePosixPath(texts[each.filename].lstrip("/"))] = partial(read, each)
    return Found(files, {PurePosixPath(text.strip("/")) for text in texts.values() if text.endswith("/")})


def _as_stored(name: str) -> bytes:
    """The bytes of a name that zipfile took for CP437, or for UTF-8 by a field for it."""
    try:
        return name.encode("cp437")
    except UnicodeEncodeError:
        return name.encode()


def _of_tar(raw: Path) -> Found:
    try:
        archive = tarfile.open(fileobj=_plain_tar(raw), encoding="utf-8")  # noqa: SIM115 (read from later)
        members = archive.getmembers()
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise UserError(f"raw: the archive {raw} is damaged: {error}.") from None
    there = {each.name for each in members if each.isreg()}
    links = [each for each in members if each.issym() or each.islnk()]
    _refuse_links(raw, [each.name for each in links if _goal(each) not in there], "tar -h")
    _refuse_devices(raw, [each.name for each in members if not (each.isreg() or each.isdir() or each in links)])
    lock = threading.Lock()  # a tar has a single file position; a zip does its own locking

    def read(member: tarfile.TarInfo, num_bytes: int = -1) -> bytes:
        _require_bounded(member.size)
        with lock:
            file = archive.extractfile(member)
            assert file is not None, "it is no file"
            return file.read(num_bytes)

    stored = [each.name.encode("utf-8", "surrogateescape") for each in members]
    named = list(zip(names.decoded(stored, raw, names.UNIX), members, strict=True))
    files: dict[PurePosixPath, Read] = {
        PurePosixPath(name.lstrip("/")): partial(read, each) for name, each in named if not each.isdir()
    }
    return Found(files, {PurePosixPath(name.strip("/")) for name, each in named if each.isdir()})


def _goal(link: tarfile.TarInfo) -> str:
    return os.path.normpath(PurePosixPath(link.name).parent / link.linkname) if link.issym() else link.linkname


def _plain_tar(raw: Path) -> IO[bytes]:
    """The tar, decompressed once: seeking in a compressed one would decompress it again for every example."""
    with tarfile.open(raw) as archive:
        if isinstance(archive.fileobj, BufferedReader):
            return raw.open("rb")
        decompressed: Any = archive.fileobj
        decompressed.seek(0)
        most = max(LARGEST, DENSEST * raw.stat().st_size)
        try:
            spool = tempfile.TemporaryFile()  # noqa: SIM115
            while block := decompressed.read(1 << 20):
                if spool.tell() > most:
                    spool.close()
                    raise UserError(
                        f"raw: {raw} is more than {DENSEST} times as large once it is decompressed, as no archive of data is. If "
                        "it is right nevertheless, unpack it and give the folder."
                    )
                spool.write(block)
            spool.seek(0)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise UserError(
                f"raw: there is no room in {tempfile.gettempdir()} for {raw}, which is decompressed there while it is read "
                f"({error.strerror}). Make room, or set TMPDIR to a folder with more; or unpack the archive and give the folder."
            ) from None
    return spool


def _refuse_links(raw: Path, links: Sequence[str], command: str) -> None:
    if links := [link for link in links if not hidden(PurePosixPath(link))]:
        raise UserError(
            f"raw: {raw} has {len(links)} links in place of what they point to: {', '.join(links[:10])}. Pack it again with "
            f"what they point to ({command})."
        )


def _refuse_devices(raw: Path, odd: Sequence[str]) -> None:
    if odd := [path for path in odd if not hidden(PurePosixPath(path))]:
        raise UserError(f"raw: {raw} has {len(odd)} pipes or devices, which are no files: {', '.join(sorted(odd)[:10])}. Leave "
                        "them out.")  # fmt: skip


def _require_bounded(num_bytes: int) -> None:
    if num_bytes > LARGEST:
        raise ValueError(f"it has {num_bytes / 1e9:.1f} GB once it is unpacked; at most {LARGEST / 1e9:.1f} GB are read")


def hidden(path: PurePosixPath) -> bool:
    """Whether a file or one of its folders is the system's, and not data."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _visible(found: Found) -> Found:
    files = {path: read for path, read in found.files.items() if not hidden(path)}
    return Found(files, {path for path in found.folders if path.parts and not hidden(path)})
