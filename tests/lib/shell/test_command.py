"""How a stage ends: in words where the user or the disk is at fault, with a traceback where the code is."""

import errno
import os

import pytest

from stages.lib.errors import UserError
from stages.lib.shell.command import run_stage


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def ending(error, cause=None):
    def main(name):
        raise error from cause

    with pytest.raises(BaseException) as stopped:
        run_stage("scratch", ["0"], main)
    return stopped.value


def test_a_stage_gets_its_words_and_its_time_is_kept(here):
    seen = []

    def main(init, seed):
        seen.append((init, seed))

    run_stage("target", ["mono", "0"], main)
    assert seen == [("mono", "0")]
    assert float((here / ".transfer/seconds/target-mono-0").read_text()) >= 0


def test_a_mistake_of_the_user_is_the_whole_message():
    assert ending(UserError("the raw data are missing")).code == "error: the raw data are missing"


@pytest.mark.parametrize(("number", "remedy"), [(errno.ENOSPC, "Make room"), (errno.EROFS, "Make it writable")])
def test_a_disk_that_cannot_be_written_is_told_however_deep_it_lies(here, number, remedy):
    reason = os.strerror(number)
    for error in (ending(OSError(number, reason)), ending(RuntimeError("serialization failed"), cause=OSError(number, reason))):
        assert error.code.startswith(f"error: {reason}: {here}. {remedy}") and "dvc repro" in error.code


def test_a_mistake_of_the_code_keeps_its_traceback_and_ctrl_c_its_code():
    error = ValueError("a bug")
    assert ending(error) is error
    assert ending(KeyboardInterrupt()).code == 130


@pytest.mark.parametrize("rank", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_only_the_first_of_several_processes_takes_the_lock(here, monkeypatch, rank):
    monkeypatch.setenv(rank, "1")
    run_stage("scratch", ["0"], lambda seed: None)
    assert not (here / ".transfer").exists()
    monkeypatch.setenv(rank, "0")
    run_stage("scratch", ["0"], lambda seed: None)
    assert (here / ".transfer/stages/scratch-0.lock").exists()
