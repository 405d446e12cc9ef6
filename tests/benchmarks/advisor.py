"""The advisor, marked.

    python -m tests.benchmarks.advisor --datasets poly,mono,digits --examples 25,50,100,250,500 --seeds 0,1 --out FILE.csv

Trains every strategy on stratified parts of each dataset, as stages.commands.learning_curve does, and holds what
stages.lib.advice says of the same part before training against the accuracy on the test. Each result is a line of FILE.csv;
what is there already is not trained again, so the run can be stopped at any time. With --no-advice it measures only.

The rule itself is fitted to such a table (tests/benchmarks/advisor.csv): `--fit FILE.csv` trains nothing, prints the numbers that
stages/lib/advice.py should hold, and the marks that the rule gets on each dataset when it was fitted to the others.

Regret is the accuracy of the best strategy minus that of the chosen one. The best of many noisy figures is too high, and with
it every regret: compare them with each other. Needs the root of a repository in which `dvc repro` has run, and params.yaml.
"""

import argparse
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from stages.evaluate import predictions
from stages.lib import advice, artifacts, backbones, images, params, transfer
from stages.lib.device import launch
from stages.lib.errors import UserError
from stages.lib.examples import Examples
from stages.lib.few import few, train_on_few
from stages.lib.fit import features
from stages.lib.readers import image_folder
from stages.lib.seeds import seed_for
from stages.lib.transferability import probe_accuracy
from stages.prepare import prepare

CASE = ["dataset", "px", "examples", "seed"]
COLUMNS = [*CASE, "strategy", "classes", "probe", "accuracy", "val_accuracy", "seconds", "expected", "advised"]
FIXED = ["feature_extraction", "partial", "full"]  # what the advisor is compared with: always the same strategy
FOLDS = 5  # of the probe
SPLIT = {"val": 0.1, "test": 0.25, "seed": 0, "by_group": False}  # of digits and folders, as of the datasets of params.yaml


class Folder(image_folder.Knobs, params.Dataset):
    """A block of `datasets` for a folder with one folder for each class."""


class Data(NamedTuple):
    """A prepared dataset, and its frozen features."""

    folder: Path
    card: dict
    train: Examples
    val: Examples
    features: np.ndarray  # (N, D) of the training split


