"""A small real repository of this pipeline: its own images, a tiny backbone, real DVC, git and MLflow.

The one copy of the params and data that tests use.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from stages.lib.core import cards
from stages.lib.params.schema import TrainingOptions
from tests import warm

ROOT = Path(__file__).resolve().parents[1]
TRAINING = {"optimizer": "adamw", "momentum": 0.9, "weight_decay": 0.05, "schedule": "cosine", "warmup_epochs": 0.5,
            "warmup": "all", "batch_size": 8, "label_smoothing": 0.1, "balance": "none", "augment": "light", "mixup": 0,
            "cutmix": 0, "clip_norm": 0, "ema": 0, "patience": 30,
            "head": {"hidden": 0, "dropout": 0, "zero": False, "keep": False}, "metric_learning": None}  # fmt: skip
FULL = {"epochs": 2, "lr": 0.01, "head_lr": 0.01}
HOW = {"px": 32, "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
TINY = {"weights": "random", "seed": 0, "architecture": {"library": "timm", "model": "test_resnet"},
        "preprocessing": HOW, "licence": "none"}  # fmt: skip
FOLDER = {"reader": "image_folder", "group_from": "", "preprocessing": "tiny", "px": 32, "fit": "squash", "limit": 0,
          "split": {"train": 0, "val": 0.2, "test": 0.3, "seed": 0, "by_group": False, "stratify": True}, "max_broken": 0.0,
          "duplicates": "refuse", "licence": "our own"}  # fmt: skip
PARAMS = {
    "modality": "image",
    "seed": 0,
    "strategy": "partial",
    "strategies": {
        "feature_extraction": {"epochs": 3, "head_lr": 0.05},
        "partial": FULL | {"trainable": {"last_blocks": 2}},
        "full": FULL,
    },
    "training": TRAINING,
    "checks": {"loss_jump": 3, "params_per_example": 20000, "forgetting": 0.1, "shortcut": 0.8, "use": "any"},
    "device": {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "precision": "auto"},
    "download": {},
    "datasets": {"dots": FOLDER | {"raw": "images/dots"}, "lines": FOLDER | {"raw": "images/lines"}},
    "source": {"tiny": TINY},
    "intermediate": {"dots": FULL | {"init": "tiny", "data": "dots", "task": "classify", "strategy": "full"}},
    "target": {"data": "lines", "test": "lines", "task": "classify"},
    "inits": ["dots", "tiny"],
    "seeds": [0],
    "scratch": {"epochs": 2, "lr": 0.01, "like": "tiny"},
    "alternatives": {},
    "baselines": {},
    "leaks": {"action": "report", "correlation": 0.9, "nearness": 0.35},
    "advise": {"num_examples": 100, "neighbours": 3, "preprocessing": "warn", "margin": 0.05, "confidence": 0.95},
    "calibrate": {"decision": None, "sets": [0.5, 0.75], "false_alarms": 0.25, "neighbours": 2, "num_examples": 20},
    "evaluate": {"batch_size": 16, "num_resamples": 200, "confidence": 0.95, "ece_bins": 5, "num_shown": 3},
    "compare": {"metric": "accuracy", "num_resamples": 500, "confidence": 0.95, "margin": 0.02, "looks": []},
}
PARAMS = json.loads(json.dumps(PARAMS))  # no block is another's object


def draw(folder: Path, kinds: tuple[str, str], seed: int, num: int = 24) -> None:
    """Images of noise with a bright cross or a dark frame, a class folder each."""
    random = np.random.default_rng(seed)
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
        for index in range(num):
            pixels = random.integers(60, 180, (40, 40, 3), dtype=np.uint8)
            if kind == kinds[0]:
                pixels[18:22] = 250
            else:
                pixels[:3] = 5
            Image.fromarray(pixels).save(folder / kind / f"{index:03}.png")


def write_params(repo: Path, values: dict) -> None:
    YAML(typ="safe").dump(values, repo / "params.yaml")


class Repo:
    """A repository in a folder, and the commands that a user types in it."""

    def __init__(self, path: Path):
        self.path = path
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_"))}
        self.environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                             "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
                             "GIT_COMMITTER_EMAIL": "a@b"}  # fmt: skip

    def run(self, *command: str, ok: bool = True, **environment: str) -> str:
        if command[0] in ("dvc", "python") and not environment:
            environment["PATH"] = os.pathsep.join([warm.path(), self.environment["PATH"]])
        done = subprocess.run(command, cwd=self.path, env=self.environment | environment, capture_output=True, text=True)
        output = done.stdout + done.stderr
        assert (done.returncode == 0) == ok, output[-5000:]
        return output

    def ran(self, *command: str, **environment: str) -> set[str]:
        """Run a dvc command; the stages that it executed."""
        output = self.run("dvc", *command, **environment)
        return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")}

    def query(self, sql: str) -> list[tuple]:
        """Ask its MLflow store."""
        with sqlite3.connect(self.path / "mlflow.db") as store:
            return store.execute(sql).fetchall()

    def sha256(self, model: str) -> str:
        """Of the weights of a model, "target/dots-0"."""
        return json.loads((self.path / "models" / model / "card.json").read_text())["sha256"]

    def status(self) -> dict[str, list]:
        """The stages that the next `dvc repro` would run, as far as is known now, and why."""
        return json.loads(self.run("dvc", "status", "--json"))


def new_repo(path: Path, values: dict) -> Repo:
    """A copy of the project with its own small images and params, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "metrics/", "dvc.lock")):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path / name)
    for folder in ("intermediate", "forgetting", "alternative"):
        (path / "metrics" / folder).mkdir(parents=True)
        (path / "metrics" / folder / ".gitkeep").touch()
    draw(path / "images/dots", ("cross", "frame"), seed=0)
    draw(path / "images/lines", ("frame", "cross"), seed=1)
    write_params(path, values)
    repo = Repo(path)
    repo.run("git", "init", "-q")
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "start")
    return repo


