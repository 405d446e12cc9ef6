"""Prediction sets and the distance to the training data, as calibrate makes them, on many datasets.

    python -m tests.benchmarks.calibration --folder NAME=PATH --folder ... --out FOLDER

Computes the frozen features of each dataset once (those of `--folder`, and poly of params.yaml). For each of `--seeds` the
images are split anew (of each class half to train on, a quarter each for validation and test), the strategy linear_probe makes a
head, and it is calibrated on validation. Writes three tables:

coverage.csv  how often the prediction sets hold the right class of the test
decision.csv  which recall a threshold gives that was chosen for a recall of 90 % (of the first of two classes)
unlike.csv    how well the distance tells the test from all images of another dataset (AUROC, beside that of 1 - the largest
              probability), and how many of them it calls unlike the training data

Needs the root of a repository in which `dvc repro source download` has run.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from stages.lib.calibration import fit, neighbours
from stages.lib.core import cards, contracts, datasets, runs
from stages.lib.core.contracts import LoadedSplit
from stages.lib.networks import backbones
from stages.lib.networks.device import launch
from stages.lib.networks.inference import both, features
from stages.lib.params import read as params
from stages.lib.params.schema import Calibrate, Decision
from stages.lib.strategies import linear_probe
from stages.lib.tasks.classify import calibration, learning, measures, outputs
from tests.benchmarks import cases
from tests.benchmarks.cases import numbers

RECALL = 0.9
cases.SPLIT |= {"val": 0.2, "test": 0.2}  # only to read them: some have five images of a class


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.benchmarks.calibration", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--folder", type=lambda text: text.split("=", 1), action="append", required=True, metavar="NAME=PATH",
                        help="a folder or archive with one folder for each class")  # fmt: skip
    parser.add_argument("--seeds", type=numbers, default="0,1,2,3,4")
    parser.add_argument("--neighbours", type=numbers, default="1,5,20", help="which of the nearest counts, each a row")
    parser.add_argument("--source", default="imagenet", help="a model in models/")
    parser.add_argument("--px", type=int, default=128)
    parser.add_argument("--limit", type=int, default=1200, help="most images of a dataset, drawn at random")
    parser.add_argument("--cache", type=Path, required=True, help="folder of features, which are computed once")
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    asked = parser.parse_args()
    p = params.load("seed", "strategies", "training", "device", "datasets", "calibrate", "evaluate")
    fabric, folders = launch(**p.device.model_dump() | {"devices": 1, "num_nodes": 1}), dict(asked.folder)
    known = {name: cached(name, p, asked, folders, fabric) for name in [*folders, "poly"]}
    coverage, unlike, decision = [], [], []
    for name, (found, targets, classes) in known.items():
        for seed in asked.seeds:
            splits = {part: loaded(found[row], targets[row]) for part, row in drawn(targets, seed).items()}
            model = backbones.Model(nn.Identity(), nn.Linear(found.shape[1], len(classes)), len(classes))
            linear_probe.finish(fabric, model, start=None, train=splits["train"], val=splits["val"], task=learning,
                                batch_size=4096, options=p.training, l2=p.strategies["linear_probe"].l2)  # fmt: skip
            coverage += covered(model, splits, classes, p, {"dataset": name, "seed": seed})
            decision += decided(model, splits, classes, p, {"dataset": name, "seed": seed})
            others = {other: each for other, (each, *_) in known.items() if other != name}
            unlike += told_apart(model, splits, others, p.calibrate, asked.neighbours, {"dataset": name, "seed": seed})
    asked.out.mkdir(parents=True, exist_ok=True)
    coverage, unlike = pd.DataFrame(coverage).round(5), pd.DataFrame(unlike).round(5)
    coverage.to_csv(asked.out / "coverage.csv", index=False)
    unlike.to_csv(asked.out / "unlike.csv", index=False)
    pd.DataFrame(decision).round(5).to_csv(asked.out / "decision.csv", index=False)
    print(coverage.groupby(["dataset", "share"], sort=False).mean().round(3).to_string())
    print(unlike.groupby(["dataset", "other", "neighbours"], sort=False).mean().round(3).to_string())


def cached(name: str, p: Any, asked: Any, folders: dict[str, str], fabric: Any) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """What `frozen` gives, from the cache if it is there."""
    path = asked.cache / f"{name}-{asked.source}-{asked.px}-{asked.limit}.pt"
    if not path.exists():
        asked.cache.mkdir(parents=True, exist_ok=True)
        torch.save(frozen(name, p, asked, folders, fabric), path)
    found: tuple[torch.Tensor, torch.Tensor, list[str]] = torch.load(path)
    return found


def frozen(name: str, p: Any, asked: Any, folders: dict[str, str], fabric: Any) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Features (N, D) of all images of a dataset, their classes (N,) and the names of these."""
    tensors, start = cards.read_model(runs.starting_point(asked.source))
    with tempfile.TemporaryDirectory() as scratch:
        data = cases.packed(name, p, asked.px, folders, fabric, asked.source, Path(scratch))
        model = backbones.build({key: start.architecture[key] for key in ("library", "model")}, len(data.names))
        backbones.load(model, tensors)
        model.to(fabric.device, memory_format=torch.channels_last)
        how, parts = start.preprocessing | data.card.packing, []
        for part in ("train", "val", "test"):
            split = datasets.read_split(data.folder, part)
            whole = contracts.load(split, "image", cases.TASK, data.names, how, fabric.device)
            share = asked.limit / sum(data.card.num(each) for each in ("train", "val", "test"))
            if share < 1:
                order = torch.randperm(len(whole.targets), generator=torch.Generator().manual_seed(0))
                whole = contracts.part(whole, order[: round(share * len(order))])
            computed = features(fabric, model, whole, 64)
            parts.append((computed.inputs(torch.arange(len(whole.targets)), "none", None), whole.targets))
    found, targets = (torch.cat(column) for column in zip(*parts, strict=True))
    print(f"{name}: {len(targets)} images", flush=True)
    return found, targets, data.names


