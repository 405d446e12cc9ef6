"""Sentiment Labelled Sentences: 3,000 sentences of Amazon, IMDb and Yelp reviews (Kotzias et al., From Group to Individual Labels
using Deep Features, KDD 2015; UCI Machine Learning Repository, CC BY 4.0)."""

from functools import partial
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
    files = sorted(raw.rglob(f"*{ENDING}")) if raw.is_dir() else []
    if not files:
        raise UserError(f"raw: {raw} (seen from {Path.cwd()}) must be a folder with files called *{ENDING}; it has none.")
    examples, wrong = [], []
    for file in files:
        # Not splitlines: some sentences contain other line separators.
        lines = file.read_bytes().decode("utf-8", "replace").split("\n")
        for number, line in enumerate(lines, 1):
            sentence, _, label = line.strip().rpartition("\t")
            if label in LABELS and sentence:
                name = f"{file.name.removesuffix(ENDING)}-{number:04}"
                examples.append(Example(name, LABELS[label], "", "", partial(sentence.encode)))
            elif line.strip():
                wrong.append(f"{file.name}, line {number}")
    if wrong:
        raise UserError(f"raw: {len(wrong)} lines do not end in a tab and 0 or 1: {', '.join(wrong[:10])}.")
    return sorted(examples, key=lambda example: example.key)