def options(**changes: Any) -> TrainingOptions:
    """The options of a training as PARAMS have them, but for some changes."""
    return TrainingOptions.model_validate(TRAINING | changes)


PX = {"test_resnet": 32, "test_efficientnet": 32, "test_vit": 160}  # timm's tiny networks, and the side of the images they take
SMALL = {"lenet5": 28, "mobilefacenet": 112}  # those of the library small


def architecture(name: str) -> dict[str, str]:
    """Of one of these networks."""
    return {"library": "small" if name in SMALL else "timm", "model": name}


def network(name: str = "test_resnet", seed: int = 0, num_outputs: int = 2, head: dict | None = None):
    """A tiny network with random weights; the last scale of each residual branch is not the 0 that it starts with, behind which
    nothing would get a gradient."""
    import torch

    from stages.lib.networks import backbones

    torch.manual_seed(seed)
    model = backbones.build(architecture(name) | {"head": head or {}}, num_outputs)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and not module.weight.any():
            torch.nn.init.constant_(module.weight, 0.5)
    return model


def noise(num: int = 24, seed: int = 0, px: int = 32, distance: float = 0.5, channels: int = 3):
    """A loaded split of two classes in turn: images of noise around two means. Any augmentation makes each image brighter by its
    own draw."""
    import torch

    from stages.lib.core.contracts import LoadedSplit
    from stages.lib.modalities.image.inputs import mix

    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(num) % 2
    images = torch.randn(num, channels, px, px, generator=generator) + targets[:, None, None, None] * distance

    def inputs(indices, level, draws):
        return images[indices] if level == "none" else images[indices] * (1 + draws[:, :1, None, None])

    return LoadedSplit(inputs, targets, num_draws=3, mix=mix)


def seen(network: str, num: int = 24, seed: int = 0):
    """The same as a network takes it."""
    return noise(num, seed, (PX | SMALL)[network], channels=1 if network == "lenet5" else 3)


CLASSES = ["cross", "frame"]
RESNET = TINY["architecture"]
PACKING = {"px": 32, "fit": "squash", "channels": 3, "crop_pct": 1.0, "interpolation": "bilinear"}


def data_card(name: str, **changes: Any) -> cards.DataCard:
    """The card of prepared images, but for some changes."""
    values = {"name": name, "modality": "image", "labels": CLASSES, "counts": {}, "packing": PACKING, "preprocessing_of": "tiny",
              "licence": "our own", "reader": "image_folder", "settings": FOLDER, "given_splits": [], "broken": [],
              "duplicates_dropped": [], "notes": [], "sha256": {}}  # fmt: skip
    return cards.DataCard.model_validate(values | changes)


def model_card(name: str, **changes: Any) -> cards.ModelCard:
    """The card of a model that was trained on prepared images, but for some changes."""
    values = {"kind": "target", "name": name, "modality": "image", "task": "classify", "architecture": RESNET,
              "preprocessing": HOW | PACKING, "output_names": CLASSES, "code": "", "chain": ["tiny", name],
              "licences": []}  # fmt: skip
    return cards.ModelCard.model_validate(values | changes)


def shades(num: int, px: int = 32, seed: int = 0) -> np.ndarray:
    """Images (N, px, px, 3) of noise around colours of their own, so that a network's answers differ."""
    random = np.random.default_rng(seed)
    colours = random.uniform(40, 215, (num, 1, 1, 3))
    return np.clip(random.normal(colours, 40, (num, px, px, 3)), 0, 255).astype(np.uint8)