def main() -> None:
    asked = arguments()
    if asked.fit:
        results = pd.read_csv(asked.fit)
        print(pd.DataFrame(fit(results), index=advice.EXAMPLES).T.round(2), marks_left_out(results), sep="\n\n")
        return
    p = params.load("seed", "strategies", "training", "checks", "device", "datasets", "evaluate")
    fabric = launch(**p.device.model_dump() | {"devices": 1, "num_nodes": 1})
    tensors, start = artifacts.read_model(Path("models") / asked.source)
    strategies = asked.strategies or willing(fabric, p, tensors, start)
    for name in strategies:
        params.block(p.strategies, "strategies", name)
    ranked: dict[tuple, list[dict]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        blocks = {name: block_of(name, asked, p, Path(scratch)) for name in [*asked.datasets, *asked.folder]}
        for name, block in blocks.items():
            data = packed(name, block, fabric, tensors, start, Path(scratch) / "prepared" / name, p.training.batch_size)
            for num, seed in product(asked.examples, asked.seeds):
                case = (name, asked.px, num, seed)
                if len(data.card["classes"]) <= num <= len(data.train.labels):
                    ranked |= measure(case, data, fabric, p, tensors, start, strategies, asked)
                else:
                    print(f"{name} has {len(data.train.labels)} training images of {len(data.card['classes'])} classes: "
                          f"{num} examples left out", file=sys.stderr)  # fmt: skip
    if asked.out.exists():
        print(marks(pd.read_csv(asked.out), ranked, strategies).to_string(index=False))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.advisor", description=__doc__.partition("\n\n")[0])

    def names(text: str) -> list[str]:
        return [name for name in text.split(",") if name]

    def numbers(text: str) -> list[int]:
        return [int(number) for number in names(text)]

    def pair(text: str) -> tuple[str, str]:
        name, path = text.split("=", 1)
        return name, path

    parser.add_argument("--datasets", type=names, default="poly,mono,digits", help="digits (scikit-learn), blocks of params.yaml")
    parser.add_argument("--folder", type=pair, action="append", default=[], metavar="NAME=PATH",
                        help="another dataset: a folder or archive with one folder for each class")  # fmt: skip
    parser.add_argument("--examples", type=numbers, default="25,50,100,250,500")
    parser.add_argument("--seeds", type=numbers, default="0,1")
    parser.add_argument("--strategies", type=names, help="default: all of params.yaml that take this network")
    parser.add_argument("--source", default="imagenet", help="a model in models/")
    parser.add_argument("--px", type=int, default=96)
    parser.add_argument("--no-advice", action="store_true", help="measure only")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--out", type=Path, help="the table to which results are added")
    how.add_argument("--fit", type=Path, help="a table to which the rule is fitted; nothing is trained")
    asked = parser.parse_args()
    asked.folder = dict(asked.folder)
    return asked


def willing(fabric, p, tensors: dict, start: dict) -> list[str]:
    """Strategies that take this network; auto is the advisor itself."""
    found = []
    for name, block in p.strategies.items():
        knobs, training = params.knobs(block, params.plugin("strategies", name)), params.training(p.training, block)
        head = {"kind": "linear", **training["head"]}
        try:
            if name != "auto":
                transfer.prepare(
                    fabric, tensors, start["architecture"], 2, strategy=name, knobs=knobs, head=head, num_examples=10, seed=0
                )
                found.append(name)
        except UserError as error:
            print(f"{name}: left out. {error}", file=sys.stderr)
    return found


def block_of(name: str, asked: argparse.Namespace, p, scratch: Path):
    """The block of a dataset as it would stand in params.yaml, at the side that is asked for."""
    if name in p.datasets:
        return p.datasets[name].model_copy(update={"px": asked.px, "preprocessing": asked.source})
    if name == "digits":
        draw_digits(scratch / "digits")
    elif name not in asked.folder:
        raise UserError(f"--datasets: {name!r} is none. Allowed: digits, {', '.join(p.datasets)}; or --folder {name}=PATH.")
    raw = str(scratch / "digits" if name == "digits" else asked.folder[name])
    return Folder(raw=raw, reader="image_folder", group_from="", preprocessing=asked.source, px=asked.px, fit="squash",
                  split=SPLIT, limit=0, max_broken=0.01, duplicates="drop", licence="not stated")  # fmt: skip


def draw_digits(folder: Path) -> None:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 pixels, as files; packing scales them up."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(label) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).round().astype(np.uint8)).save(path)


def packed(name: str, block, fabric, tensors: dict, start: dict, folder: Path, batch_size: int) -> Data:
    """Prepare a dataset as its stage would, and compute its features."""
    folder.mkdir(parents=True)
    how = start["preprocessing"]
    geometry = {"px": block.px, "fit": block.fit} | {key: how[key] for key in ("crop_pct", "interpolation")}
    card = prepare(name, block, geometry, folder)
    artifacts.write_json(folder / "card.json", card)
    train, val = (images.examples(artifacts.read_split(folder, split), how, fabric.device) for split in ("train", "val"))
    model = backbones.build({key: start["architecture"][key] for key in ("library", "model")}, len(card["classes"]))
    backbones.load(model, tensors)
    model.to(fabric.device, memory_format=torch.channels_last)
    frozen = features(fabric, model, train, batch_size).inputs(slice(None), "none", None).cpu().numpy()
    return Data(folder, card, train, val, frozen)


def measure(case: tuple, data: Data, fabric, p, tensors: dict, start: dict, strategies: list[str], asked) -> dict:
    """Ask the advisor about one part of a dataset, and train every strategy on it that has no line in the table yet.

    Returns:
        The advisor's ranking by the case; an empty one without advice.
    """
    name, _, num, given = case
    seed = seed_for(p.seed, "target", given)
    rows, _ = few(data.train.labels, data.val.labels, num, seed)
    frozen, labels = data.features[rows], data.train.labels.cpu().numpy()[rows]
    ranking = []
    if not asked.no_advice:
        ranking = advice.rank(advice.facts(frozen, labels), advice.ERRORS_LEFT)
    expected = {entry["strategy"]: entry for entry in ranking}
    known = {"classes": len(data.card["classes"]), "probe": probe_accuracy(frozen, labels, folds=FOLDS, seed=0).mean()}
    missing = [strategy for strategy in strategies if (*case, strategy) not in done(asked.out)]
    for strategy in tqdm(missing, f"{name}, {num} examples, seed {given}", disable=None):
        block = p.strategies[strategy]
        began = time.perf_counter()
        try:
            fitted = train_on_few(
                fabric, tensors, start, data.card, data.train, data.val,
                num=num, strategy=strategy, knobs=params.knobs(block, params.plugin("strategies", strategy)),
                training=params.training(p.training, block), checks=p.checks.model_dump(), seed=seed,
            )  # fmt: skip
        except UserError as error:  # it has no accuracy and is no choice; the next run tries again
            tqdm.write(f"{strategy} failed on {case}. {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        seconds = time.perf_counter() - began
        answers, test = predictions(fitted.tensors, fitted.card, data.folder, p)
        told = expected.get(strategy, {"expected": None})
        accuracy = (answers.argmax(1) == test.labels).mean()
        append(asked.out, dict(zip(CASE, case, strict=True)) | known | {
            "strategy": strategy, "accuracy": accuracy, "val_accuracy": fitted.best["val_accuracy"], "seconds": seconds,
            "expected": told["expected"], "advised": None if not ranking else strategy == ranking[0]["strategy"],
        })  # fmt: skip
    return {case: ranking}


def done(path: Path) -> set[tuple]:
    """What has a line in the table."""
    return set(pd.read_csv(path)[[*CASE, "strategy"]].itertuples(index=False, name=None)) if path.exists() else set()


def append(path: Path, row: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row], columns=COLUMNS).round(5).to_csv(path, mode="a", header=not path.exists(), index=False)


def errors_left(results: pd.DataFrame) -> pd.DataFrame:
    """Logarithm of each strategy's errors over those of the probe; a row for each case that all strategies have.

    Args:
        results: the lines of a table.
    """
    accuracy = results.pivot_table(index=[*CASE, "probe"], columns="strategy", values="accuracy")[list(advice.ERRORS_LEFT)]
    errors = (1 - accuracy.dropna().reset_index("probe")).clip(lower=0.005)  # none at all on a small test is chance
    return np.log(errors.div(errors.pop("probe"), axis=0))


def family(dataset: str) -> str:
    """Datasets that are too much alike to tell anything about each other: those of ELPV are of the same modules."""
    return {"mono": "elpv", "poly": "elpv"}.get(dataset, dataset)


def fit(results: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """The rule's numbers: for each strategy a straight line in the logarithms, by least squares, every family of datasets with
    equal weight.

    Returns:
        For each strategy the share of errors left at the two ends of advice.EXAMPLES.
    """
    left = errors_left(results)
    families = left.index.get_level_values("dataset").map(family)
    weights = np.sqrt(1 / families.value_counts()[families].to_numpy())
    examples = np.log(left.index.get_level_values("examples").to_numpy(float))
    lines = {name: np.polyfit(examples, left[name], 1, w=weights) for name in left}
    return {name: tuple(np.exp(np.polyval(line, np.log(advice.EXAMPLES))).tolist()) for name, line in lines.items()}


def marks_left_out(results: pd.DataFrame) -> pd.DataFrame:
    """What `marks` gives where every family of datasets is ranked by a rule fitted to the others."""
    left, ranked = errors_left(results), {}
    for name in dict.fromkeys(map(family, left.index.get_level_values("dataset"))):
        table = fit(results[results.dataset.map(family) != name])
        for case in left.index[left.index.get_level_values("dataset").map(family) == name]:
            ranked[case] = advice.rank({"num_examples": case[CASE.index("examples")], "probe_accuracy": 0.0}, table)
    return marks(results, ranked, list(advice.ERRORS_LEFT))


def marks(results: pd.DataFrame, ranked: dict[tuple, list[dict]], strategies: list[str]) -> pd.DataFrame:
    """Regret of each way to choose, in points, and how well the advisor's order agrees with the measured one.

    Args:
        results: the lines of the table. The best is that of the strategies with a line; a case counts if all that are chosen
            without advice have one.
        ranked: the advisor's ranking by case, as it is now and not as it was when the line was written; other cases in the table
            do not count.

    Returns:
        A row for each measure: its mean, standard deviation and worst value over the cases, and their number.
    """
    found: dict[str, list[float]] = {}
    for case, rows in results[results.strategy.isin(strategies)].groupby(CASE):
        accuracy = rows.set_index("strategy").accuracy
        choices = {f"always {name}": name for name in FIXED if name in strategies}
        if case not in ranked or not set(choices.values()) <= set(accuracy.index):
            continue
        expected = pd.Series({entry["strategy"]: entry["expected"] for entry in ranked[case]}, dtype=float)
        expected = expected[expected.index.isin(accuracy.index)]  # best first, as it was
        choices = ({"the advisor": expected.index[0]} if len(expected) else {}) | choices
        for who, strategy in choices.items():
            found.setdefault(f"regret, {who}", []).append(100 * (accuracy.max() - accuracy[strategy]))
        if expected.nunique() > 1 and accuracy[expected.index].nunique() > 1:  # there is no order without
            rank_correlation = expected.corr(accuracy[expected.index], method="spearman")
            found.setdefault("Spearman, the advisor", []).append(rank_correlation)
    rows = [(name, np.mean(each), np.std(each), min(each) if name.startswith("Spearman") else max(each), len(each))
            for name, each in found.items()]  # fmt: skip
    return pd.DataFrame(rows, columns=["measure", "mean", "deviation", "worst", "cases"]).round(2)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
