"""Sentiment Labelled Sentences: 3,000 sentences of Amazon, IMDb and Yelp reviews (Kotzias et al., From Group to Individual Labels
using Deep Features, KDD 2015; UCI Machine Learning Repository, CC BY 4.0)."""

from functools import partial
from itertools import combinations
from pathlib import Path

from stages.lib.core.contracts import Example
from stages.lib.errors import UserError
from stages.lib.params.fields import Strict

ENDING = "_labelled.txt"
LABELS = {"0": "negative", "1": "positive"}


class Params(Strict):
    """None: all sentences are read."""


def read(raw: Path) -> list[Example]:
    """List the sentences; each line of a file is a sentence, a tab, and 0 or 1.

    Args:
        raw: the folder that contains amazon_cells_labelled.txt, imdb_labelled.txt and yelp_labelled.txt, at any depth.

    Raises:
        UserError: there are no such files, or a line is not as expected.
    """
    files = sorted(file for file in raw.rglob(f"*{ENDING}") if not file.name.startswith(".")) if raw.is_dir() else []
    if not files:
        raise UserError(f"raw: {raw} (seen from {Path.cwd()}) must be a folder with files called *{ENDING}; it has none.")
    twice = sorted({one.name for one, other in combinations(files, 2) if one.name == other.name})
    if twice:
        raise UserError(f"raw: {raw} has more than one {', '.join(twice)}; leave one of each.")
    examples, wrong = [], []
    for file in files:
        for number, line in enumerate(_text(file).split("\n"), 1):  # not splitlines: some sentences hold other separators
            sentence, _, label = line.strip().rpartition("\t")
            if label in LABELS and sentence:
                name = f"{file.name.removesuffix(ENDING)}-{number:04}"
                examples.append(Example(name, LABELS[label], "", "", partial(sentence.encode)))
            elif line.strip():
                wrong.append(f"{file.name}, line {number}")
    if wrong:
        more = f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise UserError(f"raw: {len(wrong)} lines do not end in a tab and 0 or 1: {'; '.join(wrong[:10])}{more}.")
    return sorted(examples, key=lambda example: example.key)


def _text(file: Path) -> str:
    content = file.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"raw: {file} is not UTF-8 (line {line}). Convert it from the encoding that it was saved in, for example: "
            "iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW_FILE"
        ) from None
