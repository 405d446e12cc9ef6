"""The heads on frozen features against scikit-learn's logistic regression, on folders of photos.

    python -m tests.benchmarks.linear_probe --folder ants_bees=PATH --folder NAME=PATH --out tests/benchmarks/linear_probe.csv

Splits each folder anew with each of `--splits` (10 % validation, 25 % test) and measures on the same test images: the strategies
of `--strategies`, each with its block of params.yaml and as a stage would train it; and scikit-learn's LogisticRegression on the
same features, once with its defaults on features as they are, and once with features standardised and C chosen by
cross-validation on the training images. Then prints each strategy's accuracy minus that of scikit-learn, in points: the mean over
folders and splits, and an interval that is bootstrapped over folders, because splits of one folder are not independent.
What has a line in the table is not measured again. Needs the root of a repository in which `dvc repro source` has run.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from stages.lib.core import cards, contracts, datasets, runs
from stages.lib.core.seeds import seed_for
from stages.lib.errors import UserError
from stages.lib.networks import backbones
from stages.lib.networks.device import launch
from stages.lib.networks.inference import features
from stages.lib.params import read as params
from tests.benchmarks import cases
from tests.benchmarks.cases import names, numbers

DEFAULTS = "sklearn, its defaults"
CHOSEN = "sklearn, C by cross-validation"
CASE = ["dataset", "px", "split"]
COLUMNS = [*CASE, "train", "classes", "arm", "val_loss", "accuracy", "seconds"]
GRID = np.logspace(-5, 1, 7)


def main() -> None:
    asked = arguments()
    p = params.load("seed", "strategies", "training", "checks", "device", "datasets", "evaluate")
    fabric = launch(**p.device.model_dump() | {"devices": 1, "num_nodes": 1})
    wanted = [*asked.strategies, DEFAULTS, CHOSEN]
    for name, split in tqdm([(name, split) for name in asked.folder for split in asked.splits], disable=None):
        known = pd.read_csv(asked.out) if asked.out.exists() else pd.DataFrame(columns=COLUMNS)
        there = known[(known.dataset == name) & (known.px == asked.px) & (known.split == split)].arm
        if set(wanted) <= set(there):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            data = cases.packed(name, p, asked.px, asked.folder, fabric, asked.source, Path(scratch), split)
            num = data.card.num("train")
            for arm in (arm for arm in wanted if arm not in set(there)):
                found = measured(arm, data, num, split, fabric, p, asked.source)
                row = dict(zip(COLUMNS, (name, asked.px, split, num, len(data.names), arm), strict=False))
                table = pd.DataFrame([row | found], columns=COLUMNS).round(5)
                table.to_csv(asked.out, mode="a", header=not asked.out.exists(), index=False)
    table = pd.read_csv(asked.out)
    print(table.pivot_table(index="dataset", columns="arm", values="accuracy", sort=False).mul(100).round(1).to_string())
    print(table.groupby("arm", sort=False)[["accuracy", "val_loss", "seconds"]].mean().round(4).to_string())
    print(differences(table).to_string(index=False))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.linear_probe", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--folder", type=lambda text: text.split("=", 1), action="append", required=True, metavar="NAME=PATH",
                        help="a folder or archive with one folder for each class")  # fmt: skip
    parser.add_argument("--splits", type=numbers, default="0,1,2", help="seeds of the splits")
    parser.add_argument("--strategies", type=names, default="linear_probe,feature_extraction,knn")
    parser.add_argument("--source", default="imagenet", help="a model in models/")
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--out", type=Path, required=True, help="the table to which results are added")
    asked = parser.parse_args()
    asked.folder = dict(asked.folder)
    return asked


def measured(arm: str, data: cases.Data, num: int, split: int, fabric: Any, p: Any, source: str) -> dict[str, float]:
    """Accuracy on the test, loss on validation, and the seconds of a fit (of a strategy, with its features)."""
    if arm in (DEFAULTS, CHOSEN):
        (train, labels), _, (test, right) = frozen(data, fabric, p, source)
        began = time.perf_counter()
        plain = LogisticRegression(max_iter=10_000)
        chosen = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=GRID, cv=5, l1_ratios=(0,), use_legacy_attributes=False,
                               max_iter=10_000, scoring="neg_log_loss"))  # fmt: skip
        fitted = (plain if arm == DEFAULTS else chosen).fit(train, labels)
        return {"accuracy": float((fitted.predict(test) == right).mean()), "seconds": time.perf_counter() - began}
    began = time.perf_counter()
    fitted = cases.train(fabric, p, source, data, arm, p.strategies[arm], num, seed_for(p.seed, "target", split))
    seconds = time.perf_counter() - began
    return {"val_loss": fitted.best["val_loss"], "accuracy": cases.tested(fitted, data, p), "seconds": seconds}


def frozen(data: cases.Data, fabric: Any, p: Any, source: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Features (N, D) and classes (N,) of training, validation and test."""
    tensors, start = cards.read_model(runs.starting_point(source))
    model = backbones.build({key: start.architecture[key] for key in ("library", "model")}, len(data.names))
    backbones.load(model, tensors)
    model.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = []
    for name in ("train", "val", "test"):
        split = contracts.load(datasets.read_split(data.folder, name), data.card.modality, cases.TASK, data.names,
                               start.preprocessing | data.card.packing, fabric.device)  # fmt: skip
        computed = features(fabric, model, split, p.training.batch_size)
        everything = computed.inputs(torch.arange(len(split.targets)), "none", None)
        found.append((everything.cpu().numpy(), split.targets.cpu().numpy()))
    return found


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Each arm minus each of scikit-learn's, in points: the mean, and a 95 % interval over datasets."""
    accuracy = 100 * table.pivot_table(index=CASE, columns="arm", values="accuracy", sort=False).dropna()
    random, rows = np.random.default_rng(0), []
    for arm in [arm for arm in accuracy if arm not in (DEFAULTS, CHOSEN)]:
        for reference in (DEFAULTS, CHOSEN):
            means = (accuracy[arm] - accuracy[reference]).groupby("dataset").mean().to_numpy()
            drawn = random.choice(means, (10_000, len(means))).mean(1)
            lower, upper = np.quantile(drawn, (0.025, 0.975))
            rows.append({"arm": arm, "minus": reference, "points": means.mean(), "lower": lower, "upper": upper,
                         "worst dataset": means.min()})  # fmt: skip
    return pd.DataFrame(rows).round(2)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
