"""The advisor, marked.

    python -m tests.benchmarks.advisor --datasets poly,mono,digits --examples 25,50,100,250,500 --seeds 0,1 --out FILE.csv

Trains every strategy on stratified parts of each dataset, as `python -m stages learning_curve` does. Each result is a line of
FILE.csv, with what stages.lib.advice.rule knows of that part before any training. What is there already is not trained again, so
the run can be stopped at any time. Then the rule in use is marked on all that is in the table.

The rule itself is fitted to such a table (tests/benchmarks/advisor.csv): `--fit FILE.csv` trains nothing, prints the numbers that
stages/lib/advice/rule.py should hold, and the marks that the rule gets on each dataset when it was fitted to the others.

Regret is the accuracy of the best strategy minus that of the chosen one. The best of many noisy figures is too high, and with
it every regret: compare them with each other. Needs the root of a repository in which `dvc repro` has run, and params.yaml.
"""

import argparse
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from stages.lib.advice import rule
from stages.lib.core import cards, plugins, runs
from stages.lib.core.plugins import overridden
from stages.lib.core.seeds import seed_for
from stages.lib.errors import UserError
from stages.lib.learning_curve.subset import subset
from stages.lib.networks.device import launch
from stages.lib.params import read as params
from stages.lib.training import setup
from tests.benchmarks import cases
from tests.benchmarks.cases import names, numbers

CASE = ["dataset", "px", "examples", "seed"]
FACTS = ["num_classes", "min", "probe_accuracy", "logme", "h_score", "drift"]
COLUMNS = [*CASE, "strategy", *FACTS, "val_accuracy", "accuracy", "seconds"]
# What the advisor is compared with: always the same strategy.
FIXED = ["linear_probe", "feature_extraction", "prototype", "knn", "wise_ft", "norm_only", "partial", "full"]


def main() -> None:
    asked = arguments()
    if asked.fit:
        results = pd.read_csv(asked.fit)
        told = pd.DataFrame(fit(results), index=["left", "by examples", "by drift", "by both"]).T.round(2)
        print(told, f"spread {spread(results):.2f}", marks_left_out(results).to_string(index=False), sep="\n\n")
        return
    p = params.load("seed", "strategies", "training", "checks", "device", "datasets", "evaluate")
    fabric = launch(**p.device.model_dump() | {"devices": 1, "num_nodes": 1})
    strategies = asked.strategies or willing(fabric, p, asked.source)
    for name in strategies:
        params.block(p.strategies, "strategies", name)
    with tempfile.TemporaryDirectory() as scratch:
        for name in [*asked.datasets, *asked.folder]:
            data = cases.packed(name, p, asked.px, asked.folder, fabric, asked.source, Path(scratch))
            num_classes, num_images = len(data.names), data.card.num("train")
            for num, seed in product(asked.examples or [num_images], asked.seeds):
                if num_classes <= num <= num_images:
                    measure((name, asked.px, num, seed), data, fabric, p, strategies, asked)
                else:
                    print(
                        f"{name} has {num_images} training images of {num_classes} classes: {num} examples left out",
                        file=sys.stderr,
                    )
    results = pd.read_csv(asked.out)
    print(marks(results, dict.fromkeys(results.dataset, rule.ERRORS_LEFT)).to_string(index=False))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.advisor", description=__doc__.partition("\n\n")[0])

    def pair(text: str) -> tuple[str, str]:
        name, path = text.split("=", 1)
        return name, path

    parser.add_argument("--datasets", type=names, default="poly,mono,digits", help="digits (scikit-learn), blocks of params.yaml")
    parser.add_argument("--folder", type=pair, action="append", default=[], metavar="NAME=PATH",
                        help="another dataset: a folder or archive with one folder for each class")  # fmt: skip
    parser.add_argument("--examples", type=numbers, default=[], help="default: all training images of each dataset")
    parser.add_argument("--seeds", type=numbers, default="0,1")
    parser.add_argument("--strategies", type=names, help="default: all of params.yaml that take this network")
    parser.add_argument("--source", default="imagenet", help="a model in models/")
    parser.add_argument("--px", type=int, default=96)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--out", type=Path, help="the table to which results are added")
    how.add_argument("--fit", type=Path, help="a table to which the rule is fitted; nothing is trained")
    asked = parser.parse_args()
    asked.folder = dict(asked.folder)
    return asked


