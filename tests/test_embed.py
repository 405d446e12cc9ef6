"""People through the whole pipeline, as a user runs it: those of the test are in no training."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import FULL, PARAMS, TRAINING, Repo, new_repo

pytestmark = pytest.mark.slow
TRIPLET = {"loss": "triplet", "margin": 0.2, "pictures": 3, "dim": 8}
COSFACE = {"loss": "cosface", "margin": 0.2, "scale": 16, "proxy_lr": 0.05, "pictures": 3, "dim": 0}


def draw(folder: Path, people: int = 20, pictures: int = 6, seed: int = 0) -> None:
    """A folder of pictures for each person: stripes of their own, in light of any colour."""
    random = np.random.default_rng(seed)
    for person in range(people):
        (folder / f"person {person:02}").mkdir(parents=True)
        angle, wave = random.uniform(0, np.pi), random.uniform(2, 6)
        for index in range(pictures):
            x, y = np.meshgrid(*[np.linspace(0, 1, 40)] * 2)
            stripes = np.sin(2 * np.pi * wave * (x * np.cos(angle) + y * np.sin(angle)) + random.uniform(0, 6))
            pixels = 128 + 60 * stripes[..., None] * random.uniform(0.5, 1, 3) + random.normal(0, 20, (40, 40, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"person {person:02}/{index}.png")


def values() -> dict:
    block = PARAMS["datasets"]["lines"] | {"raw": "faces", "group_from": "([^/]+)/[^/]+$"}
    block["split"] = {"val": 0.2, "test": 0.3, "seed": 0, "by_group": True, "stratify": False}
    other = {"data": "faces", "strategy": "full", "epochs": 2, "lr": 0.003, "head_lr": 0.003, "metric_learning": COSFACE}
    return copy.deepcopy(PARAMS) | {
        "training": TRAINING | {"batch_size": 12, "label_smoothing": 0, "balance": "sampling", "metric_learning": TRIPLET},
        "datasets": {"faces": block}, "intermediate": {}, "target": {"data": "faces", "test": "faces", "task": "embed"},
        "inits": ["tiny"], "seeds": [0, 1], "strategy": "full", "baselines": {"pixels": {"components": 10}},
        "strategies": {"full": FULL | {"epochs": 4, "lr": 0.003}, "frozen": {}},
        "alternatives": {"softmax": other, "frozen": {"data": "faces", "strategy": "frozen"}},
        "compare": PARAMS["compare"] | {"metric": "map_at_r"},
    }  # fmt: skip


@pytest.fixture(scope="session")
def faces(shared) -> Repo:
    """Triplets, a softmax and frozen features, through `dvc repro`."""

    def fill(folder):
        draw(folder / "repo/faces")
        executed = new_repo(folder / "repo", values()).ran("repro")
        (folder / "executed.json").write_text(json.dumps(sorted(executed)))

    folder = shared("faces", fill)
    repo = Repo(folder / "repo")
    repo.executed = set(json.loads((folder / "executed.json").read_text()))
    return repo
