"""A folder or an archive with one folder of files per class; read in place, nothing is unpacked.

The layout is either <class>/**/* (prepare makes the splits) or {train,val,test}/<class>/**/* (these splits are kept). The readers
image_folder, text_folder and audio_folder say which files are examples.
"""

import lzma
import re
import shutil
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import IO, Any

from stages.lib.core.contracts import Example
from stages.lib.errors import UserError
from stages.lib.params.fields import Strict

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

Files = dict[PurePosixPath, Callable[[], bytes]]  # functions that read each file, by its path


class Params(Strict):
    group_from: str  # regular expression whose first (group), found in the path, is the example's group; "" for none


def read(raw: Path, *, group_from: str, noun: str, endings: Sequence[str]) -> list[Example]:
    """List the examples.

    Args:
        raw: the folder or archive (or a folder that contains only one archive); a single top-level folder is skipped.
        group_from: for example "patient([0-9]+)"; searched in the path, starting at the class's (or split's) folder.
        noun: what an example is called, for people.
        endings: of the files that are examples, in lower case and with their dot; others are skipped with a word.

    Raises:
        UserError: there are no examples, some are outside class folders, there is only one class, or a path has no group.
    """
    layout = _layout(endings)
    pattern = _compiled(group_from)
    files = {path: open for path, open in _files(raw, endings).items() if not _hidden(path)}
    if not files:
        raise UserError(f"raw: {raw} is empty. {layout}")
    found = {path: open for path, open in files.items() if path.suffix.lower() in endings}
    others = Counter(path.suffix.lower() or "without ending" for path in files.keys() - found.keys())
    if not found:
        raise UserError(f"raw: {raw} holds no {noun}s ({_counts(others)}). Allowed endings: {', '.join(endings)}.")
    if others:
        print(f"{raw}: skipping files that are not {noun}s: {_counts(others)}")

    found = _without_common_folder(found)
    tops = {path.parts[0] for path in found}
    given = {top for top in tops if top.lower() in SPLITS}
    if given and given != tops:
        raise UserError(
            f"raw: {raw} mixes splits ({_some(given)}) with other folders or {noun}s ({_some(tops - given)}). {layout}"
        )
    depth = 2 if given else 1  # folders above an example: its split, its class
    loose = [path for path in found if len(path.parts) <= depth]
    if loose:
        raise UserError(f"raw: {raw} has {len(loose)} {noun}s outside of class folders: {_some(loose)}. {layout}")
    classes = {path.parts[depth - 1] for path in found}
    if len(classes) < 2:
        raise UserError(f"raw: {raw} has one class ({_some(classes)}); at least two are needed. {layout}")

    groups = {path: pattern.search(str(path)) for path in found} if pattern else {}
    groupless = [path for path, group in groups.items() if not group]
    if groupless:
        raise UserError(f"group_from: {group_from} does not match {len(groupless)} paths: {_some(groupless)}.")
    examples = [
        Example(
            key=str(path),
            label=path.parts[depth - 1],
            group=group[1] or "" if (group := groups.get(path)) else "",
            split=SPLITS[path.parts[0].lower()] if given else "",
            open=open,
        )
        for path, open in found.items()
    ]
    return sorted(examples, key=lambda example: example.key)


def _files(raw: Path, endings: Sequence[str]) -> Files:
    """How to read each file of a folder or archive, by its path inside."""
    if not raw.exists():
        raise UserError(f"raw: there is no {raw} (seen from {Path.cwd()}).")
    if raw.is_dir():
        files = {PurePosixPath(path.relative_to(raw).as_posix()): path for path in raw.rglob("*") if path.is_file()}
        visible = [file for path, file in files.items() if not _hidden(path)]
        if len(visible) != 1 or visible[0].suffix.lower() in endings:
            return {path: file.read_bytes for path, file in files.items()}
        raw = visible[0]  # as the download `url` leaves it
    if zipfile.is_zipfile(raw):
        archive = zipfile.ZipFile(raw)
        members = [info for info in archive.infolist() if not info.is_dir()]
        return {PurePosixPath(info.filename.lstrip("/")): partial(archive.read, info) for info in members}
    if tarfile.is_tarfile(raw):
        return _tar_files(raw)
    raise UserError(f"raw: {raw} is neither a folder nor an archive that can be read. {_layout(endings)}")


def _tar_files(raw: Path) -> Files:
    try:
        archive = tarfile.open(fileobj=_plain_tar(raw))  # noqa: SIM115 (examples are read from it later)
        members = [member for member in archive if not member.isdir()]
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise UserError(f"raw: the archive {raw} is damaged: {error}.") from None
    lock = threading.Lock()  # a tar has a single file position; a zip does its own locking

    def read(member: tarfile.TarInfo) -> bytes:
        with lock:
            file = archive.extractfile(member)
            assert file is not None, "it is no file"
            return file.read()

    return {PurePosixPath(member.name.lstrip("/")): partial(read, member) for member in members}


def _plain_tar(raw: Path) -> IO[bytes]:
    """The tar, decompressed once: seeking in a compressed one would decompress it again for every example."""
    with tarfile.open(raw) as archive:
        if isinstance(archive.fileobj, BufferedReader):
            return raw.open("rb")
        spool = tempfile.TemporaryFile()  # noqa: SIM115
        decompressed: Any = archive.fileobj
        decompressed.seek(0)
        shutil.copyfileobj(decompressed, spool)
    spool.seek(0)
    return spool


def _layout(endings: Sequence[str]) -> str:
    """What is allowed, for errors; the first of the endings stands for all."""
    files = f"<class>/*{endings[0]}"
    return f"Allowed: raw/{files}, or raw/{{train,val,test}}/{files}, as a folder, .zip or .tar."


def _hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _without_common_folder(found: Files) -> Files:
    """Paths without their common top-level folders, such as the one in most archives."""
    while len({path.parts[0] for path in found}) == 1:
        inner = {PurePosixPath(*path.parts[1:]): open for path, open in found.items()}
        (top,) = {path.parts[0] for path in found}
        if top.lower() in SPLITS or any(len(path.parts) < 2 for path in inner):
            break
        found = inner
    return found


def _compiled(group_from: str) -> re.Pattern[str] | None:
    if not group_from:
        return None
    try:
        pattern = re.compile(group_from)
    except re.error as error:
        raise UserError(f"group_from: {group_from} is not a valid regular expression: {error}.") from None
    if not pattern.groups:
        raise UserError(f"group_from: {group_from} has no (group). For example: patient(\\d+)")
    return pattern


def _some(names: Iterable[object]) -> str:
    names = sorted(map(str, names))
    return ", ".join(names[:10]) + (f" ... ({len(names)} in all)" if len(names) > 10 else "")


def _counts(endings: Counter[str]) -> str:
    return ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
