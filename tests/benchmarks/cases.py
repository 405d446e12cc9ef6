"""Datasets for benchmarks, prepared as their stages would, and a training on a part of one of them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from stages.lib import artifacts, backbones, images, plugins, schema
from stages.lib.errors import UserError
from stages.lib.examples import Examples
from stages.lib.few import Fitted, train_on_few
from stages.lib.inference import features
from stages.lib.readers import image_folder
from stages.prepare import prepare

SPLIT = {"val": 0.1, "test": 0.25, "seed": 0, "by_group": False}  # of digits and folders, as of the datasets of params.yaml


class Folder(image_folder.Knobs, schema.Dataset):
    """A block of `datasets` for a folder with one folder for each class."""


class Data(NamedTuple):
    """A prepared dataset, and its frozen features."""

    folder: Path
    card: dict
    train: Examples
    val: Examples
    features: np.ndarray  # (N, D) of the training split


def packed(name: str, p, px: int, folders: dict[str, str], fabric, source: str, scratch: Path) -> Data:
    """Prepare a dataset as its stage would, and compute its features.

    Args:
        name: digits (scikit-learn), a block of params.yaml, or a key of `folders`.
        px: side of the packed images.
        folders: more datasets, each a folder or archive with one folder for each class.
        source: a model in models/, which says how images are resized and gives the features.
        scratch: folder for what is made.
    """
    tensors, start = artifacts.read_model(Path("models") / source)
    block = _block(name, p, px, folders, source, scratch)
    folder = scratch / "prepared" / name
    folder.mkdir(parents=True)
    how = start["preprocessing"]
    geometry = {"px": block.px, "fit": block.fit} | {key: how[key] for key in ("crop_pct", "interpolation")}
    card = prepare(name, block, geometry, folder)
    artifacts.write_json(folder / "card.json", card)
    train, val = (images.examples(artifacts.read_split(folder, split), how, fabric.device) for split in ("train", "val"))
    model = backbones.build({key: start["architecture"][key] for key in ("library", "model")}, len(card["classes"]))
    backbones.load(model, tensors)
    model.to(fabric.device, memory_format=torch.channels_last)
    frozen = features(fabric, model, train, p.training.batch_size).inputs(slice(None), "none", None).cpu().numpy()
    return Data(folder, card, train, val, frozen)


def _block(name: str, p, px: int, folders: dict[str, str], source: str, scratch: Path):
    """The block of a dataset as it would stand in params.yaml."""
    if name in p.datasets:
        return p.datasets[name].model_copy(update={"px": px, "preprocessing": source})
    if name == "digits":
        folders = {name: draw_digits(scratch / name)}
    elif name not in folders:
        raise UserError(f"--datasets: {name!r} is none. Allowed: digits, {', '.join(p.datasets)}; or --folder {name}=PATH.")
    return Folder(raw=str(folders[name]), reader="image_folder", group_from="", preprocessing=source, px=px, fit="squash",
                  split=SPLIT, limit=0, max_broken=0.01, duplicates="drop", licence="not stated")  # fmt: skip


def draw_digits(folder: Path) -> Path:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 pixels, as files; packing scales them up."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(label) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).round().astype(np.uint8)).save(path)
    return folder


def train(fabric, p, source: str, data: Data, strategy: str, block, num: int, seed: int) -> Fitted:
    """Train on `num` examples as the target would, from a model in models/ (the strategy scratch from random weights).

    Args:
        block: of the strategy, as it stands in params.yaml.
    """
    tensors, start = artifacts.read_model(Path("models") / source)
    return train_on_few(
        fabric, None if strategy == "scratch" else tensors, start, data.card, data.train, data.val,
        num=num, strategy=strategy, knobs=plugins.knobs(block, plugins.load("strategies", strategy)),
        training=plugins.training(p.training, block), loss_jump=p.checks.loss_jump, seed=seed,
    )  # fmt: skip


def names(text: str) -> list[str]:
    """What stands between commas, of a command line."""
    return [name for name in text.split(",") if name]


def numbers(text: str) -> list[int]:
    """Whole numbers between commas."""
    return [int(number) for number in names(text)]
