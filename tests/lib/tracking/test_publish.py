"""The published state, against real SQLite stores and a real MLflow server."""

import mlflow
import numpy as np
import pandas as pd
import pytest

from stages.lib.errors import UserError
from stages.lib.tracking import live
from stages.lib.tracking import publish as publishing
from tests.lib.tracking.mlflow_runs import (
    JUDGE,
    PACKAGE,
    REGISTERED,
    SETTINGS,
    child,
    client_of,
    curve,
    parent,
    points,
    publish,
    row,
    runs,
    train,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*Add type hints")


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_training_is_filled_in_by_publish(root, mlflow_server, monkeypatch, capsys):
    server = mlflow_server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    client = mlflow.MlflowClient(server.uri)
    with live.training("k1", "target mono-0", "target", SETTINGS) as log:
        log(row(1))
        log(row(2))
        assert points(client, runs(client)[0]) == curve(2)
        server.kill()
        for epoch in (3, 4, 5):
            log(row(epoch))
    (line,) = capsys.readouterr().err.splitlines()
    assert "ConnectionRefusedError" in line
    publish("s1", child(epochs=5))
    assert "this run is not in it yet; the next dvc repro" in capsys.readouterr().err
    server.start()
    for _ in range(2):  # the second time there is nothing to do
        publish("s1", child(epochs=5))
    assert capsys.readouterr().err == ""
    (trained,), (whole,) = runs(client, kind="target"), runs(client, kind="pipeline")
    assert points(client, trained) == curve(5)
    assert trained.data.metrics["test/accuracy"] == 0.9
    assert [trained.info.status, whole.info.status] == ["FINISHED"] * 2
    assert trained.data.tags["mlflow.parentRunId"] == whole.info.run_id
    (model,) = client.search_logged_models([whole.info.experiment_id])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert list(mlflow.pyfunc.load_model(f"models:/{model.model_id}").predict(pd.DataFrame({"x": [1, 2]}))["answer"]) == [42, 42]


def test_the_live_run_becomes_the_child(root, tmp_path):
    (tmp_path / "history.csv").write_text("epoch\n")
    train(epochs=[1, 3])  # the second epoch was lost
    (trained,) = runs(client_of(root))
    assert not publishing.published("s1")
    publish("s1", child(files=[(tmp_path / "history.csv", "")]))
    assert publishing.published("s1")
    assert not publishing.published("s2")
    (whole,), (adopted,) = runs(client_of(root), stage="pipeline"), runs(client_of(root), key="k1")
    assert adopted.info.run_id == trained.info.run_id
    assert adopted.info.run_name == "target mono-0: partial on poly"
    assert adopted.data.tags.items() >= {"transfer.state": "s1", "mlflow.parentRunId": whole.info.run_id}.items()
    assert sorted(points(client_of(root), adopted)) == curve(3)
    assert [entry.path for entry in client_of(root).list_artifacts(adopted.info.run_id)] == ["history.csv"]
    assert [entry.dataset.name for entry in adopted.inputs.dataset_inputs] == ["poly"]


def test_a_training_of_two_states_is_in_both(root):
    train(epochs=[1])
    publish("s1", child())
    first = runs(client_of(root))
    publish("s2", child(), child(key="k2", stage="target mono-1"))
    assert publishing.published("s1")
    assert publishing.published("s2")
    again = runs(client_of(root))
    assert len(again) == 5
    as_it_was = [run.data.tags for run in again if run.data.tags["transfer.state"] == "s1"]
    assert sorted(as_it_was, key=str) == sorted((run.data.tags for run in first), key=str)
    (copied,), (trained,) = runs(client_of(root), state="s2", key="k1"), runs(client_of(root), state="s1", key="k1")
    assert copied.data.tags["transfer.from_cache"] == trained.info.run_id
    assert (copied.info.start_time, copied.info.end_time) == (trained.info.start_time, trained.info.end_time)
    assert points(client_of(root), copied) == curve(3)
    assert copied.data.params == {"strategy": "partial", "lr": "0.01"}
    train(epochs=[9])
    assert len(runs(client_of(root))) == 5
    assert points(client_of(root), copied) == curve(3)


def test_a_state_without_its_parent_is_put_together_again(root):
    publish("s1", child(), child(key="k2", stage="target mono-1"))
    (whole,) = runs(client_of(root), stage="pipeline")
    client_of(root).delete_run(whole.info.run_id)
    assert not publishing.published("s1")
    publish("s1", child(), child(key="k2", stage="target mono-1"))
    (new,) = runs(client_of(root), stage="pipeline")
    assert len(runs(client_of(root))) == 3
    assert {run.data.tags["mlflow.parentRunId"] for run in runs(client_of(root), kind="target")} == {new.info.run_id}


def test_values_that_are_hard_on_mlflow(root, capsys):
    names = {"test/recall_a/../b": 0.1, "test/recall_Öl, (alt) @ 5 %": 0.2, "test_nan": np.nan, "test_inf": np.inf}
    params = {f"p{number}": "x" for number in range(250)} | {"empty": "", "none": None, "list": [1, 2]}
    rows = [{"epoch": epoch, "train_loss": np.nan if epoch == 2 else 0.5} for epoch in range(1, 401)]
    for _ in range(2):
        publish("s1", child(metrics=names, params=params, history=rows), tags={"mlflow.note.content": "Ä" * 4000})
    assert capsys.readouterr().err == ""
    (run,) = runs(client_of(root), kind="target")
    assert len(run.data.params) == 253
    assert set(run.data.metrics) == {"test/recall_a_.._b", "test/recall_Öl_ _alt_ _ 5 _", "test_nan", "test_inf", "loss/train"}
    steps = [step for step, _ in points(client_of(root), run)]
    assert sorted(steps) == list(range(1, 401))


def test_the_experiment_can_be_named(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "cells")
    publish("s1", child())
    assert publishing.published("s1")
    assert len(client_of(root).search_runs([client_of(root).get_experiment_by_name("cells").experiment_id])) == 2
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    assert not publishing.published("s1")


def test_names_that_are_hard_on_mlflow_are_logged_once(root):
    history = [{"epoch": 1, "train_loss": 1.0, "lr_blocks.6.*": 0.1, "time_ms": 1}]
    with live.training("k1", "target mono-0", "target", SETTINGS) as log:
        log(history[0])
    publish("s1", child(history=history))
    (run,) = runs(client_of(root), kind="target")
    assert points(client_of(root), run, "lr/blocks.6._") == [(1, 0.1)]


def broken(error):
    def model():
        raise error

    return model


@pytest.mark.parametrize("error", [TypeError("wrong"), KeyError("ship"), AttributeError("card"), AssertionError("never")])
def test_a_mistake_of_this_code_is_not_laid_to_the_store(root, capsys, error):
    with pytest.raises(type(error)) as raised:
        publishing.publish("s1", parent(), [child()], broken(error), *JUDGE)
    assert raised.value is error
    assert capsys.readouterr().err == ""
    assert not publishing.published("s1")
    publish("s1", child())
    assert publishing.published("s1")
    assert [run.info.status for run in runs(client_of(root))] == ["FINISHED"] * 2


def test_a_training_without_its_key_is_a_mistake_of_this_code(root):
    with pytest.raises(KeyError, match=r"transfer\.key"):
        publish("s1", child(tags={}))


def test_a_mistake_of_the_user_is_told_in_its_own_words(root, capsys):
    publishing.publish("s1", parent(), [child()], broken(UserError("models/target is missing. Run: dvc repro")), *JUDGE)
    own = "MLflow: models/target is missing. Run: dvc repro; this run is not in it yet; "
    assert capsys.readouterr().err == own + "the next dvc repro fills in what is missing.\n"


def test_a_run_whose_model_could_not_be_registered_is_not_finished_and_gone_on_with(root, capsys):
    def away(champion):
        raise OSError("the store went away")

    publish("s1", child(stage="target mono-0"))
    publishing.publish("s2", parent(), [child(key="k2")], lambda: PACKAGE, JUDGE[0], away)
    assert "the store went away" in capsys.readouterr().err
    client = client_of(root)
    (run,) = runs(client, state="s2", stage="pipeline")
    assert run.info.status == "RUNNING" and not publishing.published("s2")
    publish("s2", child(key="k2"))
    (run,) = runs(client, state="s2", stage="pipeline")
    assert run.info.status == "FINISHED" and publishing.published("s2")
    aliases = client.get_registered_model(REGISTERED).aliases
    assert {alias: str(version) for alias, version in aliases.items()} == {"champion": "1", "candidate": "2"}
    assert len(client.search_logged_models([run.info.experiment_id])) == 2
