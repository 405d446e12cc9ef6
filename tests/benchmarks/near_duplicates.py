"""How many planted copies of test images are found in other images, and how many of those that are no copies.

Of each set some images are the test and the others the training data. Copies of the test images are planted among the others:
resized (0.7 to 1.5 of each side), cropped (90 % of each side, anywhere), recompressed (JPEG 50) or mirrored.

    python -m tests.benchmarks.near_duplicates --set NAME=PATH --set NAME=PATH     (a folder of images, or FILE.npz:ARRAY)
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from stages.lib.modalities.image import inputs
from stages.lib.modalities.image.near_duplicates import find, fingerprint
from stages.lib.params import read as params

KINDS = (".jpg", ".jpeg", ".png", ".pgm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", required=True, action="append", help="NAME=PATH, or NAME=FILE.npz:ARRAY of grey images")
    parser.add_argument("--tests", type=int, default=500, help="test images of each, at most a third")
    parser.add_argument("--images", type=int, default=5000, help="images of each in all, at most")
    parser.add_argument("--seed", type=int, default=0, help="draws the tests, the others and the changes")
    arguments = parser.parse_args()
    settings = params.load("leaks").leaks
    how = {"correlation": settings.correlation, "nearness": settings.nearness}
    print(f"| set | test images | others | not planted, found | {' | '.join(CHANGES)} | s |\n|" + " --- |" * (5 + len(CHANGES)))
    for each in arguments.set:
        name, _, path = each.partition("=")
        images = read(path)
        rows = np.random.default_rng(arguments.seed).permutation(len(images))[: arguments.images]
        num = min(arguments.tests, len(rows) // 3)
        tests, others = ([images[row] for row in part] for part in (rows[:num], rows[num:]))
        prints = np.stack([fingerprint(image) for image in tests]), np.stack([fingerprint(image) for image in others])
        began = time.perf_counter()
        clean = {match.test for match in find(*prints, **how)}
        took = time.perf_counter() - began
        recalls = []
        for change in CHANGES.values():
            random = np.random.default_rng(arguments.seed + 1)
            copies = np.stack([fingerprint(change(image, random)) for image in tests])
            found = {match.test for match in find(prints[0], np.concatenate([prints[1], copies]), **how)
                     if match.other == len(others) + match.test}  # fmt: skip
            recalls.append(f"{len(found) / num:.1%}")
        print(f"| {name} | {num} | {len(others)} | {len(clean) / num:.1%} | {' | '.join(recalls)} | {took:.0f} |", flush=True)


def read(path: str) -> list[Image.Image]:
    """Decoded images of a folder or of an array in a .npz file."""
    file, _, array = path.rpartition(":")
    if file:
        return [inputs.decode(Image.fromarray(pixels)) for pixels in np.load(file)[array]]
    files = sorted(each for each in Path(path).rglob("*") if each.suffix.lower() in KINDS)
    return [inputs.decode(each.read_bytes()) for each in files]


def resized(image: Image.Image, random: np.random.Generator) -> Image.Image:
    factor = random.uniform(0.7, 1.5)
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BILINEAR)


def cropped(image: Image.Image, random: np.random.Generator) -> Image.Image:
    width, height = round(0.9 * image.width), round(0.9 * image.height)
    left, top = random.integers(image.width - width + 1), random.integers(image.height - height + 1)
    return image.crop((left, top, left + width, top + height))


def recompressed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file).convert("RGB")


def mirrored(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(image)


CHANGES: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "resized": resized, "cropped": cropped, "JPEG 50": recompressed, "mirrored": mirrored,
}  # fmt: skip


if __name__ == "__main__":
    main()
