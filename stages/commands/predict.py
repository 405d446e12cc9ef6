"""Classify images with a trained model: python -m stages.commands.predict IMAGE... [--model FOLDER] [--csv FILE]

A folder stands for all files in it. The answers are those of the served model (stages.lib.serving).
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
from PIL import Image
from stages.lib.command import in_words

from stages.lib import artifacts
from stages.lib.errors import UserError

COMPARE = Path("metrics/compare.json")


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages.commands.predict", description=__doc__.partition(":")[0])
    parser.add_argument("images", nargs="+", type=Path, help="image files, or folders of them", metavar="IMAGE")
    parser.add_argument("--model", type=Path, help="folder of a model; default: the one that the comparison ships")
    parser.add_argument("--csv", type=Path, help="write the table to this file, with all digits")
    asked = parser.parse_args(words)
    model = asked.model or shipped()
    if not (model / "card.json").exists():
        raise UserError(f"{model} is no trained model (it has no card.json). Allowed: a folder like models/target/<init>-<seed>.")
    paths = list(files(asked.images))
    readable, broken = [], {}
    for path in paths:
        try:
            with Image.open(path) as image:
                image.load()
            readable.append(path)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            broken[path] = error
    for path, error in broken.items():
        print(f"{path}: not an image that can be read ({error})", file=sys.stderr)
    if readable:
        table = classify(model, readable)
        shown = table.copy()
        for column in table.columns[2:]:
            shown[column] = (100 * table[column]).map("{:.1f} %".format)
        print(shown.to_string(index=False))
        if asked.csv:
            asked.csv.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(asked.csv, index=False)
    if broken:
        raise UserError(f"{len(broken)} of {len(paths)} files could not be read.")


def shipped() -> Path:
    """The model that the comparison chose."""
    if not COMPARE.exists():
        raise UserError(
            f"{COMPARE} is not here ({Path.cwd()}). Run `dvc repro` in the root of the repository, or name a --model."
        )
    return Path("models/target") / artifacts.read_json(COMPARE)["ship"]


def files(paths: list[Path]) -> Iterator[Path]:
    """The paths, with folders replaced by the files in them, in order."""
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist.")
        found = sorted(inner for inner in path.rglob("*") if inner.is_file()) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path} holds no files.")
        yield from found


def classify(model: Path, paths: list[Path]) -> pd.DataFrame:
    """A row for each image: image, label, probability, p_<class>."""
    from stages.lib.serving import Classifier  # imports torch and mlflow: after the words were found right

    classifier = Classifier()
    classifier.load_context(SimpleNamespace(artifacts={"model": model}))
    answers = classifier.predict(None, pd.DataFrame({"image": [path.read_bytes() for path in paths]}))
    answers.insert(0, "image", [str(path) for path in paths])
    return answers


if __name__ == "__main__":
    with in_words():
        main(sys.argv[1:])
