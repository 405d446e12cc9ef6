"""Your own table, a .csv or .tsv file: of files (images, recordings, texts) and their answers, or of texts themselves.

| columns     | an example is                           | its answer      |
| ---         | ---                                     | ---             |
| path, label | a file, by its path                     | a class or tags |
| path, text  | a recording, by its path                | its transcript  |
| text, label | the text, exactly as the table holds it | a class or tags |

`group` and `split` may be there too; other columns are ignored. A table with path, text and label is refused, because it does not
say which of the two is the answer. The first line names the columns, and the file is UTF-8. A .csv file has commas between its
cells, which may be quoted (RFC 4180). A .tsv file has tabs, and its quotes are ordinary characters (IANA,
text/tab-separated-values): otherwise a single quote at the beginning of a text would swallow the rows below it.
"""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from stages.lib.core.contracts import Example
from stages.lib.errors import UserError
from stages.lib.params.fields import Strict

COLUMNS, OPTIONAL = ["path", "text", "label"], ["group", "split"]
SPLITS = ["train", "val", "test", ""]
BETWEEN = {".csv": ",", ".tsv": "\t"}  # the cells, by the file's ending
NEEDED = (
    "path and label (a file in each row), path and text (a recording and its transcript), or text and label (the text itself); "
    "group and split may be there too"
)
QUOTES = 'A cell with a comma, a line break or quotes must be quoted, with each quote in it doubled: "She said ""no"", twice".'
NO_QUOTES = "A cell of a .tsv file holds no tab and no line break; a table of such texts must be a .csv file."
LINE_END = r"\r\n?|\n"


class Params(Strict):
    """None: the table contains everything."""


class Row(NamedTuple):
    number: int  # as a spreadsheet counts: the header is row 1
    content: str  # the path, or the text itself
    answer: str
    group: str
    split: str


def read(raw: Path) -> list[Example]:
    """List the rows.

    Args:
        raw: a folder that contains exactly one .csv or .tsv file and, at any depth, the files in the table; paths are relative to
            this folder. This way DVC sees every file: replacing one makes the preparation run again. A table of texts may also
            be given itself.

    Returns:
        Examples whose keys are their paths; or, of texts, the numbers of their rows. Texts are given as UTF-8.

    Raises:
        UserError: the file is no table in UTF-8; or lists every mistake in the table.
    """
    file = _file(raw)
    content, answer, rows = _rows(file)
    of_files = content == "path"
    if of_files and raw.is_file():
        raise UserError(f"raw: {raw} lists files, which DVC would not see change. Give their folder: {raw.parent}")

    def name(row: Row) -> str:
        return row.content if of_files and row.content else f"row {row.number}"

    no_split = [row for row in rows if row.split not in SPLITS]
    mistakes = [
        (f"no {answer}", [name(row) for row in rows if not row.answer]),
        (f"no {content}", [f"row {row.number}" for row in rows if not row.content.strip()]),
        *(_of_paths([row.content for row in rows if row.content], file.parent, raw) if of_files else []),
        ("a split that is none of train, val, test or empty", [f"{name(row)} {row.split}" for row in no_split]),
    ]
    found = [f"  {what}, {len(names)}: {_first(names)}" for what, names in mistakes if names]
    if found or not rows:
        raise UserError(f"raw: {file} has errors:\n" + "\n".join(found or ["  no rows"]))
    if of_files:
        examples = [Example(*row[1:], (file.parent / row.content).read_bytes) for row in rows]
    else:  # so many digits that rows added at the end change no key
        examples = [Example(f"{row.number:07}", *row[2:], row.content.encode) for row in rows]
    return sorted(examples, key=lambda example: example.key)


def _file(raw: Path) -> Path:
    if raw.is_file() and raw.suffix.lower() in BETWEEN:
        return raw
    files = [path for path in sorted(raw.glob("[!.]*")) if path.suffix.lower() in BETWEEN and path.is_file()]
    if len(files) != 1:
        raise UserError(
            f"raw: {raw} must be a folder with exactly one .csv file; found: {_first(path.name for path in files) or 'none'}. "
            "(It may also be a .tsv file, and a table of texts may be given without a folder.)"
        )
    return files[0]


def _of_paths(paths: list[str], folder: Path, raw: Path) -> list[tuple[str, list[str]]]:
    """Mistakes in the paths of a table that lies in `folder`."""
    there = {path for path in paths if os.path.isfile(folder / path)}  # noqa: PTH113 (Path.is_file fails on a very long name)
    outside = [path for path in paths if path in there and not (folder / path).resolve().is_relative_to(raw.resolve())]
    return [
        ("a duplicate path", [path for path, times in Counter(paths).items() if times > 1]),
        (f"a file outside of {raw}, which DVC would not see change", outside),
        ("no such file", [path for path in paths if path not in there]),
    ]


def _rows(file: Path) -> tuple[str, str, list[Row]]:
    """The names of the columns with the content and with the answer, and the rows."""
    (_, header), *records = _records(file)
    names = [name.strip() for name in header]
    content, answer = _roles(file, names)
    wrong = [(number, cells) for number, cells in records if len(cells) < len(names) or any(cells[len(names) :])]
    if wrong:
        told = _first(f"row {number} has {len(cells)}" for number, cells in wrong)
        raise UserError(
            f"raw: {file} cannot be read as a table: its header has {len(names)} cells, but {told}. "
            + (NO_QUOTES if file.suffix.lower() == ".tsv" else QUOTES)
        )
    places = [names.index(name) if name in names else None for name in (content, answer, *OPTIONAL)]
    rows = []
    for number, cells in records:
        text, *others = ["" if place is None else cells[place] for place in places]
        said, *names_of = map(str.strip, others)
        said = said if answer == "text" else normalize("NFC", said)  # "é" may be one character, or an e and an accent
        rows.append(
            Row(number, text.strip() if content == "path" else text, said, *(normalize("NFC", name) for name in names_of))
        )
    return content, answer, rows


