"""The learning rates of every strategy and of the control, chosen on validation images with the same budget for each.

    python -m tests.benchmarks.tuning --out tests/benchmarks/tuning.csv

Trains each strategy with its block of params.yaml, all of its learning rates times each of `--factors`, and the control too.
What has a line in the table is not trained again, so that more factors can be added where the best one lies at the end.
The test split stays closed. Needs the root of a repository in which `dvc repro prepare source` has run.
"""

import argparse
import sys
import tempfile
from itertools import product
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from stages.lib.core.seeds import seed_for
from stages.lib.errors import UserError
from stages.lib.networks.device import launch
from stages.lib.params import read as params
from tests.benchmarks import cases
from tests.benchmarks.cases import names, numbers

RUN = ["dataset", "px", "seed", "strategy", "factor"]
RATES = ("lr", "head_lr")


def main() -> None:
    asked = arguments()
    p = params.load("seed", "strategies", "scratch", "training", "checks", "device", "datasets")
    fabric = launch(**p.device.model_dump() | {"devices": 1, "num_nodes": 1})
    blocks = {name: block for name, block in p.strategies.items() if set(RATES) & set(type(block).model_fields)}
    blocks["scratch"] = p.scratch
    with tempfile.TemporaryDirectory() as scratch:
        data = cases.packed(asked.dataset, p, asked.px, {}, fabric, asked.source, Path(scratch))
        todo = product(asked.seeds, asked.strategies or blocks, asked.factors)
        known = set(pd.read_csv(asked.out)[RUN].itertuples(index=False, name=None)) if asked.out.exists() else set()
        for seed, name, factor in tqdm([run for run in todo if (asked.dataset, asked.px, *run) not in known], disable=None):
            rates = {rate: getattr(blocks[name], rate) * factor for rate in RATES if hasattr(blocks[name], rate)}
            try:
                fitted = cases.train(fabric, p, asked.source, data, name, blocks[name].model_copy(update=rates),
                                     data.card.num("train"), seed_for(p.seed, "target", seed))  # fmt: skip
                best = fitted.best
            except UserError as error:  # it diverged, or the network does not fit: no rate of the strategy to choose
                tqdm.write(f"{name}, factor {factor}: {str(error).splitlines()[0]}", file=sys.stderr)
                best = {"val_loss": float("inf"), "val_accuracy": 0.0, "epoch": 0}
            row = dict(zip(RUN, (asked.dataset, asked.px, seed, name, factor), strict=True)) | rates | best
            table = pd.DataFrame([row], columns=[*RUN, *RATES, "val_loss", "val_accuracy", "epoch"]).round(5)
            table.to_csv(asked.out, mode="a", header=not asked.out.exists(), index=False)
    print(chosen(pd.read_csv(asked.out)).to_string(index=False))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.tuning", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--dataset", default="poly", help="a block of params.yaml")
    parser.add_argument("--px", type=int, default=96)
    parser.add_argument("--source", default="imagenet", help="a model in models/")
    parser.add_argument("--strategies", type=names, help="default: all of params.yaml that have a learning rate, and scratch")
    parser.add_argument("--factors", type=lambda text: [float(factor) for factor in names(text)], default="0.3,1,3")
    parser.add_argument("--seeds", type=numbers, default="3", help="none that figures are reported of")
    parser.add_argument("--out", type=Path, required=True, help="the table to which results are added")
    return parser.parse_args()


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """Validation loss and accuracy of each strategy by factor, and which factor has the lowest loss.

    Means over the runs (dataset, side, seed) that have all of a strategy's factors, or a run with fewer would favour them.
    """
    found = []
    for strategy, rows in table.groupby("strategy", sort=False):
        runs = rows.pivot(index=RUN[:3], columns="factor", values=["val_loss", "val_accuracy"]).dropna()
        means = runs.mean().unstack(0).reset_index()
        found.append(means.assign(strategy=strategy, runs=len(runs), chosen=means.val_loss == means.val_loss.min()))
    return pd.concat(found)[["strategy", "factor", "val_loss", "val_accuracy", "runs", "chosen"]].round(4)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
