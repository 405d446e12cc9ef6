"""The two doors: a modality, a task, a network, a reader and a strategy with a loss and a module of its own, as new files."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.tiny import PARAMS, ROOT, Repo, write_params

pytestmark = pytest.mark.slow
TOY = ROOT / "tests/toy"
KINDS = ("libraries", "modalities", "readers", "strategies", "tasks")
DATASET = {"reader": "numbers", "preprocessing": "start", "most_steps": 12, "limit": 0, "max_broken": 0.0, "duplicates": "drop",
           "split": {"train": 0, "val": 0.2, "test": 0.4, "seed": 0, "by_group": False, "stratify": False},
           "licence": "our own"}  # fmt: skip


def params() -> dict:
    """The state of params.yaml that uses all of them."""
    values = copy.deepcopy(PARAMS)
    values["modality"] = "sequence"
    values["training"] |= {"label_smoothing": 0, "augment": "noise", "weight_decay": 0}
    values["datasets"] = {"means": DATASET | {"raw": "means.txt"}, "squares": DATASET | {"raw": "squares.txt"}}
    values["source"] = {"start": {"weights": "random", "seed": 0, "architecture": {"library": "toy", "model": "pooled"},
                                  "preprocessing": {"mean": 0.5, "std": 0.3}, "licence": "none"}}  # fmt: skip
    values["strategy"] = "anchored"
    values["strategies"] = {"anchored": {"epochs": 40, "lr": 0.02, "strength": 0.1}}
    values["intermediate"] = {"means": {"init": "start", "data": "means", "task": "regress", "strategy": "full",
                                        "epochs": 40, "lr": 0.02, "head_lr": 0.02}}  # fmt: skip
    values["inits"] = ["means", "start"]
    values["target"] = {"data": "squares", "test": "squares", "task": "regress"}
    values["scratch"] = {"epochs": 40, "lr": 0.02, "like": "start"}
    values["compare"]["metric"] = "mean_absolute_error"
    return values


def draw(path: Path, measure, seed: int, num: int = 120) -> None:
    """Sequences of noise of different lengths, with what `measure` makes of each as its label."""
    random = np.random.default_rng(seed)
    lines = []
    for index in range(num):
        numbers = random.random(random.integers(3, 12)).round(4)
        lines.append(f"{index:03} {measure(numbers):.4f} {' '.join(map(str, numbers))}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def toy(finished, tmp_path_factory) -> Repo:
    """The finished pipeline for images, in which the new files were added and then the whole pipeline run with them."""
    path = tmp_path_factory.mktemp("toy") / "repo"
    shutil.copytree(finished.path, path, symlinks=True)
    (path / "mlflow.db").unlink()  # it is of the folder where it was made
    repo = Repo(path)
    repo.reran = {}
    for kind in KINDS:
        shutil.copytree(TOY / kind, path / "stages/lib" / kind, dirs_exist_ok=True)
        repo.reran[kind] = repo.ran("repro")
    draw(path / "means.txt", np.mean, seed=0)
    draw(path / "squares.txt", lambda numbers: np.square(numbers).mean(), seed=1)
    write_params(path, params())
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "sequences")
    repo.executed = repo.ran("repro")
    return repo


def read(repo: Repo, file: str):
    return json.loads((repo.path / file).read_text())


def test_adding_them_reran_no_training(toy):
    """Any block may name a strategy, a task or a modality, so the recipes are resolved again, to the same bytes."""
    resolved = {"recipe-hops", "recipe", "track"}
    expected = {kind: {"track"} for kind in ("libraries", "readers")}
    assert toy.reran == expected | {kind: resolved for kind in ("modalities", "strategies", "tasks")}


def test_the_whole_pipeline_runs_with_them(toy):
    assert {"intermediate@means", "target@means-0", "target@start-0", "scratch@0", "forgetting@means", "compare",
            "report", "track"} <= toy.executed  # fmt: skip
    compared = read(toy, "metrics/compare.json")
    errors = compared["mean_absolute_error"]
    assert set(errors) == {"means", "start", "scratch", "means as it is"}
    for name, key in [("scratch", "transfer"), ("start", "intermediate"), ("means as it is", "training")]:
        assert compared[key]["difference"] == pytest.approx(errors["means"] - errors[name], abs=2e-6)
        shown, smaller = compared[key]["p_holm"] <= 0.05, compared[key]["difference"] < 0
        assert (compared[key]["verdict"] == "this model is better") == (shown and smaller), "a smaller error is better"
        assert (compared[key]["verdict"] == "this model is worse") == (shown and not smaller)


def test_the_models_learned_something(toy):
    """Far better than answering the mean, on the test: the ragged inputs, the loss and the targets belong together."""
    table = pd.read_csv(toy.path / "metrics/evaluate/target-means-0/predictions.csv", dtype={"key": str})
    constant = (table.label - table.label.mean()).abs().mean()
    assert read(toy, "metrics/compare.json")["mean_absolute_error"]["means"] < 0.5 * constant
    packed = np.load(toy.path / "data/prepared/squares/test/inputs.npy")
    offsets = np.load(toy.path / "data/prepared/squares/test/offsets.npy")
    lines = {line.split()[0]: line.split()[2:] for line in (toy.path / "squares.txt").read_text().splitlines()}
    for row, key in enumerate(table.key):
        assert packed[offsets[row] : offsets[row + 1], 0] == pytest.approx(np.array(lines[key], dtype=float), abs=1e-6)


def test_what_only_serves_the_training_is_certified_and_not_shipped(toy):
    from safetensors.numpy import load_file

    certificate = pd.read_csv(toy.path / "metrics/target/means-0/certificate.csv")
    own = certificate[certificate.declared == "not shipped"]
    assert list(own.tensor) == ["penalty.linear.weight", "penalty.linear.bias"]
    assert own.moved.all()
    assert not any("linear" in name for name in load_file(toy.path / "models/target/means-0/weights.safetensors"))


def test_verdict_and_report_speak_of_the_new_metric(toy):
    verdict = (toy.path / "metrics/verdict.md").read_text()
    assert "mean absolute error" in verdict and "test sequences" in verdict
    assert "accuracy" not in verdict and "image" not in verdict
    page = (toy.path / "metrics/report.html").read_text()
    assert "mean absolute error" in page and "no advice" in page


def test_every_run_is_in_mlflow_and_the_shipped_model_answers(toy):
    assert "0 findings" in toy.run("python", "-m", "stages", "audit")
    (toy.path / "one.txt").write_text("0.1 0.9 0.2")
    told = toy.run("python", "-m", "stages", "predict", "one.txt").splitlines()
    (answer,) = (line for line in told if "one.txt" in line)
    assert 0 < float(answer.split()[-1]) < 2
    script = ("import mlflow, pandas as pd; mlflow.set_tracking_uri('sqlite:///mlflow.db');"
              "e = mlflow.get_experiment_by_name('transfer-learning').experiment_id;"
              "m = mlflow.search_logged_models([e], max_results=1, output_format='list')[0];"
              "print('answer', mlflow.pyfunc.load_model(m.model_uri)"
              ".predict(pd.DataFrame({'sequence': ['0.1 0.9 0.2']})).value[0])")  # fmt: skip
    served = next(line for line in toy.run("python", "-c", script).splitlines() if line.startswith("answer"))
    assert float(served.split()[1]) == pytest.approx(float(answer.split()[-1]), abs=1e-4)


def test_what_makes_no_sense_with_them_is_refused_in_words(toy, tmp_path):
    values = params()
    values["training"] |= {"mixup": 0.2, "augment": "inspection"}
    values["strategies"]["knn"] = {"neighbours": 3, "temperature": 0.1}
    values["strategy"] = "knn"
    values["compare"]["metric"] = "accuracy"
    write_params(toy.path, values)
    try:
        said = toy.run("python", "-m", "stages", "check", ok=False)
    finally:
        write_params(toy.path, params())
    assert "the modality sequence cannot mix its inputs" in said
    assert "the modality sequence has no 'inspection'" in said
    assert "knn needs the head knn, which the task regress does not take" in said
    assert "compare.metric: the task regress has no 'accuracy'" in said
