"""Trainings that are killed, started twice, or run by several processes: real DVC and real signals, on the small pipeline."""

import copy
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from random import Random

import pytest

from tests import kills
from tests.tiny import PARAMS, Repo, new_repo, write_params


def longer(repo, epochs):
    """Let the hop take long enough to be killed, in a store of its own."""
    (repo.path / "mlflow.db").unlink(missing_ok=True)
    values = copy.deepcopy(PARAMS)
    values["intermediate"]["dots"] |= {"epochs": epochs, "patience": epochs}
    write_params(repo.path, values)


def start(repo, **environment):
    return subprocess.Popen(["dvc", "repro", "intermediate@dots"], cwd=repo.path, env=repo.environment | environment,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip


def num_epochs(repo) -> int:
    """Epochs in MLflow so far: the curves are live."""
    try:
        return repo.query("SELECT COUNT(*) FROM metrics WHERE key = 'loss/val'")[0][0]
    except sqlite3.OperationalError:  # no store yet
        return 0


@pytest.mark.slow
def test_a_killed_hop_goes_on_to_the_same_bits_in_the_same_run(finished, copy_of, tmp_path):
    whole = copy_of(finished)
    longer(whole, epochs=60)
    killed = Repo(shutil.copytree(whole.path, tmp_path / "killed", symlinks=True))
    whole.run("dvc", "repro", "intermediate@dots")
    for pause in (0.0, 0.11, 0.37):  # at different moments of an epoch
        epochs = num_epochs(killed)
        process = start(killed)
        while num_epochs(killed) < epochs + 3:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        time.sleep(pause)
        os.killpg(process.pid, signal.SIGKILL)  # dvc and the stage
        process.wait()
    assert num_epochs(killed) < 60
    killed.run("dvc", "repro", "intermediate@dots")
    assert killed.sha256("dots") == whole.sha256("dots")
    history = "metrics/intermediate/dots/history.csv"
    assert (killed.path / history).read_bytes() == (whole.path / history).read_bytes()
    assert len(killed.query("SELECT run_uuid FROM runs")) == 1
    points = killed.query("SELECT step, COUNT(*) FROM metrics WHERE key = 'loss/val' GROUP BY step ORDER BY step")
    assert points == [(epoch, 1) for epoch in range(1, 61)]


@pytest.mark.slow
def test_a_training_keeps_the_number_of_threads_with_which_it_began(finished, copy_of, tmp_path):
    """Another number gives other bits."""
    whole = copy_of(finished)
    longer(whole, epochs=60)
    killed = Repo(shutil.copytree(whole.path, tmp_path / "killed", symlinks=True))
    whole.run("dvc", "repro", "intermediate@dots", OMP_NUM_THREADS="2")
    process = start(killed, OMP_NUM_THREADS="2")
    while num_epochs(killed) < 3:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    told = killed.run("dvc", "repro", "intermediate@dots", OMP_NUM_THREADS="1")
    assert "goes on with the number of threads with which it began, 2: 1 would give other bits." in told
    assert killed.sha256("dots") == whole.sha256("dots")
    assert killed.query("SELECT value FROM tags WHERE key = 'transfer.threads'") == [("2",)]


@pytest.mark.slow
def test_an_orphan_and_a_second_start_train_once(finished, copy_of):
    """A killed dvc leaves its stage running; the next repro must not train beside it."""
    repo = copy_of(finished)
    longer(repo, epochs=300)
    process = start(repo)
    while num_epochs(repo) < 3:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    output = repo.run("dvc", "repro", "intermediate@dots")
    assert "already running in another process" in output
    points = repo.query("SELECT COUNT(*), COUNT(DISTINCT step) FROM metrics WHERE key = 'loss/val'")
    assert points == [(300, 300)]


@pytest.mark.slow
def test_two_processes_write_one_model_and_one_run(finished, copy_of):
    """A whole stage data-parallel: Fabric starts the second process, the first alone writes, logs and checkpoints."""
    repo = copy_of(finished)
    (repo.path / "mlflow.db").unlink()
    write_params(repo.path, PARAMS | {"device": PARAMS["device"] | {"devices": 2}})
    before = repo.sha256("scratch/0")
    stage = [sys.executable, "-m", "stages", "scratch", "0"]
    repo.run(*stage)
    assert repo.sha256("scratch/0") != before  # BatchNorm sees half a batch in each process
    assert repo.query("SELECT step, COUNT(*) FROM metrics WHERE key = 'loss/val' GROUP BY step") == [(1, 1), (2, 1)]
    trained = repo.sha256("scratch/0")
    shutil.rmtree(repo.path / "models/scratch/0")
    assert "scratch 0 resumes after epoch 2." in repo.run(*stage)  # the state is found, broadcast, and leads to the same bits
    assert repo.sha256("scratch/0") == trained


@pytest.mark.slow
def test_a_pipeline_that_is_killed_twenty_times_makes_what_an_undisturbed_one_makes(finished, copy_of, tmp_path):
    """At random moments of any stage; `tests.benchmarks.kills` does so more often."""
    repo = new_repo(tmp_path / "killed", PARAMS)
    num = sum(1 for _ in kills.struck(repo, 20, Random(0), longest_s=4))
    kills.clean(repo)
    repo.run("dvc", "repro")
    assert num > 10, "on a very fast machine it ends before it was killed so often"
    made, wanted = kills.made(repo), kills.made(copy_of(finished))
    for kind in wanted:
        assert made[kind] == wanted[kind], kind


def test_another_check_does_not_take_the_answers_of_an_earlier_training(finished, copy_of, call):
    repo = copy_of(finished)
    call(repo, "scratch", "0")
    assert "scratch 0 resumes after epoch 2." in call(repo, "scratch", "0"), "its state is there"
    write_params(repo.path, PARAMS | {"checks": PARAMS["checks"] | {"loss_jump": 1.01}})
    assert "resumes after" not in call(repo, "scratch", "0")
