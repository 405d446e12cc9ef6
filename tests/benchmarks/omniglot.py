"""Omniglot: the table of its background sets, and the one-shot classification of Lake et al., Science 2015, by a trained model.

python -m tests.benchmarks.omniglot table FOLDER        FOLDER has images_background_small*.zip; writes data/own/omniglot
python -m tests.benchmarks.omniglot runs FOLDER MODEL   FOLDER has all_runs.zip: 20 runs, each with one drawing of 20 new
                                                        characters, and 20 by someone else that have to be named
"""

import re
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

OWN = Path("data/own/omniglot")
DRAWING = re.compile(r"([^/]+)/([^/]+)/(character\d+)/[^/]+\.png$")


def table(folder: Path, out: Path = OWN) -> pd.DataFrame:
    """Unpack the background sets, and write the table of their drawings: a class is a character of an alphabet."""
    rows = []
    for archive in sorted(folder.glob("images_background_small*.zip")):
        with zipfile.ZipFile(archive) as opened:
            for name in sorted(opened.namelist()):
                if found := DRAWING.search(name):
                    opened.extract(name, out)
                    label = f"{found[2]}/{found[3]}"
                    rows.append({"path": name, "label": label, "group": label})
    drawings = pd.DataFrame(rows)
    drawings.to_csv(out / "table.csv", index=False)
    return drawings


def runs(archive: Path, model: Path) -> list[float]:
    """The accuracy of a model in each run, as it is served with a support set."""
    from stages.lib.tracking.serving import Served

    served = Served()
    served.load_context(SimpleNamespace(artifacts={"model": model}))
    accuracies = []
    with zipfile.ZipFile(archive) as opened:
        for answers in sorted(name for name in opened.namelist() if name.endswith("class_labels.txt")):
            folder = answers.rpartition("/")[0].rpartition("/")[0]
            pairs = [line.split() for line in opened.read(answers).decode().splitlines() if line.strip()]
            known = [right for _, right in pairs]
            cells = [opened.read(f"{folder}/{name}" if folder else name) for name in (*(asked for asked, _ in pairs), *known)]
            rows = pd.DataFrame({"image": cells, "label": [*[""] * len(pairs), *known]})
            accuracies.append(float((served.predict(None, rows).label.to_numpy() == known).mean()))
    return accuracies


if __name__ == "__main__":
    command, place, *rest = sys.argv[1:]
    if command == "table":
        found = table(Path(place))
        print(f"{len(found)} drawings of {found.label.nunique()} characters")
    else:
        accuracies = runs(Path(place) / "all_runs.zip", Path(rest[0]))
        deviation = pd.Series(accuracies).std(ddof=1)
        print(f"{len(accuracies)} runs: error {100 - 100 * sum(accuracies) / len(accuracies):.1f} % "
              f"(standard error {100 * deviation / len(accuracies) ** 0.5:.1f})")  # fmt: skip
