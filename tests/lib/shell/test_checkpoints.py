"""Checkpoints: whole after a kill, one training at a time, never another training's."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from stages.lib.shell import checkpoints


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def test_they_lie_under_dvc_root_and_outside_its_outs(root):
    with checkpoints.hold("target-a", "0" * 64) as path:
        assert checkpoints.load(path) is None
        checkpoints.save(path, {"epoch": 1, "model": {"w": torch.ones(2)}})
    assert path.is_relative_to(root / ".transfer")
    assert checkpoints.load(path)["epoch"] == 1


@pytest.mark.slow
def test_a_kill_while_saving_leaves_a_whole_state(root):
    program = """
        import torch
        from stages.lib.shell import checkpoints
        with checkpoints.hold("target-a", "1" * 64) as path:
            for epoch in range(1, 10_000):
                checkpoints.save(path, {"epoch": epoch, "model": torch.full((300_000,), float(epoch))})
                print(epoch, flush=True)
    """
    for pause in (0.0, 0.013, 0.031):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
        first = int(process.stdout.readline())
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with checkpoints.hold("target-a", "1" * 64) as path:
            state = checkpoints.load(path)
        assert state["epoch"] >= first
        assert (state["model"] == state["epoch"]).all()


def test_a_second_process_waits_for_the_first(root):
    program = """
        import sys, time
        from stages.lib.shell import checkpoints
        with checkpoints.hold("target-a", "2" * 64) as path:
            print("in", flush=True); time.sleep(float(sys.argv[1])); print("out", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    first = subprocess.Popen([*command, "3"], stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "in\n"
    second = subprocess.run([*command, "0"], capture_output=True, text=True, check=True)
    assert first.poll() is not None or first.wait(1) == 0
    assert "already running" in second.stderr


def test_a_finished_training_is_marked_beside_its_state_and_keeps_it(root):
    with checkpoints.hold("target-a", "3" * 64) as path:
        checkpoints.save(path, {"epoch": 1})
    folder = checkpoints.folder_of("target-a", "3" * 64)
    assert not (folder / checkpoints.FINISHED).exists()
    checkpoints.finish("target-a", "3" * 64)
    assert (folder / checkpoints.FINISHED).exists() and checkpoints.load(path) == {"epoch": 1}


def test_torch_has_as_many_threads_as_when_the_state_was_saved(root, capsys):
    here = torch.get_num_threads()
    with checkpoints.hold("target-a", "6" * 64) as path:
        torch.set_num_threads(here + 1)
        checkpoints.save(path, {"epoch": 1})
        torch.set_num_threads(here)
        assert checkpoints.load(path) == {"epoch": 1} and torch.get_num_threads() == here + 1
        torch.set_num_threads(here)
        torch.save({"epoch": 1}, path)  # of an earlier version
        assert checkpoints.load(path) == {"epoch": 1} and torch.get_num_threads() == here
    assert capsys.readouterr().err.count(f"with which it began, {here + 1}: {here} would") == 1


def test_another_key_is_another_training(root):
    with checkpoints.hold("target-a", "4" * 64) as path:
        checkpoints.save(path, {"epoch": 1})
    for name, key in (("target-a", "5" * 64), ("target-b", "4" * 64)):
        with checkpoints.hold(name, key) as other:
            assert checkpoints.load(other) is None
