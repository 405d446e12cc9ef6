"""The clean command deletes what is over, keeps what is young, in use, or may go on."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.lib import checkpoints

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    made = {}
    for name, age_h in (("old", 30), ("young", 1), ("used", 30), ("broken", 30)):
        made[name] = runs.state_folder() / "checkpoints" / f"target-{name}"
        made[name].mkdir(parents=True)
        (made[name] / "state.pt").write_bytes(b"x" * 1_000_000)
        if name != "broken":
            then = time.time() - age_h * 3600
            (made[name] / "over").touch()
            os.utime(made[name] / "over", (then, then))
    return made


def clean(*words):
    command = [sys.executable, "-m", "stages.commands.clean", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_old_ones_go_and_those_in_use_stay(folders):
    with checkpoints.alone(folders["used"] / "lock", "a test"):
        output = clean()
    assert "1 MB freed" in output and "target-used: in use, kept" in output
    assert "target-broken: not over, kept" in output
    assert [name for name, folder in folders.items() if folder.exists()] == ["young", "used", "broken"]


def test_all_of_them(folders):
    assert "4 MB freed" in clean("--all")
    assert not any(folder.exists() for folder in folders.values())
