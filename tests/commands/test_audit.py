"""The audit command on a real store: nothing to find after a run, and each kind of fault found and named."""

import pytest
from filelock import FileLock
from mlflow import MlflowClient

from tests.tiny import Repo


@pytest.fixture
def repo(finished, copy_of) -> Repo:
    return copy_of(finished)


def store(repo: Repo):
    client = MlflowClient(f"sqlite:///{repo.path}/mlflow.db")
    experiment = client.get_experiment_by_name("transfer-learning").experiment_id
    return client, experiment, {run.data.tags["transfer.stage"]: run for run in client.search_runs([experiment])}


def test_a_finished_pipeline_has_nothing_to_be_found(repo, call):
    assert call(repo, "audit").splitlines()[-1] == "6 runs of 1 states: 0 findings."


def test_what_is_missing_is_found_and_filled_in(repo, call):
    client, _, runs = store(repo)
    client.delete_run(runs["target dots-0"].info.run_id)
    client.delete_run(runs["pipeline"].info.run_id)
    found = call(repo, "audit", ok=False)
    assert "missing: target dots-0" in found and "missing: pipeline" in found
    assert "its parent" in found  # the others' parent is gone
    assert (
        call(repo, "audit", "--fill").splitlines()[-1] == "6 runs of 1 states: 0 findings."
    )  # the others found their new parent


def test_a_child_that_was_deleted_comes_back_under_its_parent(repo, call):
    client, _, runs = store(repo)
    client.delete_run(runs["target dots-0"].info.run_id)
    assert "missing: target dots-0" in call(repo, "audit", ok=False)
    assert call(repo, "audit", "--fill").splitlines()[-1] == "6 runs of 1 states: 0 findings."
    again = store(repo)[2]
    assert again["pipeline"].info.run_id == runs["pipeline"].info.run_id
    assert again["target dots-0"].data.tags["mlflow.parentRunId"] == runs["pipeline"].info.run_id
    assert again["target dots-0"].data.metrics["test_accuracy"] == runs["target dots-0"].data.metrics["test_accuracy"]


def test_a_password_is_not_printed(repo, call):
    told = call(repo, "audit", ok=False, MLFLOW_TRACKING_URI="http://me:secret@127.0.0.1:1")
    assert told.startswith("error: The MLflow store http://127.0.0.1:1 cannot be read") and "secret" not in told


def test_duplicates_and_orphans_are_found(repo, call):
    client, experiment, runs = store(repo)
    client.create_run(experiment, tags=runs["scratch 0"].data.tags)
    tags = {"transfer.stage": "target dots-9", "transfer.kind": "target", "transfer.key": "x"}
    client.create_run(experiment, tags=tags)
    client.create_run(experiment, tags={"somebody": "else's"})
    found = call(repo, "audit", ok=False)
    assert "duplicate: scratch 0" in found and found.count("orphan: ") == 1 and "orphan: target dots-9" in found
    assert "unfinished: scratch 0" in found


def test_what_was_killed_is_ended_and_what_runs_is_left_alone(repo, call):
    client, experiment, _ = store(repo)
    made = {}
    for name, key in (("dead", "d" * 20), ("alive", "a" * 20), ("elsewhere", "e" * 20)):
        tags = {"transfer.stage": f"target {name}-0", "transfer.kind": "target", "transfer.key": key}
        made[name] = client.create_run(experiment, tags=tags).info.run_id
        if name != "elsewhere":
            folder = repo.path / f".transfer/checkpoints/target-{name}-0-{key[:16]}"
            folder.mkdir(parents=True)
            (folder / "lock").touch()
    with FileLock(repo.path / f".transfer/checkpoints/target-alive-0-{'a' * 16}/lock"):
        told = call(repo, "audit", "--fill", ok=False)
    assert told.count("ended: ") == 1 and "ended: target dead-0" in told
    status = {name: client.get_run(run_id).info.status for name, run_id in made.items()}
    assert status == {"dead": "KILLED", "alive": "RUNNING", "elsewhere": "RUNNING"}


def test_a_store_that_is_no_store_is_said(repo, call):
    (repo.path / "mlflow.db").write_text("no database, but long enough to be taken for one" * 100)
    found = call(repo, "audit", ok=False)
    assert found.startswith("error: The MLflow store") and "Traceback" not in found
