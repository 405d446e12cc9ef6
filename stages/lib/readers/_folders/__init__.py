"""A folder or an archive with one folder of files per class; read in place, nothing is unpacked.

The readers image_folder, text_folder and audio_folder say which files are examples; stages.lib.readers._folders.layout says which
folders are classes and which are splits.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from stages.lib.core.contracts import Example
from stages.lib.errors import UserError
from stages.lib.params.fields import Strict
from stages.lib.readers._folders import layout as layouts
from stages.lib.readers._folders.files import Found, Read, find

NO_ENDING = "without ending"
ARCHIVE = (
    "Unpack the archives that are inside (or pack what they hold once, not twice), so that there is a folder for each class."
)
REMEDIES = {  # what to do about files that could be examples after all
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"), ARCHIVE),
    **dict.fromkeys((".heic", ".heif"), "Convert .heic and .heif to JPEG: heif-convert IN.heic OUT.jpg (of libheif); on a Mac: "
                                        "sips -s format jpeg IN.heic --out OUT.jpg."),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf"), "Export raw files of cameras as JPEG or TIFF."),
}  # fmt: skip


class Params(Strict):
    group_from: str  # regular expression whose first (group), found in the path, is the example's group; "" for none


def read(
    raw: Path,
    *,
    group_from: str,
    noun: str,
    endings: Sequence[str],
    recognised: Callable[[Read], bool] = lambda read: False,
) -> list[Example]:
    """List the examples. Class names that are written differently in Unicode (NFC and NFD) are one class, in NFC.

    Args:
        raw: the folder or archive (or a folder that contains only one archive); a single top-level folder is skipped.
        group_from: for example "patient([0-9]+)"; searched in the path, starting at the class's (or split's) folder.
        noun: what an example is called, for people.
        endings: of the files that are examples, in lower case and with their dot.
        recognised: whether a file with another ending is an example too, by its content; the rest is skipped with a word.

    Raises:
        UserError: there are no examples, some are outside class folders, there is only one class, or a path has no group.
    """
    files = f"<class>/*{endings[0]}"
    allowed = f"Allowed: raw/{files}, or raw/{{train,val,test}}/{files}, as a folder, .zip or .tar."
    pattern = _compiled(normalize("NFC", group_from))
    there = find(raw, endings, allowed)
    if not there.files:
        raise UserError(f"raw: {raw} is empty. {allowed}")
    found = {path: read for path, read in there.files.items() if path.suffix.lower() in endings or _is_one(read, recognised)}
    others = Counter(_ending(path) for path in there.files.keys() - found.keys())
    if not found:
        remedy = _remedies(others) or f"Allowed endings: {', '.join(endings)}."
        raise UserError(f"raw: {raw} holds no {noun}s ({_counts(others)}). {remedy}")
    if others:
        remedy = _remedies(others)
        print(f"{'WARNING: ' if remedy else ''}{raw}: skipping files that are not {noun}s: {_counts(others)}. {remedy}".rstrip())

    above = _common_folders(found)
    paths = {path: PurePosixPath(*path.parts[len(above) :]) for path in found}
    layout = layouts.of(paths.values(), raw, noun, allowed)
    _tell_folders_without(raw, there, found, len(above) + layout.class_at, noun)
    texts = {path: normalize("NFC", str(inside)) for path, inside in paths.items()}
    groups = {path: pattern.search(text) for path, text in texts.items()} if pattern else {}
    groupless = [paths[path] for path, group in groups.items() if not group]
    if groupless:
        raise UserError(f"group_from: {group_from} does not match {len(groupless)} paths: {_some(groupless)}.")
    examples = [
        Example(
            key=str(paths[path]),
            label=normalize("NFC", layout.label(paths[path])),
            group=group[1] or "" if (group := groups.get(path)) else "",
            split=layout.split(paths[path]),
            open=open,
        )
        for path, open in found.items()
    ]
    spelled = {layout.label(path) for path in paths.values()}
    if twice := [name for name, times in Counter(normalize("NFC", name) for name in spelled).items() if times > 1]:
        print(f"{raw}: taken as one class though spelled in two ways in Unicode (NFC, NFD): {_some(twice)}")
    return sorted(examples, key=lambda example: example.key)


def _is_one(read: Read, recognised: Callable[[Read], bool]) -> bool:
    try:
        return recognised(read)
    except Exception:  # not readable, or a damaged archive, which raises many kinds; its ending says that it is no example
        return False


def _common_folders(found: Collection[PurePosixPath]) -> tuple[str, ...]:
    """Top-level folders that all examples share, such as the one in most archives, but not their split or their only class."""
    first, *_ = found
    depth = 0
    while (
        {path.parts[depth] for path in found} == {first.parts[depth]}
        and first.parts[depth].lower() not in layouts.SPLITS
        and all(len(path.parts) > depth + 2 for path in found)
    ):
        depth += 1
    return first.parts[:depth]


def _tell_folders_without(raw: Path, there: Found, found: Collection[PurePosixPath], class_at: int, noun: str) -> None:
    """Warn of folders beside the classes, or beside the folders above them, that hold no example and so are no class."""
    own = {path.parts[: depth + 1] for path in found for depth in range(class_at + 1)}
    labels = {path.parts[class_at] for path in found}
    without: dict[PurePosixPath, Counter[str]] = defaultdict(Counter)
    inside = [(path.parent, _ending(path)) for path in there.files] + [(path, "") for path in there.folders]
    for folder, ending in inside:
        above = [folder.parts[: depth + 1] for depth in range(class_at + 1)]
        top = next((each for each in above if each not in own), ())
        if top and not (len(top) == class_at + 1 and top[-1] in labels):  # a class without examples in one split is refused later
            without[PurePosixPath(*top)][ending] += 1
    if without:
        told = [f"{path} ({_counts(Counter({k: n for k, n in held.items() if k})) or 'empty'})" for path, held in without.items()]
        print(f"WARNING: {raw}: folders without {noun}s, which are no classes: {_some(told)}")


def _remedies(endings: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(REMEDIES[each] for each in sorted(endings) if each in REMEDIES))


def _ending(path: PurePosixPath) -> str:
    return path.suffix.lower() or NO_ENDING


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