def _roles(file: Path, names: list[str]) -> tuple[str, str]:
    """The columns with the content and with the answer."""
    there = [name for name in COLUMNS if name in names]
    if len(there) == 3:
        raise UserError(
            f"raw: {file} has the columns path, text and label: is text or label the answer? Rename or remove the other one "
            "(columns of other names are ignored)."
        )
    if len(there) < 2:
        missing = ["path"] * ({"path", "text"}.isdisjoint(there)) + ["label"] * ("label" not in there)
        between = "tabs" if file.suffix.lower() == ".tsv" else "commas"
        raise UserError(
            f"raw: {file} has no column {' and no column '.join(missing)}; its columns are {_first(n[:40] for n in names)}. "
            f"The first line must name the columns, with {between} between them. Needed: {NEEDED}."
        )
    twice = [name for name in [*there, *OPTIONAL] if names.count(name) > 1]
    if twice:
        raise UserError(f"raw: {file} has more than one column {twice[0]}.")
    return there[0], there[1]


def _records(file: Path) -> list[tuple[int, list[str]]]:
    """The number and the cells of each row that is not empty, exactly as the table holds them."""
    text = _text(file)
    plain = file.suffix.lower() == ".tsv"
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=BETWEEN[file.suffix.lower()],
        quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL,
        strict=True,
    )
    before = csv.field_size_limit(len(text) + 1)  # or a long text would be an error
    end, records = 0, []
    try:
        for number, cells in enumerate(reader, 1):
            end = reader.line_num
            if any(map(str.strip, cells)):
                records.append((number, cells))
    except csv.Error as error:
        raise UserError(
            f"raw: {file} cannot be read as a table: the quotes in the row that begins in line {end + 1} do not match (line "
            f"{reader.line_num}: {error}). {QUOTES}"
        ) from None
    finally:
        csv.field_size_limit(before)
    if not records:
        raise UserError(f"raw: {file} cannot be read as a table: it is empty. Needed: a first line with the columns {NEEDED}.")
    quoted = sum(any(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells) for _, cells in records)
    if plain and quoted:
        print(f"{file}: {quoted} rows have a cell in quotes; in a .tsv file these are a part of the cell")
    return records


def _text(file: Path) -> str:
    data = file.read_bytes()
    try:
        text = data.decode("utf-8-sig")
        bad = data.find(0)
    except UnicodeDecodeError as error:
        text, bad = "", len(data) - len(error.object) + error.start  # error.object lacks the byte order mark
    if bad >= 0:
        raise UserError(f"raw: {file} cannot be read as a table: {_not_utf8(file, data, bad)}")
    return text


def _not_utf8(file: Path, data: bytes, bad: int) -> str:
    """What the encoding looks like and how to convert it; `bad` is the position of the first wrong byte."""
    line = len(re.findall(LINE_END.encode(), data[:bad])) + 1
    convert = "import pathlib, sys; f = pathlib.Path(sys.argv[1]); f.write_bytes(f.read_bytes().decode('{}').encode())"
    command = f'python -c "{convert}" "{file}"'
    if wide := _wide(data):
        return f"it is not UTF-8 from line 1 on, but looks like {wide}. This converts it: {command.format(wide)}"
    if data[bad] == 0:
        return f"line {line} holds a NUL byte, so the file is damaged or no text."
    lenient = data.decode("utf-8", "surrogateescape")  # wrong bytes become U+DC80 to U+DCFF
    wrong = len(re.findall("[\udc80-\udcff]", lenient))
    if len(re.findall("[^\0-\x7f]", lenient)) > 2 * wrong:
        lines = [number for number, part in enumerate(re.split(LINE_END, lenient), 1) if re.search("[\udc80-\udcff]", part)]
        return (
            f"it is UTF-8, but not in {len(lines)} of its lines: {_first(map(str, lines))}. They are damaged, or come from a "
            "file in another encoding. Repair or remove them."
        )
    western = 4 * sum(byte > 127 for byte in data) < len(re.findall(rb"[A-Za-z]", data))
    if not western or "\ufffd" in (text := data.decode("cp1252", "replace")):
        return (
            f"it is not UTF-8 from line {line} on. This converts it, with the name of its encoding in place of ENCODING "
            f"(Cyrillic is often cp1251, Chinese gb18030, Japanese cp932): {command.format('ENCODING')}"
        )
    before, after = text[max(0, bad - 30) : bad], text[bad : bad + 30]  # each byte is one character
    shown = re.split(LINE_END, before)[-1] + re.split(LINE_END, after)[0]
    return (
        f"it is not UTF-8 from line {line} on, but looks like cp1252 (Latin-1, Windows), as which that line holds {shown!r}. "
        f"This converts it, if the letters are right (else try cp1250 or mac_roman instead): {command.format('cp1252')}"
    )


def _wide(data: bytes) -> str:
    """UTF-32 or UTF-16, if the data begin with its mark, or look like it: every second byte of Latin letters is 0."""
    marks = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    for mark, name in marks.items():
        if data.startswith(mark):
            return name
    big, little = data[0::2].count(0), data[1::2].count(0)
    if 4 * max(big, little) < len(data) or 8 * min(big, little) > max(big, little):
        return ""
    return "utf-16-le" if little > big else "utf-16-be"


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
