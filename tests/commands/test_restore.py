"""The restore command: a real clone, DVC's cache and MLflow's store; every figure is evaluated again."""

import shutil

import pytest
from mlflow import MlflowClient

from stages.commands.restore import changed_code


def run_ids(repo) -> dict[str, str]:
    client = MlflowClient(f"sqlite:///{repo.path}/mlflow.db")
    experiment = client.get_experiment_by_name("transfer-learning").experiment_id
    return {run.data.tags["transfer.stage"]: run.info.run_id for run in client.search_runs([experiment])}


@pytest.fixture
def repo(finished, copy_of):
    return copy_of(finished)


@pytest.mark.slow
def test_a_run_is_restored_and_every_figure_is_the_same(repo, call, tmp_path):
    """From the run of a child, after the repository went on."""
    ids, folder = run_ids(repo), tmp_path / "a b"
    told = call(repo, "restore", ids["target dots-0"])
    assert repo.run("git", "rev-parse", "HEAD~1").strip() in told and "data   lines, version" in told
    card = (repo.path / "models/target/dots-0/card.json").read_text()
    params = (repo.path / "params.yaml").read_text()
    (repo.path / "params.yaml").write_text(params.replace("strategy: partial", "strategy: full"))
    shutil.rmtree(repo.path / "models")
    told = call(repo, "restore", ids["target dots-0"], "--into", str(folder))
    assert "0 differ from the run's" in told and "WARNING" not in told
    assert (folder / "models/target/dots-0/card.json").read_text() == card
    assert (folder / "params.yaml").read_text() == params

    client = MlflowClient(f"sqlite:///{repo.path}/mlflow.db")
    client.log_metric(ids["scratch 0"], "test/accuracy", 0.123, step=1)
    shutil.rmtree(folder)
    told = call(repo, "restore", ids["pipeline"], "--into", str(folder), ok=False)
    assert "scratch 0, test/accuracy: " in told and "0.123 in the run" in told and "1 differ from the run's" in told


def test_code_that_was_not_committed_is_told(repo):
    assert changed_code(repo.path) == []
    path = repo.path / "stages/evaluate.py"
    path.write_text(path.read_text() + "# changed\n")
    assert changed_code(repo.path) == ["stages/evaluate.py"]


def test_what_cannot_be_restored_is_said(repo, call, tmp_path):
    ids = run_ids(repo)
    assert "has no run nonsense" in call(repo, "restore", "nonsense", ok=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    assert "this folder is not empty" in call(repo, "restore", ids["pipeline"], "--into", str(tmp_path / "full"), ok=False)
    shutil.rmtree(repo.path / ".dvc/cache")
    told = call(repo, "restore", ids["pipeline"], "--into", str(tmp_path / "new"), ok=False)
    assert "no remote has them" in told and "Traceback" not in told
