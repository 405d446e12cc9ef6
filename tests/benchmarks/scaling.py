"""How time and memory of each stage grow with the data: python -m tests.benchmarks.scaling --fashion FOLDER

Takes so many images of Fashion-MNIST (all 70,000 are one pool), writes them as PNG files into a .tar, and runs each stage of a
pipeline with LeNet-5 (one epoch, one seed) on them; 70 % to train on, 10 % for validation, 20 % for the test. Counted are the
CPU time of the process and its children, and its peak memory. FOLDER holds the four files of Fashion-MNIST (.gz), as in Debian's
package dataset-fashion-mnist. Asserts nothing.
"""

import argparse
import gzip
import io
import math
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from tests.benchmarks.startup import commands, run

FIXED = 260  # images, whose time is taken as that of starting, and subtracted


def fashion(folder):
    """All images (70000, 28, 28) and their classes (70000,)."""
    files = [sorted(folder.rglob(f"*{name}*.gz")) for name in ("images-idx3", "labels-idx1")]
    images, labels = (
        [np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=skip) for file in found]
        for found, skip in zip(files, (16, 8), strict=True)
    )
    return np.concatenate(images).reshape(-1, 28, 28), np.concatenate(labels)


def packed(path, images, labels):
    """An archive with a folder for each class."""
    with tarfile.open(path, "w") as archive:
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            member = tarfile.TarInfo(f"{label}/{number:05}.png")
            member.size = file.tell()
            file.seek(0)
            archive.addfile(member, file)


def params(raw):
    """The default params, with these data and LeNet-5."""
    p = YAML(typ="safe").load(Path("params.yaml"))
    mnist = YAML(typ="safe").load(Path("stages/scenarios/mnist.yaml"))
    split = {"train": 0, "val": 0.1, "test": 0.2, "seed": 0, "by_group": False, "stratify": True}
    block = {"raw": str(raw), "reader": "image_folder", "group_from": "", "preprocessing": "lenet", "px": 28, "fit": "squash",
             "split": split, "limit": 0, "max_broken": 0, "duplicates": "drop", "licence": "MIT (Fashion-MNIST)"}  # fmt: skip
    p |= {"download": {}, "datasets": {"fashion": block}, "source": {"lenet": mnist["source"]["lenet"]}, "intermediate": {}}
    p |= {"target": {"data": "fashion", "test": "fashion", "task": "classify"}, "inits": ["lenet"], "seeds": [0]}
    p |= {"strategy": "full", "scratch": {"like": "lenet", "epochs": 1, "lr": 0.001}}
    p["strategies"]["full"] |= {"epochs": 1}
    p["training"] |= {"augment": "none", "warmup_epochs": 0, "batch_size": 64}
    return p


def measured(folder):
    """CPU seconds and peak memory (MB) of each stage, run in order in an empty folder."""
    for name in ("stages", "requirements.in"):
        (folder / name).symlink_to(Path(name).resolve())
    shutil.copy("dvc.yaml", folder)
    (folder / "metrics").mkdir()
    (folder / "metrics/check.txt").touch()
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True)
    run(folder, ["source", "lenet"])
    return {" ".join(words): run(folder, words) for words in commands(folder)}


def main():
    arguments = argparse.ArgumentParser("python -m tests.benchmarks.scaling")
    arguments.add_argument("--fashion", type=Path, required=True)
    arguments.add_argument("--sizes", type=int, nargs="*", default=[2600, 12500, 60000])
    arguments = arguments.parse_args()
    sizes = [FIXED, *arguments.sizes]
    images, labels = fashion(arguments.fashion)
    order = np.random.default_rng(0).permutation(len(images))
    found = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            packed(folder / "fashion.tar", images[order[:size]], labels[order[:size]])
            YAML().dump(params(folder / "fashion.tar"), folder / "params.yaml")
            found[size] = measured(folder)
        print(size, found[size], file=sys.stderr, flush=True)
    print(f"| stage | {' | '.join(f'{size:,} images: CPU s, MB' for size in sizes)} | exponent |")
    print("| --- |" + " ---: |" * (len(sizes) + 1))
    for stage in found[FIXED]:
        cells = [f"{found[size][stage][0]:.1f}, {found[size][stage][1]:.0f}" for size in sizes]
        print(f"| {stage} | {' | '.join(cells)} | {exponent({size: found[size][stage][0] for size in sizes})} |")


def exponent(seconds):
    """Of the growth between the two largest sizes, of what is more than starting takes; "" where that is next to nothing."""
    *_, one, other = seconds
    small, large = (seconds[size] - seconds[FIXED] for size in (one, other))
    return f"{math.log(large / small) / math.log(other / one):.2f}" if small > 0.3 and large > 0.3 else ""


if __name__ == "__main__":
    main()
