"""Compare ways to train the target, paired, and run the usual ones: python -m stages strategies [EXPERIMENT ...] [--run [NAMES]]

    python -m stages strategies                      all states of this target in MLflow
    python -m stages strategies full knn             DVC experiments, commits or MLflow runs
    python -m stages strategies --run                the usual strategies, one experiment each, and then these

Answers which strategy suits the data: ranks by validation, and shows the test beside it with paired intervals against the best,
corrected for their number. Writes metrics/strategies (a page, a table, a picture, the numbers), and one run in MLflow for each
set of states that is compared, which the description of the experiment names. `--run` leaves the workspace as it is: each
strategy is an experiment `strategy-NAME` in a temporary clone, with the same data, seeds and options, and its own block of
params.yaml.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.lib.core import plugins, runs
from stages.lib.errors import UserError
from stages.lib.params import read as params
from stages.lib.states import collect, page, words
from stages.lib.states.compared import Compared, compared
from stages.lib.states.plot import draw
from stages.lib.tracking import answers, store

OUT = runs.METRICS / "strategies"
USUAL = ("knn", "linear_probe", "feature_extraction", "partial", "full")  # from the fastest to the slowest


def main(given: list[str]) -> None:
    asked = arguments(given)
    p = params.load("target", "strategies", "datasets", "compare")
    names, failed = list(asked.experiments), list[str]()
    if asked.run is not None:
        for strategy in chosen(asked.run, p.strategies, p.target.task):
            name = f"strategy-{strategy}"
            changes = [f"strategy={strategy}"]
            if asked.epochs is not None and "epochs" in p.strategies[strategy].model_fields_set:
                changes.append(f"strategies.{strategy}.epochs={asked.epochs}")
            beside = own_data([block.raw for block in p.datasets.values()])
            (names if succeeds(name, changes, beside) else failed).append(name)
    error = f"error: {', '.join(failed)} could not be run, see above."
    if failed and not names:
        sys.exit(error)
    with tempfile.TemporaryDirectory() as folder:
        try:
            states, others = (collect.named(names, Path(folder)), []) if names else collect.recorded(params.read(), Path(folder))
        except Exception as away:
            if isinstance(away, UserError) or not store.expected(away):
                raise
            raise store.unread(away) from None
        for line in others:
            print(f"Left out: {line}.")
        found = compared(states, p.compare)
    files = write(found, p.compare.confidence)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    told, kept_in_mind = words.answer(found), words.notes(found, p.compare.confidence)
    print("", words.aligned(words.table(found), width), "", *told, "", *kept_in_mind, sep="\n")
    for line in found.same:
        print(f"Left out: {line}.")
    print(f"Page: {OUT}/strategies.html (also .md, .png, .csv). `dvc exp apply NAME` takes an experiment into the workspace.")
    note = words.markdown(found, p.compare.confidence)
    name = f"{found.ways[0].label}: the best of {len(found.ways)} strategies for {found.data}"
    address = answers.record(found.key, name=name, data=found.data, answer=" ".join(told), note=note, files=files)
    if address:
        print(f"MLflow: {address}")
    if failed:
        sys.exit(error)


def arguments(given: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m stages strategies", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT",
                        help="DVC experiments, commits, or beginnings of MLflow runs' ids; default: all in MLflow")  # fmt: skip
    parser.add_argument("--run", nargs="?", const="", metavar="NAMES",
                        help=f"first run these, with commas between them; default: {', '.join(USUAL)}")  # fmt: skip
    parser.add_argument("--epochs", type=int, help="with --run: as many for each strategy that has epochs, instead of its own")
    return parser.parse_args(given)


def chosen(asked: str, blocks: Mapping[str, Any], task: str) -> list[str]:
    """The strategies to run: those asked for, with commas between them; if it is none, the usual ones that have a block in
    params.yaml and are for the task."""
    if asked:
        for name in asked.split(","):
            params.block(blocks, "strategies", name)
        return asked.split(",")
    heads = plugins.load("tasks", task).HEADS
    fits = []
    for name in USUAL:
        plugin = plugins.load("strategies", name)
        if name in blocks and task in getattr(plugin, "TASKS", (task,)) and getattr(plugin, "HEAD", heads[0]) in heads:
            fits.append(name)
    return fits


def succeeds(name: str, changes: Sequence[str], beside: Sequence[str]) -> bool:
    """Run an experiment in a temporary clone; whether it succeeded.

    Args:
        changes: of params.yaml, as `dvc exp run -S` takes them.
        beside: paths that the clone has to be given.
    """
    line = ["dvc", "exp", "run", "--temp", "-n", name]
    line += [word for change in changes for word in ("-S", change)] + [word for path in beside for word in ("--copy-paths", path)]
    print(f"\n{shlex.join(line)}", flush=True)
    try:
        subprocess.run(["dvc", "exp", "remove", "-q", name], capture_output=True)  # of an earlier call; MLflow keeps its run
        return subprocess.run(line).returncode == 0
    except FileNotFoundError:
        raise UserError("dvc was not found. Activate the virtual environment first.") from None


def own_data(raw: Sequence[str]) -> list[str]:
    """Data in the repository that neither git nor DVC tracks: a temporary clone has to be given them."""
    found = []
    for path in dict.fromkeys(raw):
        own = Path(path)
        if own.is_absolute() or own.parent == runs.raw("") or not own.exists() or own.with_name(f"{own.name}.dvc").exists():
            continue
        if not subprocess.run(["git", "ls-files", path], capture_output=True).stdout:
            found.append(path)
    return found


def write(found: Compared, confidence: float) -> list[Path]:
    """Write the page, the table, the picture and the numbers; the files."""
    OUT.mkdir(parents=True, exist_ok=True)
    files = [OUT / f"strategies.{ending}" for ending in ("html", "md", "png", "csv")]
    files[0].write_text(page.write(found, confidence), encoding="utf-8")
    files[1].write_text(words.markdown(found, confidence), encoding="utf-8")
    draw(files[2], found, confidence)
    rows = []
    for way in found.ways:
        against = way.against.model_dump() if way.against else {}
        rows.append({"label": way.label, "experiment": way.name, "strategy": way.strategy, f"val_{found.primary}": way.val,
                     **{f"test_{found.name}{'' if key == 'value' else f'_{key}'}": value for key, value in way.test.items()},
                     **{key: against.get(key) for key in ("difference", "lower", "upper", "p", "p_holm")},
                     "verdict": words.word(way.against) if way.against else "", "epochs": way.epochs,
                     "seconds": way.seconds})  # fmt: skip
    pd.DataFrame(rows).round(6).to_csv(files[3], index=False)
    return files