def drawn(targets: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """Rows of each split: of every class half to train on, at least one, and the rest for validation and test in turn."""
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    rows: dict[str, list[torch.Tensor]] = {"train": [], "val": [], "test": []}
    for label in targets.unique():
        own = order[targets[order] == label]
        half = -(-len(own) // 2)
        for part, some in zip(rows, (own[:half], own[half::2], own[half + 1 :: 2]), strict=True):
            rows[part].append(some)
    return {part: torch.cat(some) for part, some in rows.items()}


def loaded(found: torch.Tensor, targets: torch.Tensor) -> LoadedSplit:
    """Features as a split."""
    return LoadedSplit(lambda indices, level, draws: found[indices], targets, num_draws=0)


def covered(
    model: backbones.Model, splits: dict[str, LoadedSplit], classes: list[str], p: Any, row: dict[str, Any]
) -> list[dict]:
    """A row for each prediction set."""
    val, test = (outputs.predictions(both(model, splits[name], 4096)[1]) for name in ("val", "test"))
    targets = {name: split.targets.numpy() for name, split in splits.items()}
    made = calibration.fitted(val, targets["val"], classes, p.calibrate)
    figures = calibration.measured(test, targets["test"], None, classes, made, len(val), p.evaluate, 0)
    found = []
    for name, each in figures.items():
        interval = each["coverage"]
        plain = test[np.arange(len(test)), targets["test"]] >= made["sets"][name]["lowest"]
        found.append(row | {
            "train": len(splits["train"].targets), "val": len(val), "test": len(test), "num_classes": len(classes),
            "accuracy": (test.argmax(1) == targets["test"]).mean(), "share": each["share"], "coverage": interval["value"],
            "lower": interval["lower"], "upper": interval["upper"], "without_the_answer": plain.mean(),
            "expected_lower": each["expected_lower"], "expected_upper": each["expected_upper"],
            "share_in_interval": interval["lower"] <= each["share"] <= interval["upper"],
            "as_expected": each["expected_lower"] <= interval["value"] <= each["expected_upper"], "classes": each["classes"],
        })  # fmt: skip
    return found


def decided(
    model: backbones.Model, splits: dict[str, LoadedSplit], classes: list[str], p: Any, row: dict[str, Any]
) -> list[dict]:
    """A row for the first of two classes, of which RECALL is wanted; none for more classes."""
    if len(classes) != 2:
        return []
    val, test = (outputs.predictions(both(model, splits[name], 4096)[1]) for name in ("val", "test"))
    wanted = p.calibrate.model_copy(update={"sets": [], "decision": Decision(label=classes[0], recall=RECALL)})
    made, targets = calibration.fitted(val, splits["val"].targets.numpy(), classes, wanted), splits["test"].targets.numpy()
    chosen = calibration.measured(test, targets, None, classes, made, len(val), p.evaluate, 0)["decision"]
    plain = measures.report(test, targets, None, classes, p.evaluate, 0)["per_class"][classes[0]]
    figures = {f"{name}{end}": each[name]["value"] for name in ("recall", "precision")
               for end, each in (("", chosen["metrics"]), ("_of_most_probable", plain))}  # fmt: skip
    return [row | {"label": classes[0], "wanted": RECALL, "threshold": chosen["threshold"], **figures}]


def told_apart(
    model: backbones.Model, splits: dict[str, LoadedSplit], others: dict[str, torch.Tensor], settings: Calibrate, ks: list[int],
    row: dict[str, Any],
) -> list[dict]:  # fmt: skip
    """A row for each other dataset and each number of neighbours."""
    known, asked = splits["train"], {name: both(model, splits[name], 4096) for name in ("val", "test")}
    kept = neighbours.bank(known.inputs(fit.drawn(len(known.targets), settings.num_examples), "none", None))
    sure = lambda given: outputs.predictions(given).max(1)  # noqa: E731
    own, found = sure(asked["test"][1]), []
    for other, far in others.items():
        with torch.inference_mode():
            unsure = 1 - np.concatenate([own, sure(model.head(far))])
        strange = np.repeat([0, 1], [len(own), len(far)])
        for k in ks:
            val, test, its = (neighbours.distances(each, kept, k).numpy() for each in (asked["val"][0], asked["test"][0], far))
            limit, _ = fit.limit_of(val, settings.false_alarms)
            found.append(row | {
                "other": other, "neighbours": k, "auroc": roc_auc_score(strange, np.concatenate([test, its])),
                "auroc_of_probability": roc_auc_score(strange, unsure), "called_unlike": (its > limit).mean(),
                "false_alarms": (test > limit).mean(),
            })  # fmt: skip
    return found


if __name__ == "__main__":
    main()
