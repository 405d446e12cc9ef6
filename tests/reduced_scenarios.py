"""Run scenarios at a size that takes minutes on 2 cores: python -m tests.reduced_scenarios reviews accents images:resnet50

Their own weights, readers and stages; but few examples, one epoch, one seed and one chain. The data are made from templates and
tones, because the real ones are not in the repository. With a network of torchvision after the name, that one takes the place of
the network whose weights a package index has; its weights are random. Overwrites params.yaml and data/own.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from tests import systems, tiny

PARAMS, OWN = Path("params.yaml"), Path("data/own")


def reviews(folder: Path) -> None:
    """Three files in the layout of Sentiment Labelled Sentences."""
    folder.mkdir(parents=True)
    for number, name in enumerate(("amazon_cells", "imdb", "yelp")):
        table = systems.sentences((*systems.FILMS, name), seed=number, num=60)
        lines = table.text + "\t" + table.label.map({"bad": "0", "good": "1"})
        (folder / f"{name}_labelled.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def accents(folder: Path) -> None:
    """Tones in the layout of FSDD."""
    systems.digits(folder, speakers=("jackson", "theo", "nicolas", "lucas"))


def faces(folder: Path) -> None:
    """A folder of pictures for each person."""
    systems.people(folder, num=12, pictures=8)


def photos(folder: Path) -> None:
    """A folder for each class."""
    tiny.draw(folder, ("cross", "frame"), seed=0, num=60)


def xrays(folder: Path) -> None:
    """The same, in the names of patients: three images of each."""
    photos(folder)
    for path in sorted(folder.rglob("*.png")):
        kind = {"cross": 1, "frame": 2}[path.parent.name]
        path.rename(path.with_name(f"person{kind}{int(path.stem) // 3:02}_virus_{path.stem}.png"))


DATA = {"reviews": (reviews, "reviews"), "accents": (accents, "fsdd"), "faces": (faces, "orl_faces"),
        "images": (photos, "photos"), "products": (photos, "products"), "gentle": (photos, "photos"),
        "keras": (photos, "photos"), "xray": (xrays, "chest_xray")}  # fmt: skip


def reduce(values: dict[str, Any]) -> None:
    del values["inits"][1:], values["seeds"][1:]  # in place, which keeps the comments
    for dataset in values["datasets"].values():
        dataset |= {"num_strings": 40} if "num_strings" in dataset else {"limit": 120}
    others = [*values["intermediate"].values(), *values["alternatives"].values()]
    for block in [*values["strategies"].values(), *others, values["scratch"]]:
        block |= {name: 1 for name in ("epochs", "probe_epochs") if name in block}
    for block in [values["training"], *values["strategies"].values(), *others]:
        block |= {"warmup_epochs": 0.5} if block.get("warmup_epochs") else {}  # of the one epoch
    values["training"]["batch_size"] = 8  # some steps, as the first of a warm-up moves nothing
    values["evaluate"]["num_resamples"] = values["compare"]["num_resamples"] = 500


def use(network: str, values: dict[str, Any]) -> None:
    """Of torchvision, for ImageNet's weights: the way that these were trained, and random numbers."""
    source = values["source"]["imagenet"]
    kept = {name: source[name] for name in ("preprocessing", "licence")}
    values["source"]["imagenet"] = {
        "weights": "random",
        "seed": 0,
        "architecture": {"library": "torchvision", "model": network},
        **kept,
    }
    for dataset in values["datasets"].values():
        dataset["px"] = 64  # which is a ninth of the time


def run(name: str, network: str) -> None:
    """Set it up, run everything, and require a comparison and a certificate of each training."""
    subprocess.run(["git", "checkout", "-q", "--", str(PARAMS)], check=True)  # without what an earlier scenario left there
    subprocess.run([sys.executable, "-m", "stages", "scenario", name, "--force"], check=True, stdout=subprocess.DEVNULL)
    values = YAML().load(PARAMS)
    reduce(values)
    if network:
        use(network, values)
    YAML().dump(values, PARAMS)
    write, folder = DATA[name]
    shutil.rmtree(OWN / folder, ignore_errors=True)
    write(OWN / folder)
    Path("metrics/compare.json").unlink(missing_ok=True)
    subprocess.run(["dvc", "repro"], check=True)
    assert Path("metrics/compare.json").exists()
    trainings = [
        "scratch/0",
        *(f"target/{init}-0" for init in values["inits"]),
        *(f"intermediate/{hop}" for hop in values["intermediate"]),
        *(f"alternative/{name}-0" for name in values["alternatives"]),
    ]
    for training in trainings:
        certificate = pd.read_csv(Path("metrics") / training / "certificate.csv")
        assert set(certificate.verdict) == {"ok"}, training
    print(f"{name}: {', '.join(trainings)} are as declared")


if __name__ == "__main__":
    for asked in sys.argv[1:]:
        name, _, network = asked.partition(":")
        run(name, network)
