"""What all tests share: one run of the small pipeline (tests/tiny.py)."""

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock

# Several processes run tests side by side, on networks too small for more threads. Read when torch is imported, which is later.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from tests.tiny import PARAMS, Repo, new_repo


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id) -> Callable[[str, Callable[[Path], None]], Path]:
    """Give a folder that one of the processes of the tests fills, and the others find filled."""

    def shared(name: str, fill: Callable[[Path], None]) -> Path:
        folder = tmp_path_factory.getbasetemp()
        folder = (folder if worker_id == "master" else folder.parent) / name
        with FileLock(f"{folder}.lock"):
            if not (folder / "filled").exists():
                fill(folder)
                (folder / "filled").touch()
        return folder

    return shared


@pytest.fixture(scope="session")
def finished(shared) -> Repo:
    """The small pipeline, run once for all processes of the tests. Tests that change it take a copy (`copy_of`)."""

    def fill(folder: Path) -> None:
        repo = new_repo(folder / "repo", PARAMS)
        output = repo.run("dvc", "repro")
        repo.run("git", "add", "-A")
        repo.run("git", "commit", "-qm", "run")
        (folder / "output.txt").write_text(output)

    folder = shared("finished", fill)
    repo = Repo(folder / "repo")
    repo.output = (folder / "output.txt").read_text()
    return repo


@pytest.fixture
def copy_of(tmp_path):
    """Copy a repository with all that it has made."""

    def copy(repo: Repo) -> Repo:
        shutil.copytree(repo.path, tmp_path / "copy", symlinks=True)
        if (tmp_path / "copy/mlflow.db").exists():  # new runs write their artifacts into the copy; those of the old ones stay
            with closing(sqlite3.connect(tmp_path / "copy/mlflow.db")) as db:
                db.execute("UPDATE experiments SET artifact_location = ?", ((tmp_path / "copy/mlartifacts").as_uri(),))
                db.commit()
        return Repo(tmp_path / "copy")

    return copy


@pytest.fixture
def call(monkeypatch, capfd):
    """Run a stage or a command in a repository, in this process: a new one spends seconds on imports. Gives what it printed."""
    from stages.__main__ import main

    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_"))]:
        monkeypatch.delenv(name)
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):  # what tracking sets, ends with the test
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def call(repo: Repo, *words: str, ok: bool = True, **environment: str) -> str:
        monkeypatch.chdir(repo.path)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        code: object = 0
        try:
            main(list(words))
        except SystemExit as stopped:
            code = stopped.code
        out, err = capfd.readouterr()
        assert (not code) == ok, out + err + str(code)
        return out + err + (code if isinstance(code, str) else "")

    yield call
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(None)
