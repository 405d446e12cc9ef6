"""Tagged texts in CoNLL's format: a word and its tag on each line, and an empty line between sentences."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stages.lib.core.contracts import Example
from stages.lib.errors import UserError
from stages.lib.params.fields import Strict
from stages.lib.readers._folders import files

ENDINGS = (".tsv", ".txt", ".conll", ".iob2", ".iob", ".bio")
ABOUT = ("readme", "license", "licence", "citation")  # files that are about the data
SPLITS = {"train": "train", "training": "train", "dev": "val", "devel": "val", "development": "val", "val": "val",
          "valid": "val", "validation": "val", "test": "test", "testing": "test"}  # fmt: skip
TAG = re.compile(r"O|[BI]-\S+")
MOST = 10  # lines that an error names

# Mistakes in a line, and what to do about them.
BROKEN = "an I- tag that continues no entity of its type"
UNKNOWN = "a tag that is none of O, B-<type> and I-<type>"
COLUMNS = "no word and tag, with a tab or spaces between them"
ENCODING = "a file that is not UTF-8"
REMEDIES = {
    BROKEN: "In IOB2 every entity begins with B-. If hardly any does here, the tags are IOB1: convert them.",
    UNKNOWN: "Convert IOBES (S- to B-, E- to I-) and BILOU (U- to B-, L- to I-); a word has exactly one tag.",
    COLUMNS: "The first column is the word and the last one its tag. Delete lines that are something else.",
    ENCODING: "Convert it from the encoding that it was saved in, for example: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW_FILE",
}


class Params(Strict):
    """None: the files contain everything."""


class Sentence(NamedTuple):
    """The words of one sentence and their tags."""

    words: list[str]
    tags: list[str]
    document: int  # number of -DOCSTART- lines before it


def read(raw: Path) -> list[Example]:
    """List the sentences.

    Splits are given if the names of the files (or of their folders) say so: train.tsv, devel.tsv and test.tsv. A file that is
    alone is split by prepare. Groups are the documents, if lines with -DOCSTART- begin them, or if each is a file of its own.

    A word that has white space in it (a no-break space) becomes several words of one entity, because a text's words are what is
    between white space, here and in every text that the model will be given.

    Args:
        raw: a file, or a folder or archive with files that end in .tsv, .txt, .conll, .iob2, .iob or .bio.

    Raises:
        UserError: lists every mistake in the files with its line.
    """
    files = _files(raw)
    splits = _splits(raw, list(files))
    examples, wrong = [], []
    for path, content in files.items():
        sentences, mistakes = _parsed(content)
        wrong += [(kind, f"{path}:{line} {text}") for kind, line, text in mistakes]
        documents = any(sentence.document for sentence in sentences)
        for number, sentence in enumerate(sentences, 1):
            group = f"{path}#{sentence.document}" if documents else str(path) if len(files) > 1 and not splits[path] else ""
            label, text = " ".join(sentence.tags), " ".join(sentence.words)
            examples.append(Example(f"{path}:{number:06}", label, group, splits[path], text.encode))
    if wrong:
        raise UserError(f"raw: {raw} has errors:\n" + "\n".join(_listed(wrong)))
    if not examples:
        raise UserError(f"raw: {raw} has no sentences: its files are empty.")
    return sorted(examples, key=lambda example: example.key)


def _files(raw: Path) -> dict[PurePosixPath, bytes]:
    """The content of each file of tagged texts."""
    if raw.is_file() and raw.suffix.lower() in ENDINGS:
        return {PurePosixPath(raw.name): raw.read_bytes()}
    visible = files.find(raw, ENDINGS, "").files
    found = {path: open for path, open in visible.items() if path.suffix.lower() in ENDINGS and path.stem.lower() not in ABOUT}
    if not found:
        raise UserError(f"raw: {raw} holds no file that ends in {', '.join(ENDINGS)}.")
    others = sorted(map(str, visible.keys() - found.keys()))
    if others:
        print(f"{raw}: skipping files that are not tagged texts by their names: {', '.join(others)}")
    return {path: found[path]() for path in sorted(found)}


def _splits(raw: Path, paths: list[PurePosixPath]) -> dict[PurePosixPath, str]:
    """The split that each file's name (or else its folder's) says; "" for all if none does, and for a file that is alone."""
    named = {path: _named(path) for path in paths}
    if len(paths) == 1 or not any(named.values()):
        return dict.fromkeys(paths, "")
    unclear = [str(path) for path in paths if len(named[path]) != 1]
    if unclear:
        raise UserError(
            f"raw: {raw} has files whose names do not say whether they are for training, validation or test: "
            f"{', '.join(unclear[:MOST])}. Put exactly one of {', '.join(SPLITS)} into the name of each file, or of its folder."
        )
    return {path: split for path in paths for split in named[path]}


def _named(path: PurePosixPath) -> set[str]:
    """The splits in a file's name; if there is none, those in the name of the nearest folder that has any."""
    for part in reversed(path.with_suffix("").parts):
        if named := {SPLITS[word] for word in re.split("[^a-z]+", part.lower()) if word in SPLITS}:
            return named
    return set()


def _parsed(content: bytes) -> tuple[list[Sentence], list[tuple[str, int, str]]]:
    """The sentences of a file, and its mistakes: what, in which line, and the text that is wrong."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return [], [(ENCODING, content[: error.start].count(b"\n") + 1, f"byte 0x{content[error.start]:02x}")]
    sentences, mistakes = [], []
    words: list[str] = []
    tags: list[str] = []
    before, document = "O", 0
    for number, line in enumerate([*re.split("\r\n|\r|\n", text), ""], 1):  # splitlines would split at U+2028 as well
        columns = _columns(line)
        if not columns or columns[0] == "-DOCSTART-":
            if words:
                sentences.append(Sentence(words, tags, document))
            words, tags, before = [], [], "O"
            document += bool(columns)
            continue
        word, tag = columns[0].replace("\ufeff", "").split(), columns[-1]  # a byte order mark is no word
        if len(columns) < 2 or not word:
            mistakes.append((COLUMNS, number, line.strip()))
            continue
        if not TAG.fullmatch(tag):
            mistakes.append((UNKNOWN, number, tag))
        elif tag.startswith("I-") and before[2:] != tag[2:]:
            mistakes.append((BROKEN, number, tag))
        words += word
        tags += [tag, *(["O" if tag == "O" else f"I-{tag[2:]}"] * (len(word) - 1))]
        before = tag
    return sentences, mistakes


def _columns(line: str) -> list[str]:
    """The columns of a line; none if it is empty. Between them are tabs, or spaces if there is no tab."""
    if not line.strip():
        return []
    return line.rstrip(" \t").split("\t") if "\t" in line else re.split(" +", line.strip(" "))


def _listed(wrong: list[tuple[str, str]]) -> Iterator[str]:
    """The mistakes by kind: the first of them, and what to do."""
    for kind, count in Counter(kind for kind, _ in wrong).items():
        places = [place for each, place in wrong if each == kind]
        yield f"  {kind}, {count}: {', '.join(places[:MOST])}{' ...' if count > MOST else ''}\n    {REMEDIES[kind]}"
