"""Predict new inputs with a trained model: python -m stages predict FILE... [--model FOLDER] [--gallery FOLDER] [--csv FILE]

A folder stands for all files in it. For a model of texts, a sentence in quotes may stand in place of a file. The predictions are
those of the served model (stages.lib.tracking.serving). For a model of embeddings, a gallery holds a folder of files for each
known person, and the answer is who of them it is, or nobody; for few shots it is the support set, a folder for each class.
"""

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd

from stages.lib.calibration import record
from stages.lib.calibration.record import ANSWER, UNLIKE
from stages.lib.core import cards, licences, plugins, runs
from stages.lib.errors import UserError

MOST = 5  # names of a prediction set that are printed


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages predict", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("files", nargs="+", help="files to predict, or folders of them (or texts)", metavar="FILE")
    parser.add_argument("--model", type=Path, help="folder of a model; default: the one that the comparison ships")
    parser.add_argument(
        "--gallery", type=Path, help="for embeddings: a folder with a folder of files for each known person (or class)"
    )
    parser.add_argument("--csv", type=Path, help="write the table to this file, with all digits")
    asked = parser.parse_args(words)
    model = asked.model or shipped()
    if not (model / "card.json").exists():
        raise UserError(
            f"{model} is not a trained model (it has no card.json). Allowed: a folder like models/target/<init>-<seed>."
        )
    card = cards.read_model_card(model)
    served = plugins.load("modalities", card.modality, "served")
    require_answers(card)  # before any file is read
    known = gallery(card, asked.gallery) if asked.gallery else {}
    cells = dict(given(asked.files, getattr(served, "TEXT", False)))
    people, broken_people = readable_of(card, served, known)
    readable, broken = readable_of(card, served, cells)
    if known and not people:
        raise UserError(f"{asked.gallery} holds no file that can be read as {served.COLUMN}.")
    if readable:
        table = answer(model, readable, served.COLUMN)
        table = among(table, answer(model, people, served.COLUMN), card, served.COLUMN, asked.gallery) if people else table
        print(shown(table).to_string(index=False))
        if UNLIKE in table:
            print(f"{UNLIKE}: distance to the training {plugins.load('modalities', card.modality).NOUN}s; above 1 the answer is "
                  "no more than a guess", file=sys.stderr)  # fmt: skip
        print(f"licences of this model: {licences.use(card.licences)}", file=sys.stderr)
        if asked.csv:
            asked.csv.parent.mkdir(parents=True, exist_ok=True)
            written(table).to_csv(asked.csv, index=False)
    if broken or broken_people:
        raise UserError(f"{broken + broken_people} of {len(cells) + len(known)} files could not be read.")


def readable_of(card: cards.ModelCard, served: ModuleType, cells: dict[str, bytes | str]) -> tuple[dict[str, bytes | str], int]:
    """Those that can be read, and how many cannot, each of which is named. What people should know of the others is said too."""
    inputs, noun = plugins.load("modalities", card.modality, "inputs"), plugins.load("modalities", card.modality).NOUN
    readable, amounts = {}, defaultdict(list)
    for name, cell in cells.items():
        try:
            remarks = inputs.remarks(served.receive(cell), card.how)
            readable[name] = cell
        except Exception as error:  # damaged files raise almost any exception
            reason = re.sub(r" <.*?>", "", str(error))  # Pillow names the object in memory that it read from
            print(f"{name}: cannot be read as {served.COLUMN} ({reason})", file=sys.stderr)
            continue
        for remark, amount in remarks.items():
            amounts[remark].append(amount)
    for remark, found in sorted(amounts.items()):
        print(f"{len(found)} of {len(cells)} {noun}s {remark.format(sum(found))}", file=sys.stderr)
    return readable, len(cells) - len(readable)


def gallery(card: cards.ModelCard, folder: Path) -> dict[str, bytes | str]:
    """The files of known people, from a folder with a folder for each of them."""
    if not plugins.has("tasks", card.trained_for, "gallery"):
        raise UserError(f"--gallery: {card.name} was trained for the task {card.task}, which does not compare with known people.")
    if not folder.is_dir():
        raise UserError(f"--gallery: {folder} is no folder.")
    people = [path for path in sorted(folder.iterdir()) if path.is_dir() and any(path.rglob("*"))]
    if not people:
        raise UserError(
            f"--gallery: {folder} holds no folders with files. Make a folder with some pictures for each known person."
        )
    return dict(given([str(path) for path in people], False))


def among(table: pd.DataFrame, known: pd.DataFrame, card: cards.ModelCard, column: str, folder: Path) -> pd.DataFrame:
    """Who of the gallery each row shows: the answers of the task, in place of the embeddings."""
    from stages.lib.tracking.serving import identified

    labels = [Path(name).relative_to(folder).parts[0] for name in known[column]]
    answers = identified(card, known.drop(columns=column), labels, table.drop(columns=column))
    answers.insert(0, column, table[column])
    return answers


def require_answers(card: cards.ModelCard) -> None:
    """Raise a UserError for a source, and for a hop over a pretext task."""
    if getattr(plugins.load("tasks", card.trained_for), "PRETEXT", False):
        raise UserError(
            f"{card.name} was trained for {card.task}, which makes its own questions: it is a hop for others to start from, and "
            "answers nothing. Allowed: a model like models/target/<init>-<seed>."
        )


def shipped() -> Path:
    """The model that the comparison chose."""
    if not runs.COMPARISON.exists():
        raise UserError(
            f"{runs.COMPARISON} is not here ({Path.cwd()}). Run `dvc repro` in the root of the repository, or name a --model."
        )
    return runs.target_model(cards.read_json(runs.COMPARISON)["ship"])


def given(words: list[str], texts: bool) -> Iterator[tuple[str, bytes | str]]:
    """Each file by its path, with its content; a folder stands for the files in it, in order.

    Args:
        words: paths.
        texts: words with a space in them that are no paths are taken as texts.
    """
    for word in words:
        path = Path(word)
        if texts and " " in word and not (len(word) < 200 and path.exists()):  # longer names may be too long for the system
            yield word, word
            continue
        if not path.exists():
            raise UserError(f"{path} does not exist.")
        found = sorted(inner for inner in path.rglob("*") if inner.is_file()) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path} holds no files.")
        for file in found:
            yield str(file), file.read_bytes()


def answer(model: Path, cells: dict[str, bytes | str], column: str) -> pd.DataFrame:
    """One row per input: its path (or text) and the served model's prediction."""
    from stages.lib.tracking.serving import Served  # imports torch and mlflow: only once the arguments are valid

    beside = {path.name: path for path in record.files(model) or ()}
    served = Served()
    served.load_context(SimpleNamespace(artifacts={"model": model, **beside}))
    answers = served.predict(None, pd.DataFrame({column: list(cells.values())}))
    answers.insert(0, column, list(cells))
    return answers


def written(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it is saved: sets as text."""
    return table.assign(**{name: table[name].map(" | ".join) for name in table if isinstance(table[name].iloc[0], list)})


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed: probabilities in percent, sets as text, and if there is an answer no label beside it."""
    table = table.drop(columns="label") if ANSWER in table else table.copy()
    for column in table.columns:
        if isinstance(table[column].iloc[0], list):
            table[column] = [" | ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
                             for names in table[column]]  # fmt: skip
        elif column == UNLIKE:
            table[column] = table[column].map("{:.2f}".format)
        elif column in ("probability", "confidence") or column.startswith("p_"):
            table[column] = (100 * table[column]).map("{:.1f} %".format)
    return table
