"""Datasets for benchmarks, prepared as their stages would, and a training on a part of one of them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel

from stages.lib.advice.drift import Drift
from stages.lib.core import cards, plugins, runs
from stages.lib.core.plugins import overridden
from stages.lib.data import packing
from stages.lib.errors import UserError
from stages.lib.evaluation import measure
from stages.lib.learning_curve.train import Fitted, train_on_subset
from stages.lib.modalities.image import Packing, inputs
from stages.lib.networks import backbones
from stages.lib.networks.inference import features
from stages.lib.params.schema import Dataset
from stages.lib.readers import image_folder
from stages.lib.training import hop
from stages.lib.training.phases import Data as Splits

TASK = "classify"
DRIFT_IMAGES = 96
SPLIT = {
    "train": 0,
    "val": 0.1,
    "test": 0.25,
    "seed": 0,
    "by_group": False,
    "stratify": True,
}


class Folder(image_folder.Params, Packing, Dataset):
    """A block of `datasets` for a folder with one folder for each class."""


class Data(NamedTuple):
    """A prepared dataset, and its frozen features."""

    folder: Path
    card: cards.DataCard
    splits: Splits  # training and validation
    names: list[str]  # its classes
    features: np.ndarray  # (N, D) of the training split
    drift: float | None  # of some of it, from the data that the weights were trained on


def packed(
    name: str, p: Any, px: int, folders: dict[str, str], fabric: Any, source: str, scratch: Path, split_seed: int = 0
) -> Data:  # fmt: skip
    """Prepare a dataset as its stage would, and compute its features.

    Args:
        name: digits (scikit-learn), a block of params.yaml, or a key of `folders`.
        px: side of the packed images.
        folders: more datasets, each a folder or archive with one folder for each class.
        source: a model in models/, which says how images are resized and gives the features.
        scratch: folder for what is made.
        split_seed: draws the splits of `folders` and digits.
    """
    tensors, start = cards.read_model(runs.starting_point(source))
    block = _block(name, p, px, folders, source, scratch, split_seed)
    folder = scratch / "prepared" / str(split_seed) / name
    folder.mkdir(parents=True)
    how = inputs.packing(block.px, block.fit, start.preprocessing)
    card = packing.pack(name, block, "image", how, {}, folder, scratch / "fingerprints" / name)
    cards.write_data_card(folder, card)
    splits, classes = hop.load(folder, card, TASK, p.training, start.preprocessing | card.packing, fabric.device, {})
    model = backbones.build({key: start.architecture[key] for key in ("library", "model")}, len(classes))
    backbones.load(model, tensors)
    model.to(fabric.device, memory_format=torch.channels_last)
    drift = Drift(model.backbone)
    sample = torch.randperm(len(splits.train.targets), generator=torch.Generator().manual_seed(0))[:DRIFT_IMAGES]
    with torch.inference_mode():
        for rows in sample.split(32):
            model.backbone.eval()(splits.train.inputs(rows, "none", None))
    far = drift.end()
    frozen = features(fabric, model, splits.train, p.training.batch_size)
    everything = frozen.inputs(torch.arange(len(frozen.targets)), "none", None)
    return Data(folder, card, splits, classes, everything.cpu().numpy(), far)


def _block(name: str, p: Any, px: int, folders: dict[str, str], source: str, scratch: Path, seed: int) -> Any:
    """The block of a dataset as it would stand in params.yaml."""
    if name in p.datasets:
        return p.datasets[name].model_copy(update={"px": px, "preprocessing": source})
    if name == "digits":
        folders = {name: draw_digits(scratch / name)}
    elif name not in folders:
        raise UserError(f"--datasets: {name!r} is none. Allowed: digits, {', '.join(p.datasets)}; or --folder {name}=PATH.")
    return Folder(raw=str(folders[name]), reader="image_folder", group_from="", preprocessing=source, px=px, fit="squash",
                  split=SPLIT | {"seed": seed}, limit=0, max_broken=0.01, duplicates="drop", licence="not stated")  # fmt: skip


def draw_digits(folder: Path) -> Path:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 pixels, as files; packing scales them up."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(label) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).round().astype(np.uint8)).save(path)
    return folder


def train(fabric: Any, p: Any, source: str, data: Data, strategy: str, block: BaseModel, num: int, seed: int) -> Fitted:
    """Train on `num` examples as the target would, from a model in models/ (the strategy scratch from random weights).

    Args:
        block: of the strategy, as it stands in params.yaml.
    """
    tensors, start = cards.read_model(runs.starting_point(source))
    return train_on_subset(
        fabric, None if strategy == "scratch" else tensors, start, data.card, data.splits, data.names,
        task=TASK, num=num, strategy=strategy, hyperparameters=plugins.arguments(block, plugins.load("strategies", strategy)),
        options=overridden(p.training, block), loss_jump=p.checks.loss_jump, seed=seed,
    )  # fmt: skip


def tested(fitted: Fitted, data: Data, p: Any) -> float:
    """Accuracy on the test split."""
    model, device = measure.network(fitted.tensors, fitted.card, p.device)
    found = measure.predictions(model, device, fitted.card, data.folder, p.evaluate.batch_size)
    return float((found.values.argmax(1) == found.targets).mean())


def names(text: str) -> list[str]:
    """What stands between commas, of a command line."""
    return [name for name in text.split(",") if name]


def numbers(text: str) -> list[int]:
    """Whole numbers between commas."""
    return [int(number) for number in names(text)]
