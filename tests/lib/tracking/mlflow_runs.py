"""Runs in real MLflow stores, for the tests of `live` and `publish`: what is logged, and what is found again."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow

from stages.lib.tracking import live, registry
from stages.lib.tracking import publish as publishing
from tests.tiny import ROOT

SETTINGS = {"strategy": "partial", "lr": 0.01}
COLUMNS = ("lr/backbone", "lr/head", "loss/train", "loss/val", "val/accuracy")  # in MLflow
JUDGE = ("shipped/predictions.csv", lambda champion: (False, "they are equal."))
REGISTERED = "transfer-learning-poly"
PACKAGE = {"python_model": str(Path(__file__).parent / "answer.py"), "pip_requirements": ["mlflow"]}


def row(epoch):
    values = {"train_loss": 1 / epoch, "val_loss": 1.1 / epoch, "val_accuracy": 1 - 1 / epoch}
    rates = {"lr_backbone": 0.001, "lr_head": 0.01}
    return {"phase": 0, "epoch": epoch} | rates | values | {"best": True, "time_ms": 1_700_000_000_000 + 1000 * epoch}


def child(key="k1", stage="target mono-0", epochs=3, **changes):
    history = [{name: value for name, value in row(epoch).items() if name != "time_ms"} for epoch in range(1, epochs + 1)]
    return publishing.Run(
        stage=stage, kind="target", name=f"{stage}: partial on poly", tags={"transfer.key": key}, params=SETTINGS,
        metrics={"test/accuracy": 0.9}, history=history, files=[], data=[publishing.Data("poly", "d1", "{}", "{}")],
    )._replace(**changes)  # fmt: skip


def parent(tags=None, **changes):
    tags = {registry.NAME: REGISTERED} | (tags or {})
    return child(**{"stage": "pipeline", "kind": "pipeline", "name": "mono -> poly", "tags": tags, "history": []} | changes)


def publish(state, *children, **changes):
    publishing.publish(state, parent(**changes), list(children), lambda: PACKAGE, *JUDGE)


def train(key="k1", epochs=(), name="target mono-0", settings=SETTINGS):
    """A training that ends by itself."""
    with live.training(key, name, "target", settings) as log:
        for epoch in epochs:
            log(row(epoch))


def client_of(root):
    return mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")


def runs(client, **tags):
    """Every run that carries these tags, the oldest first."""
    experiment = client.get_experiment_by_name("transfer-learning")
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]) if experiment else []
    return [run for run in found if all(run.data.tags.get(f"transfer.{name}") == value for name, value in tags.items())]


def points(client, run, name="loss/train"):
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]


def curve(epochs):
    return [(epoch, 1 / epoch) for epoch in range(1, epochs + 1)]


def process(root, script):
    code = f"from tests.lib.tracking.mlflow_runs import *\n{textwrap.dedent(script)}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment = clean | {"DVC_ROOT": str(root), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, stderr=subprocess.PIPE)


def wait(condition, seconds=600):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline
        time.sleep(0.02)


class Refusing:
    """Takes connections and answers none: what a store behind a broken proxy or on a machine that hangs looks like."""

    def __init__(self, listening: socket.socket, hang: bool):
        self.uri = f"http://user:secret@127.0.0.1:{listening.getsockname()[1]}"
        self.num_attempts = 0
        self.listening, self.hang, self.held = listening, hang, []

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:  # closed: the test is over
                return
            self.num_attempts += 1
            if self.hang:
                self.held.append(connection)
            else:
                connection.close()


@contextmanager
def refusing(*, hang: bool) -> Iterator[Refusing]:
    """A server that counts the attempts to reach it; with `hang` it leaves each without an answer, else it hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Refusing(listening, hang)
        threading.Thread(target=server.accept, daemon=True).start()
        yield server
        listening.shutdown(socket.SHUT_RDWR)  # ends `accept`
        for connection in server.held:
            connection.close()


class Server:
    """A real `mlflow server`, by default on a store of its own, which can be killed and started again."""

    def __init__(self, folder, store="", artifacts="", **environment):
        self.folder = folder
        self.stores = ["--backend-store-uri", store or f"sqlite:///{folder}/mlflow.db",
                       "--artifacts-destination", artifacts or str(folder / "artifacts")]  # fmt: skip
        self.environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"} | environment
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(self.port)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen([*command, *self.stores], env=clean | self.environment, cwd=self.folder, stdout=log,
                                            stderr=log, start_new_session=True)  # fmt: skip
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
