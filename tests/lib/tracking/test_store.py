"""Where the MLflow store and its artifacts lie, whatever the repository's folder is called."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from stages.lib.tracking import store
from tests.lib.tracking.mlflow_runs import process, wait


@pytest.fixture(params=["a%20b", "50%?c=1 x#y", "Käfer ねこ"])
def repository(request, tmp_path, monkeypatch):
    folder = tmp_path / request.param
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("DVC_ROOT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path.name}.db")  # MLflow keeps connections by their URI
    return folder


def test_the_store_and_the_artifacts_are_in_the_repository(repository):
    client, experiment = store.connect(30)
    run = client.create_run(experiment)
    Path("figure.txt").write_text("1", encoding="utf-8")
    client.log_artifact(run.info.run_id, "figure.txt", "figures")
    assert [entry.path for entry in client.list_artifacts(run.info.run_id, "figures")] == ["figures/figure.txt"]
    assert store.sqlite_path().resolve() == (repository / f"{repository.parent.name}.db").resolve()
    with closing(sqlite3.connect(repository / f"{repository.parent.name}.db")) as db:
        assert db.execute("select count(*) from runs").fetchone() == (1,)
    assert len(list((repository / "mlartifacts").rglob("figure.txt"))) == 1
    assert [path.name for path in repository.parent.iterdir()] == [repository.name], "nothing is written beside it"


def test_experiments_in_a_clone_reach_the_same_store(repository, monkeypatch):
    clone = repository / ".dvc/tmp/exps/clone"
    clone.mkdir(parents=True)
    monkeypatch.chdir(clone)
    monkeypatch.setenv("DVC_ROOT", str(repository))
    store.connect(30)
    assert store.sqlite_path().resolve() == (repository / f"{repository.parent.name}.db").resolve()
    assert list(clone.iterdir()) == []


def test_a_path_in_a_given_uri_is_decoded_as_sqlalchemy_does(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/a%20b.db?timeout=9")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert store.sqlite_path() == tmp_path / "a b.db"


@pytest.mark.slow
def test_a_store_whose_making_was_killed_can_be_used(tmp_path):
    """Once it is under its name it is whole, also if its maker is killed at this moment."""
    connecting = "from stages.lib.tracking import store; store.connect(60)"
    for size in (0, 100_000):
        killed = process(tmp_path, connecting)
        wait(lambda size=size: any(path.stat().st_size > size for path in tmp_path.glob("mlflow.db*")))
        killed.kill()
        killed.communicate()
    again = process(tmp_path, connecting)
    assert again.communicate()[1] == "" and again.returncode == 0
    assert not (tmp_path / "mlflow.db.part").exists()
