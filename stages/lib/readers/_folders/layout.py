"""Which folders are classes and which are splits; what can be meant in two ways is refused, or said aloud."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stages.lib.errors import UserError

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
MOST_FOLDERS = 12  # that a message shows
SPLIT_WORD = re.compile(rf"(?<![a-z])({'|'.join(SPLITS)})(set|data|images?)?(?![a-z])")

Paths = Collection[PurePosixPath]


class Layout(NamedTuple):
    """What the folders of each example's path mean."""

    class_at: int  # the place of its class
    split_at: int | None = None  # the place of its split, if splits are given

    def label(self, path: PurePosixPath) -> str:
        return path.parts[self.class_at]

    def split(self, path: PurePosixPath) -> str:
        return "" if self.split_at is None else named(path.parts[self.split_at])


def named(folder: str) -> str:
    """The split that a folder's name says: "train" for seg_train, Training or train2017; "" for none or several."""
    found = {SPLITS[word] for word, _ in SPLIT_WORD.findall(folder.lower())}
    return found.pop() if len(found) == 1 else ""


def of(paths: Paths, raw: Path, noun: str, allowed: str) -> Layout:
    """Read the layout from the paths of the examples.

    Either <class>/**/*, or {train,val,test}/<class>/**/*, or <class>/{train,val,test}/*. Splits may have longer names, such as
    seg_train, and a folder more below each of them.

    Args:
        paths: without common folders.
        raw: where they are.
        noun: what an example is called.
        allowed: the layouts, for errors.

    Raises:
        UserError: examples lie outside of class folders, there is one class, or folders can be both classes and splits.
    """
    tops = {path.parts[0] for path in paths}
    exact = {top for top in tops if top.lower() in SPLITS}
    splits = {named(top) for top in tops}
    if "" not in splits and (exact or len(splits) > 1):
        layout = Layout(_class_below(paths, tops), 0)
        _tell_splits(raw, tops)
    elif exact:
        raise UserError(
            f"raw: {raw} mixes splits ({_some(exact)}) with other folders or {noun}s ({_some(tops - exact)}). {allowed} If "
            f"{_some(exact)} is a class, put all class folders into one folder called train, or list the files in a table "
            f"(reader: csv); if other folders are not wanted, remove them.{seen(paths)}"
        )
    else:
        layout = _with_splits_below(paths, raw, noun, allowed) or Layout(0)
    loose = [path for path in paths if len(path.parts) <= max(layout.class_at, layout.split_at or 0) + 1]
    if loose:
        raise UserError(
            f"raw: {raw} has {len(loose)} {noun}s outside of class folders: {_some(loose)}. Make a folder for each class, with "
            f"its name, and move the {noun}s there. {allowed}{seen(paths)}"
        )
    classes = {layout.label(path) for path in paths}
    if len(classes) < 2:
        raise UserError(
            f"raw: {raw} has one class ({_some(classes)}); at least two are needed. Add a folder for each other class, for "
            f"example with {noun}s that are none of it. {allowed}{seen(paths)}"
        )
    if layout.split_at is None:
        _warn_of_others(paths, raw)
    return layout


def _class_below(paths: Paths, tops: set[str]) -> int:
    """The place of the class below the splits, where each split may have one folder around its classes."""
    at = 1
    while all(
        len({path.parts[at] for path in own if len(path.parts) > at}) == 1 and all(len(path.parts) > at + 2 for path in own)
        for top in tops
        if (own := [path for path in paths if path.parts[0] == top])
    ):
        at += 1
    return at


def _with_splits_below(paths: Paths, raw: Path, noun: str, allowed: str) -> Layout | None:
    """The layout <class>/{train,val,test}/*, if it is that."""
    below = {path.parts[1] for path in paths if len(path.parts) > 2}
    exact = {folder for folder in below if folder.lower() in SPLITS}
    everywhere = all(len(path.parts) == 3 and named(path.parts[1]) for path in paths)
    if everywhere and (exact or len({named(folder) for folder in below}) > 1):
        _tell_splits(raw, below, " below each class")
        return Layout(0, 1)
    if exact:
        raise UserError(
            f"raw: {raw} has folders with names of splits ({_some(exact)}) below others, but not everywhere, or with more below "
            f"them: which are the classes, and which the splits? {allowed} Or list the files in a table with the columns path, "
            f"label and split (reader: csv).{seen(paths)}"
        )
    return None


def _tell_splits(raw: Path, folders: Iterable[str], where: str = "") -> None:
    if where or any(folder.lower() not in SPLITS for folder in folders):
        print(f"{raw}: splits{where} are given: {', '.join(f'{folder} ({named(folder)})' for folder in sorted(folders))}")


def _warn_of_others(paths: Paths, raw: Path) -> None:
    """Of classes that look like something else."""
    tops = {path.parts[0] for path in paths}
    if like_splits := {top for top in tops if named(top)}:
        print(f"WARNING: {raw}: classes with names of splits: {_some(like_splits)}. Splits must be called train, val and test.")
    inner = defaultdict(set)
    for path in paths:
        inner[path.parts[0]].add(path.parts[1] if len(path.parts) > 2 else None)
    common = set.intersection(*inner.values())
    if len(common) > 1 and None not in set.union(*inner.values()):
        print(
            f"WARNING: {raw}: the classes {_some(tops)} all hold the same folders ({_some(common)}). If these are the classes, "
            f"move them up, or list the files in a table (reader: csv).{seen(paths)}"
        )


def seen(paths: Iterable[PurePosixPath]) -> str:
    """The folders with the numbers of their files, for people."""
    counts = Counter(str(path.parent) for path in paths)
    lines = [f"  {folder}: {count}" for folder, count in sorted(counts.items())[:MOST_FOLDERS]]
    more = f"\n  ... and {len(counts) - MOST_FOLDERS} more" if len(counts) > MOST_FOLDERS else ""
    return "\nFolders, and the files directly in them:\n" + "\n".join(lines) + more


def _some(names: Iterable[object]) -> str:
    names = sorted(map(str, names))
    return ", ".join(names[:10]) + (f" ... ({len(names)} in all)" if len(names) > 10 else "")
