"""Live curves, against real SQLite stores and a real MLflow server, with real kills."""

import http.server
import platform
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import filelock
import mlflow
import pytest
import requests
import sqlalchemy
import torch
import urllib3

from stages.lib.core import closure
from stages.lib.errors import UserError
from stages.lib.tracking import live, store
from stages.lib.tracking import publish as publishing
from tests.lib.tracking.mlflow_runs import (
    COLUMNS,
    SETTINGS,
    child,
    client_of,
    curve,
    points,
    process,
    publish,
    refusing,
    row,
    runs,
    train,
    wait,
)
from tests.tiny import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:.*Add type hints")


def test_the_run_says_where_it_trains(root):
    with live.training("k1", "target mono-0", "target", SETTINGS):
        tags = runs(client_of(root), key="k1")[0].data.tags
    assert (tags["transfer.node"], tags["transfer.threads"]) == (platform.node(), str(torch.get_num_threads()))
    assert tags["transfer.cpu"]


def test_epochs_are_there_while_training_runs(root):
    with live.training("k1", "target mono-0", "target", SETTINGS) as log:
        log(row(1))
        (run,) = runs(client_of(root), key="k1")
        assert (run.info.status, run.info.run_name) == ("RUNNING", "target mono-0")
        assert run.data.params == {"strategy": "partial", "lr": "0.01"}
        assert set(run.data.metrics) == set(COLUMNS)
        log(row(2))
        assert points(client_of(root), run) == curve(2)
    assert client_of(root).get_run(run.info.run_id).info.status == "RUNNING", "publish ends it"
    assert client_of(root).get_metric_history(run.info.run_id, "loss/val")[1].timestamp == row(2)["time_ms"]


def test_a_row_logged_again_changes_nothing_and_the_same_key_goes_on_in_the_same_run(root):
    train(epochs=[1, 2, 2, 1])
    train(epochs=[1, 2, 3])
    (run,) = runs(client_of(root))
    for name in COLUMNS:
        assert len(points(client_of(root), run, name)) == 3
    train(key="k2", settings=SETTINGS | {"lr": 0.1})
    assert len(runs(client_of(root))) == 2


def test_a_finished_training_is_left_alone(root):
    train(epochs=[1])
    (run,) = runs(client_of(root))
    client_of(root).set_terminated(run.info.run_id)
    train(epochs=[2])
    (run,) = runs(client_of(root))
    assert run.info.status == "FINISHED"
    assert points(client_of(root), run) == curve(1)


@pytest.mark.slow
def test_killed_while_logging_and_gone_on_with_it_is_one_run(root):
    training = process(root, """
        train(epochs=range(1, 1000))
    """)  # fmt: skip
    wait(lambda: (found := runs(client_of(root))) and len(points(client_of(root), found[0])) >= 3)
    training.send_signal(signal.SIGKILL)
    training.wait()
    logged = len(points(client_of(root), runs(client_of(root))[0]))
    train(epochs=range(1, logged + 3))  # as hop does: the history of the checkpoint, then new epochs
    (run,) = runs(client_of(root))
    for name in COLUMNS:
        assert [step for step, _ in points(client_of(root), run, name)] == list(range(1, logged + 3))
    publish("s1", child(epochs=logged + 2))
    assert [run.info.status for run in runs(client_of(root))] == ["FINISHED"] * 2
    assert points(client_of(root), run) == curve(logged + 2)


@pytest.mark.slow
def test_two_that_come_first_at_once_both_succeed(root):
    (root / "mlflow.db").unlink()
    trainings = [process(root, f"train('k{n}', epochs=[1])") for n in range(2)]
    for training in trainings:
        assert training.communicate()[1] == ""
    assert sorted(run.data.tags["transfer.key"] for run in runs(client_of(root))) == ["k0", "k1"]


def told(capsys):
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert "training continues without it; the next dvc repro fills in what is missing." in lines[0]
    return lines[0]


