"""Live curves and the published state, against real SQLite stores and a real MLflow server, with real kills."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from stages.lib import tracking
from tests.conftest import ROOT

SETTINGS = {"strategy": "partial", "lr": 0.01}
pytestmark = pytest.mark.filterwarnings("ignore:.*Add type hints")
COLUMNS = ("phase", "lr_backbone", "lr_head", "train_loss", "val_loss", "val_accuracy", "best")
PACKAGE = {"python_model": str(Path(__file__).parent / "answer.py"), "pip_requirements": ["mlflow"]}


def row(epoch):
    values = {"train_loss": 1 / epoch, "val_loss": 1.1 / epoch, "val_accuracy": 1 - 1 / epoch}
    rates = {"lr_backbone": 0.001, "lr_head": 0.01}
    return {"phase": 0, "epoch": epoch} | rates | values | {"best": True, "time_ms": 1_700_000_000_000 + 1000 * epoch}


def child(key="k1", stage="target mono-0", epochs=3, **changes):
    history = [{name: value for name, value in row(epoch).items() if name != "time_ms"} for epoch in range(1, epochs + 1)]
    return tracking.Run(
        stage=stage, kind="target", name=f"{stage}: partial on poly", tags={"transfer.key": key}, params=SETTINGS,
        metrics={"test_accuracy": 0.9}, history=history, files=[], data=[tracking.Data("poly", "d1", "{}", "{}")],
    )._replace(**changes)  # fmt: skip


def parent(**changes):
    return child(**{"stage": "pipeline", "kind": "pipeline", "name": "mono -> poly", "tags": {}, "history": []} | changes)


def publish(state, *children, **changes):
    tracking.publish(state, parent(**changes), list(children), lambda: PACKAGE)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A store with tables and nothing in them; making one takes seconds."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def root(tmp_path, monkeypatch, empty):
    """The main repository, to which the environment points as DVC's does."""
    folder = tmp_path / "a b"
    folder.mkdir()
    shutil.copy(empty, folder)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "so that it is put back after the test")
        monkeypatch.delenv(name)
    yield folder
    mlflow.set_tracking_uri(None)


def store(root):
    return mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")


def runs(client, **tags):
    """Every run that carries these tags, the oldest first."""
    experiment = client.get_experiment_by_name("transfer-learning")
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]) if experiment else []
    return [run for run in found if all(run.data.tags.get(f"transfer.{name}") == value for name, value in tags.items())]


def points(client, run, name="train_loss"):
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]


def curve(epochs):
    return [(epoch, 1 / epoch) for epoch in range(1, epochs + 1)]


def test_epochs_are_there_while_training_runs(root):
    log = tracking.live("k1", "target mono-0", "target", SETTINGS)
    log(row(1))
    (run,) = runs(store(root), key="k1")
    assert (run.info.status, run.info.run_name, run.data.params) == (
        "RUNNING",
        "target mono-0",
        {"strategy": "partial", "lr": "0.01"},
    )
    assert set(run.data.metrics) == set(COLUMNS)
    log(row(2))
    assert points(store(root), run) == curve(2)
    assert store(root).get_metric_history(run.info.run_id, "val_loss")[1].timestamp == row(2)["time_ms"]


def test_a_row_logged_again_changes_nothing_and_the_same_key_goes_on_in_the_same_run(root):
    log = tracking.live("k1", "target mono-0", "target", SETTINGS)
    for epoch in (1, 2, 2, 1):
        log(row(epoch))
    log = tracking.live("k1", "target mono-0", "target", SETTINGS)
    for epoch in (1, 2, 3):
        log(row(epoch))
    (run,) = runs(store(root))
    for name in COLUMNS:
        assert len(points(store(root), run, name)) == 3
    tracking.live("k2", "target mono-0", "target", SETTINGS | {"lr": 0.1})
    assert len(runs(store(root))) == 2


def test_a_finished_training_is_left_alone(root):
    tracking.live("k1", "target mono-0", "target", SETTINGS)(row(1))
    (run,) = runs(store(root))
    store(root).set_terminated(run.info.run_id)
    tracking.live("k1", "target mono-0", "target", SETTINGS)(row(2))
    (run,) = runs(store(root))
    assert run.info.status == "FINISHED"
    assert points(store(root), run) == curve(1)


def process(root, script):
    code = f"from tests.lib.test_tracking import *\n{textwrap.dedent(script)}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment = clean | {"DVC_ROOT": str(root), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, stderr=subprocess.PIPE)


def wait(condition, seconds=60):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline
        time.sleep(0.02)


