"""Several clones that share one real MLflow server: each state, training, model and version once, whoever is killed."""

import os
import signal
from textwrap import dedent

import mlflow
import pytest

from stages.lib.tracking import claims, live
from tests.lib.tracking.mlflow_runs import REGISTERED, SETTINGS, child, curve, points, process, publish, row, runs, train, wait

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*Add type hints")]


@pytest.fixture
def clones(tmp_path, mlflow_server):
    """Start a process in the clone of a name; all wait until `go` is there, so that they ask at the same moment."""
    started = []

    def start(name, script):
        (tmp_path / name).mkdir(exist_ok=True)
        ready = tmp_path / f"{name}.{len(started)}.ready"
        text = f"""
            os.environ["MLFLOW_TRACKING_URI"] = {mlflow_server.uri!r}
            os.chdir({str(tmp_path / name)!r})
            Path({str(ready)!r}).touch()
            wait(Path({str(tmp_path / "go")!r}).exists)
        """
        started.append((process(tmp_path / name, dedent(text) + dedent(script)), ready))
        return started[-1][0]

    def go():
        wait(lambda: all(ready.exists() for _, ready in started))
        (tmp_path / "go").touch()
        told = [process.communicate()[1] for process, _ in started]
        assert all(not process.returncode for process, _ in started), told
        return told

    start.go, start.ready = go, lambda: wait(lambda: all(ready.exists() for _, ready in started))
    start.touch = (tmp_path / "go").touch
    return start


def test_clones_that_record_one_state_at_the_same_moment_record_it_once(clones, mlflow_server):
    states = ("s1", "s2", "s3")
    for name in ("a", "b", "c"):
        clones(name, """
            for state in ("s1", "s2", "s3"):
                publish(state, child(f"k1{state}"), child(f"k2{state}", "target mono-1"))
        """)  # fmt: skip
    clones.go()
    client = mlflow.MlflowClient(mlflow_server.uri)
    for state in states:
        found = runs(client, state=state)
        assert sorted(run.data.tags["transfer.stage"] for run in found) == ["pipeline", "target mono-0", "target mono-1"]
        assert {run.info.status for run in found} == {"FINISHED"}
        for run in runs(client, state=state, kind="target"):
            assert sorted(points(client, run)) == curve(3), "each epoch once"
            assert {run.data.tags["mlflow.parentRunId"]} == {
                each.info.run_id for each in runs(client, state=state, kind="pipeline")
            }
    assert len(runs(client)) == 9, "and nothing else"
    experiment = runs(client)[0].info.experiment_id
    assert sorted(model.source_run_id for model in client.search_logged_models([experiment])) == sorted(
        run.info.run_id for run in runs(client, stage="pipeline")
    )
    assert len(client.search_model_versions(f"name = '{REGISTERED}'")) == len(states)


def test_clones_that_train_the_same_at_the_same_moment_show_it_once(clones, mlflow_server):
    for name in ("a", "b", "c"):
        clones(name, """
            for key in ("k1", "k2", "k3"):
                with live.training(key, "target mono-0", "target", SETTINGS) as log:
                    for epoch in (1, 2, 3):
                        log(row(epoch))
                    time.sleep(5)  # the others find it running
        """)  # fmt: skip
    told = clones.go()
    client = mlflow.MlflowClient(mlflow_server.uri)
    assert sorted(run.data.tags["transfer.key"] for run in runs(client)) == ["k1", "k2", "k3"]
    assert all(sorted(points(client, run)) == curve(3) for run in runs(client))
    assert "".join(told).count("another clone trains this too") == 6


def test_a_clone_that_is_killed_while_it_records_is_succeeded_by_another(clones, mlflow_server, tmp_path):
    """In the middle of the upload; the other has waited for it."""
    killed = clones("a", """
        def model():
            Path("uploading").touch()
            time.sleep(1000)
        publishing.publish("s1", parent(), [child()], model, *JUDGE)
    """)  # fmt: skip
    clones.ready()
    clones.touch()
    wait((tmp_path / "a/uploading").exists)
    second = clones("b", 'publish("s1", child())')
    wait(lambda: "waiting for it" in second.stderr.readline())
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert second.wait() == 0
    client = mlflow.MlflowClient(mlflow_server.uri)
    assert sorted((run.data.tags["transfer.stage"], run.info.status) for run in runs(client)) == [
        ("pipeline", "FINISHED"), ("target mono-0", "FINISHED"),
    ]  # fmt: skip
    assert len(client.search_model_versions(f"name = '{REGISTERED}'")) == 1


def test_a_clone_that_is_slow_is_waited_for(clones, mlflow_server):
    """It uploads for longer than a dead one is given."""
    clones("a", f"""
        def model():
            time.sleep({claims.SILENT_S} + 10)
            return PACKAGE
        publishing.publish("s1", parent(), [child()], model, *JUDGE)
    """)  # fmt: skip
    clones("b", 'time.sleep(3); publish("s1", child())')
    assert "waiting for it" in clones.go()[1]
    client = mlflow.MlflowClient(mlflow_server.uri)
    assert len(runs(client)) == 2
    assert len(client.search_logged_models([runs(client)[0].info.experiment_id])) == 1


def test_a_training_that_another_clone_gave_up_is_shown_by_this_one(root, mlflow_server, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    client = mlflow.MlflowClient(mlflow_server.uri)
    with pytest.raises(OSError), live.training("k1", "target mono-0", "target", SETTINGS) as log:
        log(row(1))
        raise OSError("the disk is full")
    (given_up,) = runs(client)
    assert given_up.info.status == "FAILED"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "other"))
    train(epochs=[1, 2])
    (run,) = runs(client)
    assert (run.info.run_id, claims.holder(run)) == (given_up.info.run_id, claims.mine())
    assert sorted(set(points(client, run))) == curve(2)
    publish("s1", child(epochs=2))
    assert len(runs(client)) == 2
