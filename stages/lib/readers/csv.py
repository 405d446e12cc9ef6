"""Images listed in your own table, with the columns path and label, and optionally group and split."""

from collections.abc import Iterable
from pathlib import Path

from stages.lib.core.contracts import Example
from stages.lib.errors import UserError
from stages.lib.params.fields import Strict

NEEDED, OPTIONAL = ["path", "label"], ["group", "split"]
SPLITS = ["train", "val", "test", ""]


class Params(Strict):
    """None: the table contains everything."""


def read(raw: Path) -> list[Example]:
    """List the rows of a .csv file.

    Args:
        raw: a folder that contains exactly one .csv file and, at any depth, the images; paths are relative to this folder. This
            way DVC sees every image: replacing one makes the preparation run again.

    Raises:
        UserError: lists every mistake in the table.
    """
    import pandas as pd

    file = _file(raw)
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")  # a class may be called "NA" or "01"
    except (ValueError, OSError) as error:  # not UTF-8, empty, ragged rows
        raise UserError(f"raw: {file} cannot be read as a table: {error}") from None
    table.columns = table.columns.str.strip()
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise UserError(
            f"raw: {file} has no column {' and no column '.join(missing)}; its columns are {', '.join(table.columns)}. "
            f"Needed: {', '.join(NEEDED)}; {' and '.join(OPTIONAL)} may be there too."
        )
    for name in OPTIONAL:
        if name not in table:
            table[name] = ""
    table = table[NEEDED + OPTIONAL].apply(lambda column: column.str.strip())

    there = table.path.map(lambda path: (file.parent / path).is_file()).astype(bool)
    inside = table.path.map(lambda path: (file.parent / path).resolve().is_relative_to(raw.resolve())).astype(bool)
    mistakes = [
        ("no label", table.path[table.label == ""]),
        ("no path", pd.Series([f"row {row + 2}" for row in table.index[table.path == ""]], dtype=str)),
        ("a duplicate path", table.path[(table.path != "") & table.path.duplicated()]),
        (f"a file outside of {raw}, which DVC would not see change", table.path[(table.path != "") & there & ~inside]),
        ("no such file", table.path[(table.path != "") & ~there]),
        ("a split that is none of train, val, test or empty", (table.path + " " + table.split)[~table.split.isin(SPLITS)]),
    ]
    found = [f"  {what}, {len(rows)}: {_first(rows)}" for what, rows in mistakes if len(rows)]
    if found or table.empty:
        raise UserError(f"raw: {file} has errors:\n" + "\n".join(found or ["  no rows"]))
    examples = [
        Example(path, label, group, split, (file.parent / path).read_bytes)
        for path, label, group, split in table.itertuples(index=False)
    ]
    return sorted(examples, key=lambda example: example.key)


def _file(raw: Path) -> Path:
    files = sorted(raw.glob("*.csv"))
    if len(files) != 1:
        found = _first(path.name for path in files) or "none"
        raise UserError(f"raw: {raw} must be a folder with exactly one .csv file; found: {found}.")
    return files[0]


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
