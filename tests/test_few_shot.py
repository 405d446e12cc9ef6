"""Few shots of new classes through the whole pipeline, as a user runs it."""

import copy
import json
import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from stages.lib.tracking import serving
from tests import systems
from tests.systems import read
from tests.tiny import FULL, PARAMS, TRAINING, Repo, new_repo

pytestmark = pytest.mark.slow
EPISODES = {"way": [3, 6], "shots": [1, 3], "queries": 2, "number": 40, "seed": 0}
COSINE = {"loss": "cosine_prototypical", "scale": 10, "pictures": 4, "dim": 0}
TRIPLET = {"loss": "triplet", "margin": 0.2, "pictures": 3, "dim": 8}


def values() -> dict:
    block = PARAMS["datasets"]["lines"] | {"raw": "birds", "group_from": "([^/]+)/[^/]+$", "episodes": EPISODES}
    block["split"] = {"train": 0, "val": 0.2, "test": 0.35, "seed": 0, "by_group": True, "stratify": False}
    other = {"data": "birds", "strategy": "full", "epochs": 2, "lr": 0.003, "head_lr": 0.003, "metric_learning": TRIPLET}
    return copy.deepcopy(PARAMS) | {
        "training": TRAINING | {"batch_size": 16, "label_smoothing": 0, "balance": "sampling", "metric_learning": COSINE},
        "datasets": {"birds": block}, "intermediate": {}, "target": {"data": "birds", "test": "birds", "task": "few_shot"},
        "inits": ["tiny"], "strategy": "full", "strategies": {"full": FULL | {"epochs": 6, "lr": 0.003}},
        "alternatives": {"triplet": other, "frozen": {"data": "birds", "strategy": "frozen"}},
        "baselines": {"pixels": {"components": 10}},
    }  # fmt: skip


@pytest.fixture(scope="session")
def birds(shared) -> Repo:
    """Episodic training, triplets and frozen features, through `dvc repro`."""

    def fill(folder):
        systems.people(folder / "repo/birds", 24, noun="bird")
        executed = new_repo(folder / "repo", values()).ran("repro")
        (folder / "executed.json").write_text(json.dumps(sorted(executed)))

    folder = shared("birds", fill)
    repo = Repo(folder / "repo")
    repo.executed = set(json.loads((folder / "executed.json").read_text()))
    return repo


def test_everything_runs_once_and_does_what_was_declared(birds):
    assert {"target@tiny-0", "alternative@triplet-0", "alternative@frozen-0", "scratch@0", "controls"} <= birds.executed
    assert all(verdicts == {"ok"} for verdicts in systems.certified(birds).values())
    assert set(birds.status()) <= {"track"}, "nothing else is left to run"


def test_all_arms_are_measured_on_the_same_episodes(birds):
    tables = [pd.read_csv(path) for path in sorted((birds.path / "metrics/evaluate").rglob("predictions.csv"))]
    assert len(tables) == 5, "the target, two alternatives, random weights, pixels"
    for table in tables:
        assert len(table) == 40 and table.label.tolist() == tables[0].label.tolist()
    report = read(birds, "metrics/evaluate/target-tiny-0/report.json")
    assert (report["num_examples"], report["way"], report["shot"], report["num_groups"]) == (40, 3, 1, None)
    assert {(each["way"], each["shot"]) for each in report["settings"]} == {(3, 1), (3, 3), (6, 1), (6, 3)}
    mean = pd.read_csv(birds.path / "metrics/evaluate/target-tiny-0/predictions.csv")["3_way_1_shot_cosine_prototypes"].mean()
    assert report["metrics"]["accuracy"]["value"] == pytest.approx(mean, abs=1e-6)


def test_the_classes_of_the_test_are_in_no_training(birds):
    classes = [
        set(pd.read_csv(birds.path / f"data/prepared/birds/{split}/table.csv").label) for split in ("train", "val", "test")
    ]
    assert len(set.union(*classes)) == sum(map(len, classes)) == 24


def test_the_verdict_speaks_of_episodes(birds):
    verdict = (birds.path / "metrics/verdict.md").read_text()
    assert "On 40 test episodes of birds" in verdict and "points of accuracy" in verdict
    assert "against frozen: frozen on birds" in verdict and "All episodes are drawn from the same examples" in verdict
    compared = read(birds, "metrics/compare.json")
    assert {"transfer", "against_triplet", "against_frozen", "against_pixels"} <= set(compared)
    assert (birds.path / "metrics/plots/shots.png").exists()
    page = systems.Page(birds.path / "metrics/report.html")
    assert "episodes" in page.text and not page.foreign


def test_episodes_that_are_changed_are_prepared_again_before_anything_else(birds, copy_of):
    repo = copy_of(birds)
    changed = values()
    changed["datasets"]["birds"]["episodes"] = EPISODES | {"shots": [1, 5]}
    systems.write_params(repo.path, changed)
    said = repo.run("dvc", "repro", ok=False)
    assert "datasets.birds: episodes: each class needs 7 images (shots: 5, queries: 2)" in said and "bird" in said
    assert "Running stage 'target" not in said


@pytest.fixture(scope="module")
def support(birds, tmp_path_factory):
    """Three classes of the test with three pictures each, and the folder of their other pictures."""
    folder = tmp_path_factory.mktemp("support")
    names = sorted(set(pd.read_csv(birds.path / "data/prepared/birds/test/table.csv").label))[:3]
    for name in names:
        for index in range(6):
            place = folder / ("known" if index < 3 else "asked") / name
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(birds.path / f"birds/{name}/{index}.png", place / f"{index}.png")
    return folder


def test_the_shipped_model_answers_by_a_support_set(birds, support, call):
    call(birds, "predict", str(support / "asked"), "--gallery", str(support / "known"), "--csv", str(support / "out.csv"))
    table = pd.read_csv(support / "out.csv")
    names = sorted(path.name for path in (support / "known").iterdir())
    assert list(table.columns) == ["image", "label", "similarity", *(f"similarity_{name}" for name in names)]
    own = [Path(path).parent.name for path in table.image]
    assert len(table) == 9 and (table.label == own).mean() > 0.4, "guessing: a third"
    plain = call(birds, "predict", str(support / "asked"), "--csv", str(support / "plain.csv"))
    assert "e0" in pd.read_csv(support / "plain.csv") and "e0" in plain


def test_the_pyfunc_takes_a_support_set(birds, support, tmp_path, call):
    """As MLflow loads it, with the columns that its signature allows; and the same answers as predict gives."""
    call(birds, "predict", str(support / "asked"), "--gallery", str(support / "known"), "--csv", str(support / "out.csv"))
    expected = pd.read_csv(support / "out.csv")
    model = birds.path / "models/target/tiny-0"
    mlflow.pyfunc.save_model(tmp_path / "served", **serving.package(model))
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "served"))
    files = sorted((support / "asked").rglob("*.png")), sorted((support / "known").rglob("*.png"))
    labels = [*[""] * len(files[0]), *(path.parent.name for path in files[1])]
    rows = pd.DataFrame({"image": [path.read_bytes() for path in (*files[0], *files[1])], "label": labels})
    answers = loaded.predict(rows)
    assert answers.label.tolist() == expected.label.tolist() and list(answers.index) == list(range(9))
    assert answers.similarity.tolist() == pytest.approx(expected.similarity.tolist(), abs=1e-5)
    shuffled = rows.sample(frac=1, random_state=0)
    again = loaded.predict(shuffled)
    assert set(again.label) <= set(labels) and len(again) == 9
    assert "e0" in loaded.predict(rows[["image"]]) and len(loaded.predict(rows.assign(label=""))) == 18
