"""Real MLflow stores, of which each test gets its own; mlflow is imported only by the tests that use one."""

import shutil

import pytest


@pytest.fixture(scope="session")
def empty(tmp_path_factory):
    """A store with tables and nothing in them; making one takes seconds."""
    import mlflow

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def root(tmp_path, monkeypatch, empty):
    """The main repository, to which the environment points as DVC's does."""
    import mlflow

    folder = tmp_path / "a b"
    folder.mkdir()
    shutil.copy(empty, folder)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "so that it is put back after the test")
        monkeypatch.delenv(name)
    yield folder
    mlflow.set_tracking_uri(None)


@pytest.fixture
def mlflow_server(tmp_path, empty):
    """A running `mlflow server` on a store of its own."""
    from tests.lib.tracking.mlflow_runs import Server

    (tmp_path / "server").mkdir()
    shutil.copy(empty, tmp_path / "server")
    server = Server(tmp_path / "server")
    server.start()
    yield server
    server.kill()
