"""People through the whole pipeline, as a user runs it: those of the test are in no training."""

import base64
import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests import systems
from tests.systems import read, serving
from tests.tiny import FULL, PARAMS, TRAINING, Repo, new_repo

pytestmark = pytest.mark.slow
TRIPLET = {"loss": "triplet", "margin": 0.2, "pictures": 3, "dim": 8}
COSFACE = {"loss": "cosface", "margin": 0.2, "scale": 16, "proxy_lr": 0.05, "pictures": 3, "dim": 0}


def values() -> dict:
    block = PARAMS["datasets"]["lines"] | {"raw": "faces", "group_from": "([^/]+)/[^/]+$"}
    block["split"] = {"train": 0, "val": 0.2, "test": 0.3, "seed": 0, "by_group": True, "stratify": False}
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
        systems.people(folder / "repo/faces")
        executed = new_repo(folder / "repo", values()).ran("repro")
        (folder / "executed.json").write_text(json.dumps(sorted(executed)))

    folder = shared("faces", fill)
    repo = Repo(folder / "repo")
    repo.executed = set(json.loads((folder / "executed.json").read_text()))
    return repo


def test_every_stage_runs_and_what_was_declared_moved(faces):
    assert {
        "target@tiny-0",
        "target@tiny-1",
        "alternative@softmax-0",
        "alternative@frozen-1",
        "scratch@0",
        "controls",
    } <= faces.executed
    assert all(verdicts == {"ok"} for verdicts in systems.certified(faces).values())
    softmax = pd.read_csv(faces.path / "metrics/alternative/softmax-0/certificate.csv").set_index("tensor")
    assert softmax.declared["criterion.softmax.W"] == "not shipped" and set(softmax.verdict) == {"ok"}
    frozen = pd.read_csv(faces.path / "metrics/alternative/frozen-0/certificate.csv")
    assert set(frozen.declared) == {"frozen"} and not frozen.moved.any()
    assert "0 findings" in faces.run("python", "-m", "stages", "audit")


def test_the_people_of_each_split_are_others(faces):
    tables = [pd.read_csv(faces.path / f"data/prepared/faces/{split}/table.csv") for split in ("train", "val", "test")]
    people = [set(table.label) for table in tables]
    assert sum(map(len, people)) == len(set.union(*people)) == 20
    assert all((table.label == table.group).all() for table in tables)


def test_arms_of_different_widths_are_compared_over_people(faces):
    compared = read(faces, "metrics/compare.json")
    found = compared["map_at_r"]
    assert set(found) == {"tiny", "softmax", "frozen", "scratch", "pixels"} and found["tiny"] > found["pixels"] + 0.3
    widths = {name: len(read(faces, f"models/{name}/card.json")["output_names"])
              for name in ("target/tiny-0", "alternative/softmax-0", "alternative/frozen-0")}  # fmt: skip
    assert widths == {"target/tiny-0": 8, "alternative/softmax-0": 96, "alternative/frozen-0": 96}
    report = read(faces, "metrics/evaluate/target-tiny-0/report.json")
    assert report["num_groups"] == report["people"] == 6 and report["split_by_group"]
    for entry in report["metrics"].values():
        assert 0 <= entry["lower"] <= entry["value"] <= entry["upper"] <= 1
    verdict = (faces.path / "metrics/verdict.md").read_text()
    assert "6 groups, which are resampled whole" in verdict


def test_the_report_shows_pairs_and_the_roc_curve(faces):
    page = systems.Page(faces.path / "metrics/report.html")
    assert page.foreign == [] and page.tags.count("img") >= 6 and "test images" in page.text


def test_a_gallery_says_who_it_is_or_nobody(faces, tmp_path, call):
    """New pictures of people of the test, half of whom are in the gallery."""
    table = pd.read_csv(faces.path / "data/prepared/faces/test/table.csv")
    people = sorted(set(table.label))
    known, gallery, asked = people[::2], tmp_path / "gallery", tmp_path / "asked"
    asked.mkdir()
    for person in people:
        pictures = sorted((faces.path / "faces" / person).glob("*.png"))
        if person in known:
            shutil.copytree(faces.path / "faces" / person, gallery / person, ignore=lambda folder, names: ["0.png", "1.png"])
        for picture in pictures[:2]:
            shutil.copy(picture, asked / f"{person} {picture.name}")
    call(faces, "predict", str(asked), "--gallery", str(gallery), "--csv", str(tmp_path / "out.csv"))
    found = pd.read_csv(tmp_path / "out.csv")
    right = [Path(row.image).name.startswith(row.nearest) for row in found.itertuples() if Path(row.image).name[:9] in known]
    assert np.mean(right) >= 0.8 and set(found.person) <= {*known, "nobody"}
    limit = read(faces, f"models/target/{read(faces, 'metrics/compare.json')['ship']}/card.json")["best"]["val_threshold"]
    assert ((found.similarity > limit) == (found.person != "nobody")).all()

    call(faces, "predict", str(asked), "--csv", str(tmp_path / "plain.csv"))
    plain = pd.read_csv(tmp_path / "plain.csv")
    assert np.allclose(plain.filter(regex=r"^e\d").pow(2).sum(axis=1), 1, atol=1e-4)
    assert "holds no folders with files" in call(faces, "predict", str(asked), "--gallery", str(asked), ok=False)
    (gallery / known[0] / "broken.png").write_bytes(b"no picture")
    assert "1 of 25 files could not be read" in call(faces, "predict", str(asked), "--gallery", str(gallery), ok=False)


def test_the_served_model_gives_the_embedding_of_the_test(faces, tmp_path):
    table = pd.read_csv(faces.path / "metrics/evaluate/target-tiny-0/predictions.csv")
    picture = (faces.path / "faces" / table.key[0]).read_bytes()
    with serving(faces, tmp_path) as ask:
        answer = ask("image", [base64.b64encode(picture).decode()])
    ship = read(faces, "metrics/compare.json")["ship"]
    expected = pd.read_csv(faces.path / f"metrics/evaluate/target-{ship}/predictions.csv").filter(regex=r"^e\d").iloc[0]
    assert answer.iloc[0].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-4)


def test_a_model_of_embeddings_is_exported(faces, tmp_path, call):
    assert "answers as the model does" in call(faces, "export", str(tmp_path / "model.onnx"))


def test_people_who_cannot_be_learned_from_are_named_before_training(faces, copy_of, call):
    repo = copy_of(faces)
    table = repo.path / "data/prepared/faces/train/table.csv"
    rows = pd.read_csv(table)
    rows.loc[0, ["label", "group"]] = "a new person"
    rows.to_csv(table, index=False)
    said = call(repo, "target", "tiny", "0", ok=False)
    assert "datasets.faces: 1 people of training have one picture only (a new person)" in said
