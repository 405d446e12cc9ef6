"""The audit command on a real store: nothing to find after a run, and each kind of fault found and named."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow import MlflowClient

from stages.lib.core import cards
from stages.lib.params import read as params
from stages.lib.tracking import mixed
from tests.tiny import PARAMS, Repo, write_params


@pytest.fixture
def repo(finished, copy_of) -> Repo:
    return copy_of(finished)


def store(repo: Repo):
    client = MlflowClient(f"sqlite:///{repo.path}/mlflow.db")
    experiment = client.get_experiment_by_name("transfer-learning").experiment_id
    return client, experiment, {run.data.tags["transfer.stage"]: run for run in client.search_runs([experiment])}


def test_a_finished_pipeline_has_nothing_to_be_found(repo, call):
    assert call(repo, "audit").splitlines()[-1] == "6 runs of 1 state: 0 findings."


def test_what_is_missing_is_found_and_filled_in(repo, call):
    client, _, runs = store(repo)
    client.delete_run(runs["target dots-0"].info.run_id)
    client.delete_run(runs["pipeline"].info.run_id)
    found = call(repo, "audit", ok=False)
    assert "missing: target dots-0" in found and "missing: pipeline" in found
    assert "its parent" in found  # the others' parent is gone
    assert call(repo, "audit", "--fill").splitlines()[-1] == "6 runs of 1 state: 0 findings."  # the others found their new parent


def test_a_child_that_was_deleted_comes_back_under_its_parent(repo, call):
    client, _, runs = store(repo)
    client.delete_run(runs["target dots-0"].info.run_id)
    assert "missing: target dots-0" in call(repo, "audit", ok=False)
    assert call(repo, "audit", "--fill").splitlines()[-1] == "6 runs of 1 state: 0 findings."
    again = store(repo)[2]
    assert again["pipeline"].info.run_id == runs["pipeline"].info.run_id
    assert again["target dots-0"].data.tags["mlflow.parentRunId"] == runs["pipeline"].info.run_id
    assert again["target dots-0"].data.metrics["test/accuracy"] == runs["target dots-0"].data.metrics["test/accuracy"]


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


def test_trainings_that_were_interrupted_are_filed_and_leave_when_they_go_on(repo, call):
    client, experiment, _ = store(repo)
    tags = {"transfer.stage": "scratch 0", "transfer.kind": "scratch", "transfer.key": "changed since"}
    run_id = client.create_run(experiment, run_name="scratch 0", tags=tags).info.run_id
    client.set_terminated(run_id, "KILLED")
    assert f"orphan: scratch 0, run {run_id} (KILLED)" in call(repo, "audit", ok=False)
    told = call(repo, "audit", "--fill")
    assert f"filed: scratch 0, run {run_id}" in told and ": 0 findings." in told
    folder = client.get_run(client.get_run(run_id).data.tags["mlflow.parentRunId"])
    assert folder.info.run_name == "interrupted trainings"
    another = client.create_run(experiment, tags=tags | {"transfer.key": "changed again"}).info.run_id
    client.set_terminated(another, "FAILED")
    assert ": 0 findings." in call(repo, "audit", "--fill")
    assert client.get_run(another).data.tags["mlflow.parentRunId"] == folder.info.run_id, "one folder for all"


def test_a_moved_folder_is_noticed(repo, call):
    with sqlite3.connect(repo.path / "mlflow.db") as db:
        db.execute("UPDATE experiments SET artifact_location = 'file:///before/mlartifacts'")
    told = call(repo, "audit", ok=False)
    assert "moved: the experiment transfer-learning writes its artifacts to file:///before/mlartifacts" in told
    assert f"this repository is at {repo.path.as_uri()}. It was moved or copied" in told and ": 1 finding." in told


def test_a_store_that_is_no_store_is_said(repo, call):
    (repo.path / "mlflow.db").write_text("no database, but long enough to be taken for one" * 100)
    found = call(repo, "audit", ok=False)
    assert found.startswith("error: The MLflow store") and "Traceback" not in found


# Models that are gone.


def test_a_registered_model_that_was_deleted_is_found_and_registered_again(repo, call):
    client, _, runs = store(repo)
    (before,) = client.search_model_versions("name = 'transfer-learning-lines'")
    client.delete_registered_model("transfer-learning-lines")
    told = call(repo, "audit", ok=False)
    run_id = runs["pipeline"].info.run_id
    assert f"missing: transfer-learning-lines has no version of the pipeline's run {run_id}" in told and ": 1 finding." in told
    assert ": 0 findings." in call(repo, "audit", "--fill")
    (after,) = client.search_model_versions("name = 'transfer-learning-lines'")
    assert (after.run_id, after.model_id) == (before.run_id, before.model_id)
    assert client.get_registered_model("transfer-learning-lines").aliases == {"champion": after.version}


def test_a_champion_and_a_logged_model_that_were_deleted_are_found(repo, call):
    client, experiment, _ = store(repo)
    client.delete_registered_model_alias("transfer-learning-lines", "champion")
    (logged,) = client.search_logged_models([experiment])
    client.delete_logged_model(logged.model_id)
    told = call(repo, "audit", ok=False)
    assert "missing: no version of transfer-learning-lines is the champion any more" in told
    assert "missing: the model of the pipeline's run" in told and ": 2 findings." in told


# Results that do not belong together.


def swapped(path: Path, stage: str, part: str, of: str, digest: str) -> None:
    """Give one entry of a dvc.lock another md5, as a stage that ran by itself does."""
    text = path.read_text()
    start = text.index(f"\n  {stage}:\n")
    entry = text.index(f"path: {of}\n", text.index(f"    {part}:\n", start))
    at = text.index("md5: ", entry + text[entry:].index("hash: md5") + len("hash: md5"))
    path.write_text(text[:at] + f"md5: {digest}" + text[text.index("\n", at) :])


def test_a_finished_lock_has_nothing_mixed(repo):
    lock, raw = params.read(repo.path / "dvc.lock")["stages"], params.read(repo.path / "params.yaml")
    assert mixed.in_lock(lock, list(lock), raw) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            ("target@dots-0", "outs", "models/target/dots-0"),
            "evaluate@dots-0 ran with another models/target/dots-0 than target@dots-0",
        ),
        (("compare", "outs", "metrics/compare.json"), "report ran with another metrics/compare.json than compare"),
        (("evaluate@tiny-0", "deps", "stages/lib/evaluation"), "evaluate@tiny-0 ran with another stages/lib/evaluation than"),
    ],
)
def test_what_a_stage_by_itself_leaves_behind_is_found_and_not_recorded(repo, call, change, told):
    swapped(repo.path / "dvc.lock", *change, "f" * 32)
    assert f"mixed: {told}" in call(repo, "audit", ok=False)
    recorded = store(repo)[2].keys()
    refused = call(repo, "track", ok=False)
    assert refused.startswith("error: Not recorded in MLflow") and told in refused and refused.endswith("Run: dvc repro")
    assert "mixed: " in call(repo, "audit", "--fill", ok=False)
    assert store(repo)[2].keys() == recorded


def test_params_that_the_results_are_not_of_are_found(repo, call):
    write_params(repo.path, PARAMS | {"strategy": "full", "seed": 1})
    told = call(repo, "audit", ok=False)
    assert "recipe ran with another strategy than params.yaml has now" in told
    assert "target@dots-0 ran with another seed than params.yaml has now" in told


def test_a_report_of_other_weights_is_found(repo, call):
    path = repo.path / "metrics/evaluate/target-dots-0/report.json"
    cards.write_json(path, cards.read_json(path) | {"model": "cd" * 32})
    told = call(repo, "audit", ok=False)
    now = repo.sha256("target/dots-0")[:8]
    assert f"mixed: evaluate@dots-0 measured the weights cdcdcdcd, and models/target/dots-0 is {now} now" in told
    assert f"mixed: compare read a test of the weights {now} of target dots-0" in told


def test_what_was_recorded_mixed_is_found_afterwards(repo, call):
    """As an earlier version of this code recorded it: the run holds the lock that says so."""
    _, _, runs = store(repo)
    run = runs["pipeline"].info
    folder = Path(run.artifact_uri.removeprefix("file://"))
    own = repo.path / "artifacts"
    shutil.copytree(folder, own)
    with sqlite3.connect(repo.path / "mlflow.db") as db:
        db.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (own.as_uri(), run.run_id))
    assert ": 0 findings." in call(repo, "audit")
    swapped(own / "dvc.lock", "target@dots-0", "outs", "models/target/dots-0", "f" * 32)
    told = call(repo, "audit", ok=False)
    assert f"mixed: run {run.run_id} holds results that do not belong together" in told and ": 1 finding." in told


PARENTS = "SELECT count(*) FROM tags WHERE key = 'transfer.stage' AND value = 'pipeline'"


@pytest.mark.slow
def test_a_target_that_was_trained_again_by_itself_is_refused_until_the_rest_has_run(repo):
    """In a finished repository: another strategy, its target by name, then only the last stage."""
    write_params(repo.path, PARAMS | {"strategy": "feature_extraction"})
    repo.run("dvc", "repro", "target@dots-0")
    refused = repo.run("dvc", "repro", "-s", "track", ok=False)
    assert "evaluate@dots-0 ran with another models/target/dots-0 than target@dots-0 wrote last" in refused
    assert "evaluate@dots-0 measured the weights" in refused and "Traceback" not in refused
    assert repo.query(PARENTS) == [(1,)]
    refused = repo.run("dvc", "repro", "-s", "compare", ok=False)
    assert "metrics/evaluate/target-dots-0 measured" in refused
    assert "mixed: " in repo.run("python", "-m", "stages", "audit", ok=False)
    repo.run("dvc", "repro")
    assert repo.query(PARENTS) == [(2,)]
    assert "mixed: " not in repo.run("python", "-m", "stages", "audit")
