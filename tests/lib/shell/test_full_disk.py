"""A disk that is full, and one that is read-only: a clear message, and no training is lost."""

import shutil
import sqlite3
import subprocess
import sys

import pytest

from stages.lib.core import cards
from tests.lib.tracking.mlflow_runs import child, publish, train

pytestmark = pytest.mark.slow


@pytest.fixture
def mount():
    """Mount small disks of their own, or again with other options; for root alone."""
    mounted = []

    def mount(path, options):
        path.mkdir(parents=True, exist_ok=True)
        again = "remount," if path in mounted else ""
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"{again}{options}", "tmpfs", path], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        if not again:
            mounted.append(path)

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_ends_a_training_with_a_message_and_then_it_goes_on(finished, copy_of, mount):
    repo = copy_of(finished)
    stage = [sys.executable, "-m", "stages", "scratch", "0"]
    before = cards.read_json(repo.path / "models/scratch/0/card.json")["sha256"]
    state = next((repo.path / ".transfer/checkpoints").glob("scratch-*/state.pt"))
    nbytes = state.stat().st_size
    shutil.rmtree(repo.path / "models/scratch/0")
    shutil.rmtree(repo.path / ".transfer/checkpoints")
    mount(repo.path / ".transfer/checkpoints", f"size={int(1.5 * nbytes)}")  # room for one state, and not for the next beside it

    output = repo.run(*stage, ok=False)
    assert "Traceback" not in output
    assert f"error: No space left on device: {repo.path}. Make room" in output
    assert state.parent.joinpath("state.pt").exists(), "the state of the first epoch"

    mount(repo.path / ".transfer/checkpoints", f"size={4 * nbytes}")
    assert "scratch 0 resumes after epoch 1" in repo.run(*stage)
    assert cards.read_json(repo.path / "models/scratch/0/card.json")["sha256"] == before


def test_no_room_for_the_model_is_told(finished, copy_of, mount):
    repo = copy_of(finished)
    shutil.rmtree(repo.path / "models/scratch/0")
    mount(repo.path / "models/scratch", "size=64k")
    output = repo.run(sys.executable, "-m", "stages", "scratch", "0", ok=False)  # the training itself is in its checkpoint
    assert "Traceback" not in output
    assert "error: No space left on device" in output


def test_a_full_store_stops_no_training(root, mount, monkeypatch, capsys):
    disk = root / "disk"
    shutil.copy(root / "mlflow.db", root / "begun.db")
    nbytes = (root / "begun.db").stat().st_size
    mount(disk, f"size={nbytes + 8192}")
    shutil.copy(root / "begun.db", disk / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{disk}/mlflow.db")
    with open(disk / "filling", "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"0" * 4096)
    train(epochs=[1, 2])
    assert "database or disk is full" in capsys.readouterr().err
    publish("s1", child())
    assert "database or disk is full" in capsys.readouterr().err
    (disk / "filling").unlink()
    with sqlite3.connect(disk / "mlflow.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_read_only_store_stops_no_training(root, mount, monkeypatch, capsys):
    disk = root / "disk"
    mount(disk, "size=20m")
    shutil.copy(root / "mlflow.db", disk)
    mount(disk, "ro")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{disk}/mlflow.db")
    train(epochs=[1, 2])
    assert "readonly database" in capsys.readouterr().err
    publish("s1", child())
    assert "readonly database" in capsys.readouterr().err