def test_killed_while_logging_and_gone_on_with_it_is_one_run(root):
    training = process(root, """
        log = tracking.live("k1", "target mono-0", "target", SETTINGS)
        for epoch in range(1, 1000):
            log(row(epoch))
    """)  # fmt: skip
    wait(lambda: (found := runs(store(root))) and len(points(store(root), found[0])) >= 3)
    training.send_signal(signal.SIGKILL)
    training.wait()
    logged = len(points(store(root), runs(store(root))[0]))
    log = tracking.live("k1", "target mono-0", "target", SETTINGS)
    for epoch in range(1, logged + 3):  # as hop does: the history of the checkpoint, then new epochs
        log(row(epoch))
    (run,) = runs(store(root))
    for name in COLUMNS:
        assert [step for step, _ in points(store(root), run, name)] == list(range(1, logged + 3))
    publish("s1", child(epochs=logged + 2))
    assert [run.info.status for run in runs(store(root))] == ["FINISHED"] * 2
    assert points(store(root), run) == curve(logged + 2)


def test_two_that_come_first_at_once_both_succeed(root):
    (root / "mlflow.db").unlink()
    trainings = [process(root, f"tracking.live('k{n}', 'target mono-{n}', 'target', SETTINGS)(row(1))") for n in range(2)]
    for training in trainings:
        assert training.communicate()[1] == ""
    assert sorted(run.data.tags["transfer.key"] for run in runs(store(root))) == ["k0", "k1"]


def told(capsys):
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert "training goes on without it; the next dvc repro fills in what is missing." in lines[0]
    return lines[0]