def willing(fabric: Any, p: Any, source: str) -> list[str]:
    """Strategies that take this network; auto is the advisor itself."""
    tensors, start = cards.read_model(runs.starting_point(source))
    found = []
    for name, block in p.strategies.items():
        if name == "auto":
            continue
        try:
            setup.prepare(
                fabric, tensors, start.architecture, 2, "example", strategy=name, num_examples=10, seed=0, same_outputs=False,
                hyperparameters=plugins.arguments(block, plugins.load("strategies", name)), options=overridden(p.training, block),
            )  # fmt: skip
            found.append(name)
        except UserError as error:
            print(f"{name}: left out. {error}", file=sys.stderr)
    return found


def measure(case: tuple, data: cases.Data, fabric: Any, p: Any, strategies: list[str], asked: argparse.Namespace) -> None:
    """Train every strategy that has no line in the table yet on one part of a dataset."""
    name, _, num, given = case
    seed = seed_for(p.seed, "target", given)
    learning = plugins.load("tasks", cases.TASK, "learning")
    rows, _ = subset(*(learning.strata(split.targets) for split in data.splits[:2]), num, seed)
    known = rule.facts(data.features[rows], data.splits.train.targets.cpu().numpy()[rows]) | {"drift": data.drift}
    missing = [strategy for strategy in strategies if (*case, strategy) not in done(asked.out)]
    for strategy in tqdm(missing, f"{name}, {num} examples, seed {given}", disable=None):
        began = time.perf_counter()
        try:
            fitted = cases.train(fabric, p, asked.source, data, strategy, p.strategies[strategy], num, seed)
        except UserError as error:  # it has no accuracy and is no choice; the next run tries again
            tqdm.write(f"{strategy} failed on {case}. {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        seconds = time.perf_counter() - began
        row = dict(zip(CASE, case, strict=True)) | {fact: known[fact] for fact in FACTS} | {
            "strategy": strategy, "val_accuracy": fitted.best["val_accuracy"], "accuracy": cases.tested(fitted, data, p),
            "seconds": seconds,
        }  # fmt: skip
        table = pd.DataFrame([row], columns=COLUMNS).round(5)
        table.to_csv(asked.out, mode="a", header=not asked.out.exists(), index=False)


def done(path: Path) -> set[tuple]:
    """What has a line in the table."""
    return set(pd.read_csv(path)[[*CASE, "strategy"]].itertuples(index=False, name=None)) if path.exists() else set()


def errors_left(results: pd.DataFrame) -> pd.DataFrame:
    """Logarithm of each strategy's errors over those of the probe, a row for each case; NaN where a strategy was not measured.

    Args:
        results: the lines of a table.
    """
    accuracy = results.pivot_table(index=[*CASE, "probe_accuracy", "drift"], columns="strategy", values="accuracy")
    probe = accuracy.index.get_level_values("probe_accuracy").to_series(index=accuracy.index)
    # On a small test or of few examples, no errors at all are chance.
    return np.log((1 - accuracy).clip(lower=0.005).div((1 - probe).clip(lower=0.02), axis=0))


def family(dataset: str) -> str:
    """Datasets that are too much alike to tell anything about each other: those of ELPV are of the same modules."""
    return {"mono": "elpv", "poly": "elpv"}.get(dataset, dataset)


def fit(results: pd.DataFrame) -> dict[str, rule.Left]:
    """The rule's numbers: for each strategy a plane in the logarithms, by least squares; families of datasets weigh the same.

    Returns:
        For each strategy what rule.ERRORS_LEFT holds: a share of errors left, and three powers.
    """
    left = errors_left(results)
    index = left.index.to_frame()
    families = index.dataset.map(family)
    weights = np.sqrt(1 / families.value_counts()[families].to_numpy())
    known = [rule.terms(num, drift) for num, drift in zip(index.examples, index.drift, strict=True)]
    plane = np.column_stack([np.ones(len(left)), np.array(known)])
    found = {}
    for name, logarithms in left.items():
        there = logarithms.notna().to_numpy()
        weighted = plane[there] * weights[there, None]
        share, *powers = np.linalg.lstsq(weighted, logarithms[there].to_numpy() * weights[there], rcond=None)[0].tolist()
        found[name] = (float(np.exp(share)), *powers)
    return found


def rules_left_out(results: pd.DataFrame) -> dict[str, dict]:
    """For each dataset the rule that is fitted to the other families."""
    families = results.dataset.map(family)
    rules = {name: fit(results[families != name]) for name in set(families)}
    return {dataset: rules[family(dataset)] for dataset in set(results.dataset)}


def spread(results: pd.DataFrame) -> float:
    """rule.SPREAD: how far rules are typically off on the datasets that they were not fitted to."""
    off = []
    rules = rules_left_out(results)
    for case, logarithms in errors_left(results).iterrows():
        known = dict(zip(["num_examples", "probe_accuracy", "drift"], (case[2], *case[len(CASE) :]), strict=True))
        measured = logarithms.dropna()
        ranking = rule.rank(known, {name: rules[case[0]][name] for name in measured.index})
        said = pd.Series({entry["strategy"]: np.log(entry["left"]) for entry in ranking})
        first = said.index[0]
        off += ((measured - measured[first]) - (said - said[first])).drop(first).tolist()
    return float(np.median(np.abs(off)))


def marks_left_out(results: pd.DataFrame) -> pd.DataFrame:
    """What `marks` gives where every family of datasets is ranked by a rule fitted to the others."""
    return marks(results, rules_left_out(results))


def marks(results: pd.DataFrame, rules: dict[str, dict]) -> pd.DataFrame:
    """Regret of each way to choose, in points, and how well the advisor's order agrees with the measured one.

    Args:
        results: the lines of a table; in each case the strategies that have a line are ranked.
        rules: by dataset, what the advisor ranks by there, as rule.ERRORS_LEFT.

    Returns:
        A row for each measure: its mean, standard deviation and worst value over the cases, and their number. Beside the regret
        and the order, how many strategies the advisor named (the first and those that it cannot tell from it), and what the best
        of those named is behind the best of all.
    """
    found: dict[str, list[float]] = {}
    for case, rows in results.groupby(CASE):
        accuracy = rows.set_index("strategy").accuracy
        used = {name: left for name, left in rules[case[0]].items() if name in accuracy.index}
        accuracy = accuracy[list(used)]
        known = rows.iloc[0][FACTS].to_dict() | {"num_examples": case[CASE.index("examples")]}
        ranking = rule.rank(known, used)
        named = [ranking[0]["strategy"], *rule.as_good(ranking, rule.SPREAD)]
        choices = {"the advisor": named[0]} | {f"always {name}": name for name in FIXED if name in used}
        for who, strategy in choices.items():
            found.setdefault(f"regret, {who}", []).append(100 * (accuracy.max() - accuracy[strategy]))
        found.setdefault("regret, the best of those named", []).append(100 * (accuracy.max() - accuracy[named].max()))
        found.setdefault("strategies named", []).append(len(named))
        order = pd.Series({entry["strategy"]: -entry["left"] for entry in ranking})
        if accuracy.nunique() > 1:  # there is no order without
            found.setdefault("Spearman, the advisor", []).append(order.corr(accuracy[order.index], method="spearman"))
    rows = [(name, np.mean(each), np.std(each), min(each) if name.startswith("Spearman") else max(each), len(each))
            for name, each in found.items()]  # fmt: skip
    return pd.DataFrame(rows, columns=["measure", "mean", "deviation", "worst", "cases"]).round(2)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