def test_nobody_listens(root, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    train(epochs=[1, 2])
    assert "MLflow store http://127.0.0.1:9 could not be used (ConnectionRefusedError" in told(capsys)


def test_somebody_hangs_up(root, monkeypatch, capsys):
    """Asked twice and then left alone, however many epochs follow."""
    with refusing(hang=False) as store:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
        train(epochs=range(1, 30))
    assert store.num_attempts == 2
    assert "could not be used" in (line := told(capsys)) and "secret" not in line


@pytest.mark.slow
def test_somebody_listens_and_never_answers(root, monkeypatch, capsys):
    with refusing(hang=True) as store:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # the user's own setting holds
        train(epochs=range(1, 30))
    assert store.num_attempts == 2
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
def test_a_broken_store_stops_no_training_and_no_pipeline(root, capsys, monkeypatch, break_it, reason):
    break_it(root / "mlflow.db")
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    train(epochs=[1])
    assert not pauses, "MLflow by itself tries again and again, for minutes"
    assert reason in (line := told(capsys))
    assert ("MLflow store" in line) == (break_it != deleted), "a deleted experiment is no fault of the store"
    assert not publishing.published("s1")
    publish("s1", child())
    assert reason in capsys.readouterr().err


def test_a_locked_store_stops_no_training(root, capsys, monkeypatch):
    monkeypatch.setattr(store, "LOCKED_TIMEOUT_S", 1)
    with sqlite3.connect(root / "mlflow.db") as db:
        db.execute("BEGIN EXCLUSIVE")
        train(epochs=[1])
        assert "database is locked" in told(capsys)


def test_what_answers_and_is_no_mlflow_stops_no_training(root, monkeypatch, capsys):
    class SignIn(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Please sign in</html>")

        do_POST = do_GET

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SignIn) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{proxy.server_address[1]}")
        train(epochs=[1])
        proxy.shutdown()
    assert "could not be used (MlflowException: " in told(capsys)


def test_a_mistake_of_this_code_is_called_one_and_stops_no_training(root, capsys):
    with live.training("k1", "target mono-0", "target", SETTINGS) as log:
        log({"epoch": 1, "train_loss": 1.0})
        log(row(2))
    line = told(capsys)
    assert "A bug in tracking, not a fault of the MLflow store (KeyError: 'time_ms', at " in line
    assert "live.py:" in line


@pytest.mark.parametrize("error, status", [
    (RuntimeError("out of memory"), "FAILED"), (SystemExit(1), "FAILED"), (KeyboardInterrupt(), "KILLED"),
])  # fmt: skip
def test_an_aborted_training_is_over_until_it_goes_on(root, capsys, error, status):
    with pytest.raises(type(error)) as raised, live.training("k1", "target mono-0", "target", SETTINGS) as log:
        log(row(1))
        raise error
    assert raised.value is error
    (run,) = runs(client_of(root))
    assert run.info.status == status
    assert run.info.end_time
    with live.training("k1", "target mono-0", "target", SETTINGS) as log:
        log(row(1))
        assert [run.info.status for run in runs(client_of(root))] == ["RUNNING"]
        log(row(2))
    publish("s1", child(epochs=2))
    assert [run.info.status for run in runs(client_of(root))] == ["FINISHED"] * 2
    assert points(client_of(root), run) == curve(2)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_ctrl_c_ends_the_run(root):
    training = process(root, """
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job would ignore
        with live.training("k1", "target mono-0", "target", SETTINGS) as log:
            log(row(1))
            time.sleep(60)
    """)  # fmt: skip
    wait(lambda: (found := runs(client_of(root))) and points(client_of(root), found[0]))
    training.send_signal(signal.SIGINT)
    training.communicate()
    assert [run.info.status for run in runs(client_of(root))] == ["KILLED"]


def test_an_abort_of_what_is_finished_changes_nothing(root):
    train(epochs=[1])
    publish("s1", child(epochs=1))
    with pytest.raises(RuntimeError), live.training("k1", "target mono-0", "target", SETTINGS):
        raise RuntimeError
    assert [run.info.status for run in runs(client_of(root))] == ["FINISHED"] * 2


@pytest.mark.slow
def test_an_abort_while_the_store_is_away_tells_both_apart(root, mlflow_server, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    with pytest.raises(OSError, match="disk full"), live.training("k1", "target mono-0", "target", SETTINGS):
        mlflow_server.kill()
        raise OSError("disk full")
    (line,) = capsys.readouterr().err.splitlines()
    assert "could not be used (ConnectionRefusedError: " in line, "and not the disk, to which Python chains it"
    assert "the run of this training stays RUNNING in it" in line
    mlflow_server.start()
    assert [run.info.status for run in runs(mlflow.MlflowClient(mlflow_server.uri))] == ["RUNNING"]


@pytest.mark.slow
def test_an_abort_is_told_to_a_store_that_was_away_in_between(root, mlflow_server, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    with pytest.raises(RuntimeError), live.training("k1", "target mono-0", "target", SETTINGS) as log:
        mlflow_server.kill()
        log(row(1))
        told(capsys)
        mlflow_server.start()
        raise RuntimeError
    assert [run.info.status for run in runs(mlflow.MlflowClient(mlflow_server.uri))] == ["FAILED"]


@pytest.mark.parametrize("stage", ["advise", "intermediate", "target", "scratch"])
def test_what_is_shown_in_mlflow_imports_nothing_of_it(stage):
    """It is given what shows it, so that no change of tracking makes it stale."""
    files = closure.files(closure.STAGES / f"{stage}.py", observers=True)
    assert closure.STAGES / "lib/core/runs.py" in files
    assert not [path for path in files if {"tracking", "shell"} & set(path.parts)]


def test_nothing_imports_mlflow_before_it_is_used():
    code = "import sys; from stages.lib.tracking import live, publish, records, registry, store; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "stages.lib.tracking.live" in done.stdout
    assert not {"mlflow", "requests", "sqlalchemy", "torch"} & set(done.stdout.split())


@pytest.mark.parametrize("error", [
    UserError("deleted"), OSError("full"), sqlite3.OperationalError("locked"), filelock.Timeout("lock"), TimeoutError(),
    requests.ConnectionError("refused"), requests.exceptions.ChunkedEncodingError(), urllib3.exceptions.ProtocolError(),
    mlflow.MlflowException("no such run"), mlflow.exceptions.RestException({}), sqlalchemy.exc.OperationalError("", {}, None),
], ids=lambda error: type(error).__name__)  # fmt: skip
def test_what_the_user_and_the_store_do_is_no_bug(error):
    assert store.expected(error)


@pytest.mark.parametrize("kind", [TypeError, KeyError, AttributeError, AssertionError, ValueError, IndexError, RuntimeError])
def test_what_this_code_does_wrong_is_a_bug(kind):
    assert not store.expected(kind("mistake"))


def test_what_is_computed_again_after_a_kill_is_logged_once(root):
    """The advice is computed anew, and so has another time."""
    for time_ms in (1_700_000_000_000, 1_700_000_009_000):
        with live.training("k1", "advise", "advise", SETTINGS) as log:
            log(row(1) | {"time_ms": time_ms})
    (run,) = runs(client_of(root))
    assert points(client_of(root), run) == curve(1)
