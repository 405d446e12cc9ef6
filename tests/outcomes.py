"""What stages leave behind of trainings that never were: answers with planted differences, and the files around them.

All is written to the current folder, as evaluate, the trainings, advise and forgetting write it.
"""

import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib.core import cards, datasets, runs
from stages.lib.core.runs import Training
from stages.lib.evaluation import measure
from stages.lib.params.schema import Evaluate
from tests.tiny import CLASSES, FOLDER, FULL, PARAMS, data_card, model_card, write_params

NUM = 300  # test images
WEIGHTS = "ab" * 32  # sha256 of every model
HOP = FULL | {"init": "tiny", "data": "lines", "task": "classify", "strategy": "full"}
CACHE = tempfile.TemporaryDirectory()


def target(name: str, seed: int = 0) -> Training:
    return runs.target(name, seed, "lines")


def scratch(seed: int = 0) -> Training:
    return runs.scratch(seed, "lines")


def write_project() -> None:
    """dots (0.9) from tiny, tiny (0.8) and random weights (0.7): transfer and hop both help."""
    write_params(Path(), PARAMS)
    write_arm(target("dots"), 0.9, ["tiny", "dots", "dots-0"], val_loss=0.3)
    write_arm(target("tiny"), 0.8, ["tiny", "tiny-0"], val_loss=0.4)
    write_arm(scratch(), 0.7, ["0"], val_loss=0.2)
    hop = runs.hop("dots", "dots")
    shutil.copytree(evaluated(0.9, 0, 0), hop.evaluation)
    write_history(hop)
    write_controls()
    write_forgetting("dots", **{"target dots-0": (0.88, 0.05)})
    write_advice()
    write_leaks()
    counts = {split: dict.fromkeys(CLASSES, num) for split, num in (("train", 100), ("val", 20), ("test", NUM // 2))}
    for name in ("dots", "lines"):
        cards.write_data_card(runs.prepared(name), data_card(name, counts=counts))


def write_leaks(keys: tuple[str, ...] = (), trained_on: str = "lines", tested_on: str = "lines", action: str = "report") -> None:
    """What the stage leaks says: these test examples are in training data too."""
    words = f"{len(keys)} of {NUM} test images of {tested_on} are also in the training or validation data of {trained_on}"
    found = {"trained_on": trained_on, "tested_on": tested_on, "num_test": NUM, "num_same": len(keys), "num_nearly": 0,
             "keys": list(keys), "words": words if keys else ""}  # fmt: skip
    cards.write_json(runs.LEAKS / "leaks.json", {"action": action, "compared": [found], "left_out": {}})


def write_arm(training: Training, rate: float, chain: list[str], val_loss: float = 0.5, num_groups: int = 0) -> None:
    """A model that is right at `rate`, and its test; images are as hard for all models."""
    seed = int(training.name.rpartition("-")[2])
    shutil.copytree(evaluated(rate, seed, num_groups), training.evaluation, dirs_exist_ok=True)
    best = {"epoch": 2, "val_loss": val_loss, "val_accuracy": rate}
    card = model_card(training.name, kind=training.kind, chain=chain, data="lines", best=best,
                      licences=["our own"], sha256=WEIGHTS)  # fmt: skip
    cards.write_json(training.model / "card.json", card.model_dump())
    write_history(training, val_loss)


@functools.cache
def evaluated(rate: float, seed: int, num_groups: int) -> Path:
    """What evaluate writes of a model, its plots too; made once for all tests."""
    out = Path(CACHE.name) / f"{rate}-{seed}-{num_groups}"
    hard = np.random.default_rng(0).random(NUM)
    random = np.random.default_rng([seed, int(1000 * rate)])
    targets = np.random.default_rng(1).integers(2, size=NUM)
    right = hard + random.normal(0, 0.02, NUM) < rate
    of_one = np.where(right == targets, random.uniform(0.6, 0.99, NUM), random.uniform(0.01, 0.4, NUM))
    answers = np.stack([1 - of_one, of_one], axis=1).astype(np.float32)
    groups = np.array([f"module {index * num_groups // NUM}" for index in range(NUM)]) if num_groups else None
    keys = [f"{index:03}" for index in range(NUM)]
    split = datasets.PackedSplit(np.empty(0), None, [CLASSES[index] for index in targets], keys, groups)
    found, settings = measure.Predictions(answers, targets, split), Evaluate.model_validate(PARAMS["evaluate"])
    by_group = FOLDER | {"split": FOLDER["split"] | {"by_group": num_groups > 0}}
    report = measure.report(found, "classify", CLASSES, data_card("lines", settings=by_group), settings, WEIGHTS)
    measure.write(out, found, report, "classify", CLASSES, settings)
    return out


def write_advice(*warnings: str) -> None:
    cards.write_json(
        runs.ADVICE,
        {
            "warnings": list(warnings),
            "choice": "partial",
            "unsure": "",
            "preprocessing": [{"name": "half size"}],
            "statistics": [{"name": "BGR"}],
            "decided": True,
        },
    )


def write_history(training: Training, val_loss: float = 0.3) -> None:
    """Three epochs, of which the second was kept."""
    table = {"phase": 0, "epoch": [1, 2, 3], "lr_backbone": 0.1, "lr_head": 0.1, "train_loss": [0.9, 0.7, 0.6]}
    table |= {"val_loss": [0.8, val_loss, val_loss + 0.1], "val_accuracy": [0.5, 0.8, 0.7], "best": [True, True, False]}
    training.metrics.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(table).to_csv(training.metrics / "history.csv", index=False)
    proof = {
        "tensor": ["head.weight", "head.bias", "backbone.stem"],
        "moved": [True, True, False],
        "verdict": "ok",
        "phase": "all",
    }
    pd.DataFrame(proof).to_csv(training.metrics / "certificate.csv", index=False)
    write_run(training)


def write_controls(**rates: float) -> None:
    """What `controls` writes: the test of each of its arms, in whose names _ stands for a space, titled "arm: tfidf"."""
    arms = {name.replace("_", " "): rate for name, rate in rates.items()}
    for arm, rate in arms.items():
        shutil.copytree(evaluated(rate, 0, 0), runs.control(arm), dirs_exist_ok=True)
    cards.write_json(runs.CONTROLS / "controls.json", {arm: f"arm: {arm}" for arm in arms})
    cards.write_json(runs.CONTROLS / "shortcuts.json", {})


def write_run(training: Training, *warnings: str, epoch: int = 2) -> None:
    cards.write_json(training.metrics / "run.json", {
        "name": training.label, "warnings": warnings, "best": {"epoch": epoch}, "settings": {"strategy": "partial"},
        "model": WEIGHTS, "parent": None,
    })  # fmt: skip


def write_forgetting(hop: str, **later: tuple[float, float]) -> None:
    """What forgetting writes; for each later model its accuracy on the hop's task (before: 0.9) and the interval's half width."""
    rows = [
        (name, WEIGHTS, 0.9, after, after - 0.9, after - 0.9 - half, after - 0.9 + half, "", "balanced_accuracy", 0.5)
        for name, (after, half) in later.items()
    ]
    columns = ["model", "sha256", "before", "after", "change", "lower", "upper", "only", "metric", "chance"]
    table = pd.DataFrame(rows, columns=columns)
    path = runs.forgetting(hop) / "forgetting.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    shutil.copytree(evaluated(0.9, 0, 0), runs.hop(hop, "").evaluation, dirs_exist_ok=True)


def write_alphas(hop: str, **models: list[float]) -> None:
    """What forgetting writes where models come from wise_ft: accuracy on the hop's task along the line, for each."""
    rows = [{"model": name, "alpha": index / 4, "target": 0.5 + index / 10, "earlier": accuracy}
            for name, line in models.items() for index, accuracy in enumerate(line)]  # fmt: skip
    pd.DataFrame(rows).to_csv(runs.forgetting(hop) / "alpha.csv", index=False)
