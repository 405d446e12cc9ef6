"""How often the best of 200 measured models is flattered by no more than the verdict says.

    python -m tests.benchmarks.inflation --folder PATH

Fits heads of `--models` random configurations (kind, strength, training images, features) to frozen features of models/imagenet
on a folder of images, with one folder for each class anywhere in it; and as many that differ in nothing but the training images
and features that they were given, which is the worst case. In each repeat some of the other images, drawn with replacement, are
the test that chooses the best model; how good that is, is known exactly, as all of those images are the population. What the
verdict would say comes from six of the models and their number. Needs a repository in which `dvc repro source` has run.
"""

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from stages.commands.verdict import SURE
from stages.lib.core import cards, runs
from stages.lib.evaluation import pairing, verdicts
from stages.lib.modalities.image import inputs
from stages.lib.modalities.image.variants import as_on_card
from stages.lib.networks import backbones
from stages.lib.tasks.classify.measures import METRICS
from stages.lib.tracking import ledger
from tests.benchmarks.preprocessing import KINDS

NUM_TRAIN, PRESENT, RESAMPLES, BATCH = 1000, 6, 300, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=500)
    parser.add_argument("--px", type=int, default=64)
    asked = parser.parse_args()
    features, labels = frozen(asked.folder, asked.px)
    order = np.random.default_rng(0).permutation(len(labels))
    train, rest = order[:NUM_TRAIN], order[NUM_TRAIN:]
    print("| models | accuracies | number | test images | flattered by | said, about | said, at most | at most that |")
    print("|" + " --- |" * 8)
    for title, configuration in (("random configurations", anything), ("equally good", the_same)):
        random = np.random.default_rng(1)
        answers = np.stack([
            answered(configuration(random), random, features[train], labels[train], features[rest])
            for _ in tqdm(range(asked.models), disable=None, leave=False)
        ])  # fmt: skip
        for num in (20, asked.models):
            for size in (500, len(rest) // 2):
                repeat(title, answers, labels[rest], num, size, asked.repeats)


def frozen(folder: Path, px: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, F) of the images in a folder, and the name of each one's class (N,)."""
    tensors, card = cards.read_model(runs.starting_point("imagenet"))
    model = backbones.build(backbones.asked_for(card.architecture, "example"), 1)
    backbones.load(model, tensors)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in KINDS)
    how, found = inputs.packing(px, "squash", card.preprocessing), []
    with torch.inference_mode():
        for start in tqdm(range(0, len(paths), BATCH), disable=None, leave=False):
            part = [inputs.pack(inputs.decode(Image.open(path)), **how) for path in paths[start : start + BATCH]]
            found.append(model.eval().backbone(as_on_card(torch.from_numpy(np.stack(part)), card.preprocessing)).numpy())
    return np.concatenate(found), np.array([path.parent.name for path in paths])


def anything(random: np.random.Generator) -> tuple[Any, int, float]:
    """A random head, on how many training images, and on which fraction of the features."""
    strength = 10 ** random.uniform(-5, 0)
    heads = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=30)),
        make_pipeline(StandardScaler(), RidgeClassifier(alpha=1 / strength)),
        KNeighborsClassifier(int(random.integers(1, 30)), metric="cosine"),
        make_pipeline(StandardScaler(), NearestCentroid()),
    ]
    return heads[random.integers(len(heads))], int(random.integers(100, NUM_TRAIN)), random.uniform(0.1, 1)


def the_same(random: np.random.Generator) -> tuple[Any, int, float]:
    return make_pipeline(StandardScaler(), RidgeClassifier(alpha=1000)), NUM_TRAIN // 2, 0.5


def answered(
    configuration: tuple[Any, int, float],
    random: np.random.Generator,
    features: np.ndarray,
    labels: np.ndarray,
    asked: np.ndarray,
) -> np.ndarray:
    """What a head, fitted to a random part of the training images and features, answers of others (N,)."""
    head, num, fraction = configuration
    rows = random.permutation(len(labels))[:num]
    columns = random.permutation(features.shape[1])[: int(fraction * features.shape[1])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found: np.ndarray = head.fit(features[np.ix_(rows, columns)], labels[rows]).predict(asked[:, columns])
    return found


def repeat(title: str, answers: np.ndarray, labels: np.ndarray, num: int, size: int, repeats: int) -> None:
    """Print how much the best of `num` models was flattered by tests of `size` images, and what was said of it."""
    random, rows = np.random.default_rng(2), []
    right, metric = answers == labels, METRICS["accuracy"]
    for _ in tqdm(range(repeats), disable=None, leave=False):
        models, drawn = random.permutation(len(right))[:num], random.integers(len(labels), size=size)
        test, truth = right[models][:, drawn], right[models].mean(1)
        best = test.mean(1).argmax()
        as_predictions = np.stack([1.0 - test[:PRESENT], test[:PRESENT]], axis=-1)  # right is class 1, whatever the label
        _, samples = pairing.resampled(metric, as_predictions, np.ones(size, int), None, num_resamples=RESAMPLES, seed=0)
        luck = verdicts.luck(list(samples.T))
        said = num, luck["standard_error"], luck["correlation"]
        rows.append([test[best].mean() - truth[best], ledger.flattery(*said), ledger.flattered_at_most(*said, SURE)])
    flattered, about, most = np.array(rows).T
    low, high = np.quantile(right.mean(1), [0.05, 0.95])
    told = f"{title} | {100 * low:.0f} to {100 * high:.0f} % | {num} | {size} | {100 * flattered.mean():+.2f}"
    print(f"| {told} | {100 * about.mean():+.2f} | {100 * most.mean():+.2f} | {(flattered <= most).mean():.1%} |", flush=True)


if __name__ == "__main__":
    main()
