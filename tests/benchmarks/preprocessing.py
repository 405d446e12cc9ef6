"""How often the preprocessing test finds a wrong card, and how often it doubts a right one.

Each source in models/ has the right card. The faults: mean and std of others, none, swapped channels, and numbers from 0 to 255.
Many subsets of each set's images are looked at, as advise looks at a target's training images. No labels are needed.

    python -m tests.benchmarks.preprocessing --sources imagenet,mobilenet --folder NAME=PATH --folder NAME=PATH
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from stages.lib.advice import remembered
from stages.lib.advice.preprocessing import possible
from stages.lib.core import cards, runs
from stages.lib.modalities.image import inputs
from stages.lib.modalities.image.variants import NORMALISATIONS, VARIANTS, as_on_card
from stages.lib.networks import backbones
from tests.benchmarks.cases import names

KINDS = (".jpg", ".jpeg", ".png", ".pgm")
BATCH = 32
MARGIN, CONFIDENCE, NUM_RESAMPLES = 0.05, 0.95, 2000  # those of params.yaml, but for the number (10,000)
OTHER = {"mean and std 0.5": "ImageNet mean and std", "ImageNet mean and std": "mean and std 0.5"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", required=True, type=names, help="models in models/, with BatchNorm and the right cards")
    parser.add_argument("--folder", required=True, action="append", help="NAME=PATH of a folder of images, in any subfolders")
    parser.add_argument("--images", type=int, default=400, help="of each folder, at most")
    parser.add_argument("--subset", type=int, default=200, help="images of each look")
    parser.add_argument("--draws", type=int, default=10, help="looks at each set, source and card")
    parser.add_argument("--px", type=int, default=160)
    arguments = parser.parse_args()
    print("| source | images | card | nats, card | nats, best | alarm | right one named |\n|" + " --- |" * 7)
    for source in arguments.sources:
        tensors, card = cards.read_model(runs.starting_point(source))
        model = backbones.build(backbones.asked_for(card.architecture, "example"), 1)
        backbones.load(model, tensors)
        for each in arguments.folder:
            name, _, path = each.partition("=")
            packed = pack(Path(path), arguments.images, arguments.px, card.preprocessing)
            look(source, name, model.eval().backbone, packed, card.preprocessing, arguments)


def pack(folder: Path, most: int, px: int, preprocessing: dict[str, Any]) -> torch.Tensor:
    """Images (N, px, px, 3) uint8, drawn at random."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in KINDS)
    chosen = np.sort(np.random.default_rng(0).permutation(len(paths))[:most])
    how = inputs.packing(px, "squash", preprocessing)
    return torch.from_numpy(np.stack([inputs.pack(inputs.decode(Image.open(paths[row])), **how) for row in chosen]))


def look(
    source: str, name: str, backbone: Any, packed: torch.Tensor, right: dict[str, Any], arguments: argparse.Namespace
) -> None:
    """Print a line for each card: how often of some subsets there is a warning, and how often it names the right card."""
    truth = next(
        key for key, (mean, std) in NORMALISATIONS.items() if np.allclose([*mean, *std], [*right["mean"], *right["std"]])
    )
    found = {"right": (right, packed, ""), "BGR": (right, packed.flip(3), "BGR")}
    for wrong in (OTHER[truth], "no normalisation", "0 to 255"):
        mean, std = NORMALISATIONS[wrong]
        found[wrong] = right | {"mean": mean, "std": std}, packed, truth
    for title, (card, images, answer) in found.items():
        tried = possible(VARIANTS, as_on_card, images, card)
        if title == "BGR" and "BGR" not in tried:
            continue  # grey images
        ways = {"card": as_on_card} | {variant: each.prepare for variant, each in tried.items() if each.values}
        looked = {way: remembered.moments(backbone, batches(images, card, prepare)) for way, prepare in ways.items()}
        told, rows = [], []
        for draw in range(arguments.draws):
            subset = np.random.default_rng(draw).permutation(len(images))[: arguments.subset]
            rows = remembered.compare(
                looked["card"][0], {way: seen[subset] for way, (_, seen) in looked.items()},  # type: ignore[index, misc]
                groups=None, confidence=CONFIDENCE, num_resamples=NUM_RESAMPLES, seed=draw,
            )  # fmt: skip
            told += remembered.words(rows, VARIANTS, MARGIN)
        named = sum(f"With {answer} the" in text for text in told)
        nats = [rows[0].divergence, min(row.divergence for row in rows[1:])]
        print(
            f"| {source} | {name} | {title} | {nats[0]:.3f} | {nats[1]:.3f} | {len(told)} of {arguments.draws} | {named} |",
            flush=True,
        )


def batches(images: torch.Tensor, card: dict[str, Any], prepare: Callable[..., Any]) -> list[Callable[[], Any]]:
    return [lambda part=part: prepare(part, card) for part in images.split(BATCH)]


if __name__ == "__main__":
    main()