def test_nobody_listens(root, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    began = time.time()
    log = tracking.live("k1", "target mono-0", "target", SETTINGS)
    log(row(1))
    log(row(2))
    assert time.time() - began < 8
    assert "MLflow store http://127.0.0.1:9 could not be used (ConnectionRefusedError" in told(capsys)


def test_somebody_listens_and_never_answers(root, monkeypatch, capsys):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # the user's own setting holds
        began = time.time()
        tracking.live("k1", "target mono-0", "target", SETTINGS)(row(1))
    assert time.time() - began < 8
    assert "timed out" in told(capsys).lower()


def damaged(path):
    path.write_bytes(b"no database at all" * 100)


def newer(path):
    with sqlite3.connect(path) as db:
        db.execute("UPDATE alembic_version SET version_num = 'of_the_future'")


def deleted(path):
    client = mlflow.MlflowClient(f"sqlite:///{path}")
    client.delete_experiment(client.create_experiment("transfer-learning"))


def folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("break_it, reason", [
    (damaged, "file is not a database"), (newer, "schema"), (deleted, "mlflow experiments restore"), (folder, "unable to open"),
])  # fmt: skip
def test_a_broken_store_stops_no_training(root, capsys, break_it, reason):
    break_it(root / "mlflow.db")
    began = time.time()
    tracking.live("k1", "target mono-0", "target", SETTINGS)(row(1))
    assert time.time() - began < 8
    assert reason in told(capsys)
    assert not tracking.published("s1")
    publish("s1", child())
    assert reason in capsys.readouterr().err


def test_a_locked_store_stops_no_training(root, capsys, monkeypatch):
    monkeypatch.setattr(tracking, "LIVE_TIMEOUT_S", 1)
    with sqlite3.connect(root / "mlflow.db") as db:
        db.execute("BEGIN EXCLUSIVE")
        tracking.live("k1", "target mono-0", "target", SETTINGS)(row(1))
        assert "database is locked" in told(capsys)


class Server:
    """A real `mlflow server` on a store of its own, which can be killed and started again."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(self.port)]
        command += [
            "--backend-store-uri",
            f"sqlite:///{self.folder}/mlflow.db",
            "--artifacts-destination",
            str(self.folder / "artifacts"),
        ]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        environment = clean | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        wait(self.answers)

    def answers(self):
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            return urllib.request.urlopen(f"{self.uri}/health", timeout=5).status == 200
        except OSError:
            return False

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path, empty):
    (tmp_path / "server").mkdir()
    shutil.copy(empty, tmp_path / "server")
    server = Server(tmp_path / "server")
    server.start()
    yield server
    server.kill()


def test_a_server_killed_in_the_middle_of_training_is_filled_in_by_publish(root, server, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    client = mlflow.MlflowClient(server.uri)
    log = tracking.live("k1", "target mono-0", "target", SETTINGS)
    log(row(1))
    log(row(2))
    assert points(client, runs(client)[0]) == curve(2)
    server.kill()
    began = time.time()
    for epoch in (3, 4, 5):
        log(row(epoch))
    assert time.time() - began < 8
    assert "ConnectionRefusedError" in told(capsys)
    publish("s1", child(epochs=5))
    assert "this run is not in it yet; the next dvc repro" in capsys.readouterr().err
    server.start()
    for _ in range(2):  # the second time there is nothing to do
        publish("s1", child(epochs=5))
    assert capsys.readouterr().err == ""
    live, whole = runs(client)
    assert points(client, live) == curve(5)
    assert live.data.metrics["test_accuracy"] == 0.9
    assert [live.info.status, whole.info.status] == ["FINISHED"] * 2
    assert live.data.tags["mlflow.parentRunId"] == whole.info.run_id
    (model,) = client.search_logged_models([whole.info.experiment_id])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert list(mlflow.pyfunc.load_model(f"models:/{model.model_id}").predict(pd.DataFrame({"x": [1, 2]}))["answer"]) == [42, 42]


def test_the_live_run_becomes_the_child(root, tmp_path):
    (tmp_path / "history.csv").write_text("epoch\n")
    log = tracking.live("k1", "target mono-0", "target", SETTINGS)
    log(row(1))
    log(row(3))  # the second epoch was lost
    (live,) = runs(store(root))
    assert not tracking.published("s1")
    publish("s1", child(files=[(tmp_path / "history.csv", "")]))
    assert tracking.published("s1")
    assert not tracking.published("s2")
    (whole,), (adopted,) = runs(store(root), stage="pipeline"), runs(store(root), key="k1")
    assert adopted.info.run_id == live.info.run_id
    assert adopted.info.run_name == "target mono-0: partial on poly"
    assert adopted.data.tags.items() >= {"transfer.state": "s1", "mlflow.parentRunId": whole.info.run_id}.items()
    assert sorted(points(store(root), adopted)) == curve(3)
    assert [entry.path for entry in store(root).list_artifacts(adopted.info.run_id)] == ["history.csv"]
    assert [entry.dataset.name for entry in adopted.inputs.dataset_inputs] == ["poly"]


def test_a_training_of_two_states_is_in_both(root):
    tracking.live("k1", "target mono-0", "target", SETTINGS)(row(1))
    publish("s1", child())
    first = runs(store(root))
    publish("s2", child(), child(key="k2", stage="target mono-1"))
    assert tracking.published("s1")
    assert tracking.published("s2")
    again = runs(store(root))
    assert len(again) == 5
    assert [run.data.tags for run in again[:2]] == [run.data.tags for run in first], "the first state is as it was"
    (copied,) = runs(store(root), state="s2", key="k1")
    assert points(store(root), copied) == curve(3)
    assert copied.data.params == {"strategy": "partial", "lr": "0.01"}
    tracking.live("k1", "target mono-0", "target", SETTINGS)(row(9))
    assert len(runs(store(root))) == 5
    assert points(store(root), copied) == curve(3)


def test_a_state_without_its_parent_is_put_together_again(root):
    publish("s1", child(), child(key="k2", stage="target mono-1"))
    (whole,) = runs(store(root), stage="pipeline")
    store(root).delete_run(whole.info.run_id)
    assert not tracking.published("s1")
    publish("s1", child(), child(key="k2", stage="target mono-1"))
    (new,) = runs(store(root), stage="pipeline")
    assert len(runs(store(root))) == 3
    assert {run.data.tags["mlflow.parentRunId"] for run in runs(store(root), kind="target")} == {new.info.run_id}


def test_values_that_are_hard_on_mlflow(root, capsys):
    names = {"test_recall_a/../b": 0.1, "test_recall_Öl, (alt) @ 5 %": 0.2, "test_nan": np.nan, "test_inf": np.inf}
    params = {f"p{number}": "x" for number in range(250)} | {"empty": "", "none": None, "list": [1, 2]}
    rows = [{"epoch": epoch, "train_loss": np.nan if epoch == 2 else 0.5} for epoch in range(1, 401)]
    for _ in range(2):
        publish("s1", child(metrics=names, params=params, history=rows), tags={"mlflow.note.content": "Ä" * 4000})
    assert capsys.readouterr().err == ""
    (run,) = runs(store(root), kind="target")
    assert len(run.data.params) == 253
    assert set(run.data.metrics) == {"test_recall_a_.._b", "test_recall_Öl_ _alt_ _ 5 _", "test_nan", "test_inf", "train_loss"}
    steps = [step for step, _ in points(store(root), run)]
    assert sorted(steps) == list(range(1, 401))


def test_the_experiment_can_be_named(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "cells")
    publish("s1", child())
    assert tracking.published("s1")
    assert len(store(root).search_runs([store(root).get_experiment_by_name("cells").experiment_id])) == 2
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    assert not tracking.published("s1")
