"""Predict new inputs with a trained model: python -m stages predict FILE... [--model FOLDER] [--csv FILE]

A folder stands for all files in it. The predictions are those of the served model (stages.lib.tracking.serving).
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from stages.lib.core import cards, plugins, runs
from stages.lib.errors import UserError


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages predict", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("files", nargs="+", type=Path, help="files to predict, or folders of them", metavar="FILE")
    parser.add_argument("--model", type=Path, help="folder of a model; default: the one that the comparison ships")
    parser.add_argument("--csv", type=Path, help="write the table to this file, with all digits")
    asked = parser.parse_args(words)
    model = asked.model or shipped()
    if not (model / "card.json").exists():
        raise UserError(
            f"{model} is not a trained model (it has no card.json). Allowed: a folder like models/target/<init>-<seed>."
        )
    card = cards.read_model_card(model)
    served = plugins.load("modalities", card.modality, "served")
    plugins.load("tasks", card.trained_for)  # a source cannot predict: fail before any file is read
    paths = list(files(asked.files))
    readable: list[Path] = []
    broken: dict[Path, Exception] = {}
    for path in paths:
        try:
            served.receive(path.read_bytes())
            readable.append(path)
        except Exception as error:  # damaged files raise almost any exception
            broken[path] = error
    for path, reason in broken.items():
        print(f"{path}: cannot be read as {served.COLUMN} ({reason})", file=sys.stderr)
    if readable:
        table = answer(model, readable, served.COLUMN)
        print(shown(table).to_string(index=False))
        if asked.csv:
            asked.csv.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(asked.csv, index=False)
    if broken:
        raise UserError(f"{len(broken)} of {len(paths)} files could not be read.")


def shipped() -> Path:
    """The model that the comparison chose."""
    if not runs.COMPARISON.exists():
        raise UserError(
            f"{runs.COMPARISON} is not here ({Path.cwd()}). Run `dvc repro` in the root of the repository, or name a --model."
        )
    return runs.target_model(cards.read_json(runs.COMPARISON)["ship"])


def files(paths: list[Path]) -> Iterator[Path]:
    """The paths, with folders replaced by the files in them, in order."""
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist.")
        found = sorted(inner for inner in path.rglob("*") if inner.is_file()) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path} holds no files.")
        yield from found


def answer(model: Path, paths: list[Path], column: str) -> pd.DataFrame:
    """One row per file: its path and the served model's prediction."""
    from stages.lib.tracking.serving import Served  # imports torch and mlflow: only once the arguments are valid

    served = Served()
    served.load_context(SimpleNamespace(artifacts={"model": model}))
    answers = served.predict(None, pd.DataFrame({column: [path.read_bytes() for path in paths]}))
    answers.insert(0, column, [str(path) for path in paths])
    return answers


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed: probabilities in percent."""
    table = table.copy()
    for column in table.columns:
        if column == "probability" or column.startswith("p_"):
            table[column] = (100 * table[column]).map("{:.1f} %".format)
    return table
