"""The learning rates of every strategy and of the control, chosen on validation images with the same budget for each.

    python -m tests.benchmarks.tuning --datasets poly --out tests/benchmarks/tuning.csv
    python -m tests.benchmarks.tuning --datasets "" --folder NAME=PATH --folder NAME=PATH --examples 200 --out ...

Trains each strategy with its block of params.yaml, all of its learning rates times each of `--factors`, and the control too, on
each dataset. What has a line in the table is not trained again, so that more factors can be added where the best one lies at the
end. Then says for each strategy which rates have the lowest validation loss on average, each loss divided by that of the best
rates on its dataset, or the hardest dataset alone would decide. The test split stays closed. Needs the root of a repository in
which `dvc repro prepare source` has run.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel
from tqdm import tqdm

from stages.lib.core.seeds import seed_for
from stages.lib.errors import UserError
from stages.lib.networks.device import launch
from stages.lib.params import read as params
from stages.lib.training.diagnostics import RATE_TOO_HIGH
from tests.benchmarks import cases
from tests.benchmarks.cases import names, numbers

CASE = ["dataset", "px", "examples", "seed"]
RATES = ["lr", "head_lr"]
COLUMNS = [*CASE, "strategy", *RATES, "val_loss", "val_accuracy", "epoch", "warned"]


def main() -> None:
    asked = arguments()
    p = params.load("seed", "strategies", "scratch", "training", "checks", "device", "datasets")
    fabric = launch(**p.device.model_dump() | {"devices": 1, "num_nodes": 1})
    blocks = {name: block for name, block in p.strategies.items() if set(RATES) & set(type(block).model_fields)}
    blocks["scratch"] = p.scratch
    with tempfile.TemporaryDirectory() as scratch:
        for dataset in [*asked.datasets, *asked.folder]:
            data = cases.packed(dataset, p, asked.px, asked.folder, fabric, asked.source, Path(scratch))
            num = min(asked.examples or data.card.num("train"), data.card.num("train"))
            todo = list(product(asked.seeds, asked.strategies or blocks, asked.factors))
            for seed, name, factor in tqdm(todo, dataset, disable=None):
                rates = {rate: round(getattr(blocks[name], rate) * factor, 6) for rate in RATES if hasattr(blocks[name], rate)}
                run = {"dataset": dataset, "px": asked.px, "examples": num, "seed": seed, "strategy": name, **rates}
                if key(run) in done(asked.out):
                    continue
                table = pd.DataFrame([run | trained(fabric, p, asked, data, run, blocks[name], rates)], columns=COLUMNS)
                table.round(6).to_csv(asked.out, mode="a", header=not asked.out.exists(), index=False)
    print(chosen(pd.read_csv(asked.out)).to_string(index=False))


def trained(
    fabric: Any, p: Any, asked: argparse.Namespace, data: cases.Data, run: dict, block: BaseModel, rates: dict[str, float]
) -> dict[str, float]:
    """Validation loss and accuracy of the kept epoch, and whether a learning rate was called too high."""
    seed = seed_for(p.seed, "target", run["seed"])
    try:
        fitted = cases.train(
            fabric, p, asked.source, data, run["strategy"], block.model_copy(update=rates), run["examples"], seed
        )
    except UserError as error:  # it diverged, or the network does not fit: no rate of the strategy to choose
        tqdm.write(f"{run}: {str(error).splitlines()[0]}", file=sys.stderr)
        return {"val_loss": float("inf"), "val_accuracy": 0.0, "epoch": 0, "warned": True}
    return fitted.best | {"warned": any(RATE_TOO_HIGH in warning for warning in fitted.warnings)}


def key(run: Mapping[str, Any]) -> tuple:
    """What tells one run from another; a rate that the strategy lacks is 0."""
    rates = [run.get(rate, 0) for rate in RATES]
    return (*(run[name] for name in [*CASE, "strategy"]), *(0 if rate != rate else rate for rate in rates))


def done(path: Path) -> set[tuple]:
    """What has a line in the table."""
    return {key(run) for run in pd.read_csv(path).to_dict("records")} if path.exists() else set()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.tuning", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--datasets", type=names, default="poly", help="digits (scikit-learn), blocks of params.yaml")
    parser.add_argument("--folder", type=lambda text: text.split("=", 1), action="append", default=[], metavar="NAME=PATH",
                        help="another dataset: a folder or archive with one folder for each class")  # fmt: skip
    parser.add_argument("--examples", type=int, default=0, help="train on so many; 0: all")
    parser.add_argument("--px", type=int, default=96)
    parser.add_argument("--source", default="imagenet", help="a model in models/")
    parser.add_argument("--strategies", type=names, help="default: all of params.yaml that have a learning rate, and scratch")
    parser.add_argument("--factors", type=lambda text: [float(Fraction(factor)) for factor in names(text)],
                        default="0.1,1/3,1", help="of the learning rates in params.yaml")  # fmt: skip
    parser.add_argument("--seeds", type=numbers, default="3", help="none that figures are reported of")
    parser.add_argument("--out", type=Path, required=True, help="the table to which results are added")
    asked = parser.parse_args()
    asked.folder = dict(asked.folder)
    return asked


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """Validation loss and accuracy of each strategy by its rates, and which rates have the lowest loss.

    Means over the cases that have all of a strategy's rates, or a case with fewer would favour them.

    Returns:
        For each strategy and its rates: loss relative to that of the best rates on the same data (1: the best on all), and on how
        many of the cases it is the lowest; mean loss and accuracy; how many runs were warned of; the number of cases; chosen.
    """
    found = []
    for strategy, rows in table.fillna({rate: 0.0 for rate in RATES}).groupby("strategy", sort=False):
        losses = rows.pivot(index=CASE, columns=RATES, values="val_loss").dropna()
        relative = losses.div(losses.min(axis=1), axis=0)
        common = rows.set_index(CASE).loc[losses.index].groupby(RATES)
        means = common[["val_loss", "val_accuracy"]].mean()
        means["warned"] = common.warned.sum()
        means["relative"], means["lowest"], means["cases"] = relative.mean(), (relative == 1).sum(), len(losses)
        found.append(means.reset_index().assign(strategy=strategy, chosen=(means.relative == means.relative.min()).to_numpy()))
    columns = ["strategy", *RATES, "relative", "lowest", "cases", "val_loss", "val_accuracy", "warned", "chosen"]
    return pd.concat(found)[columns].round(4)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
