"""Sharing through a remote: what one person pushed, another one pulls and has nothing to run."""

import shutil

import pytest

from tests.tiny import Repo

pytestmark = pytest.mark.slow


def test_a_fresh_clone_pulls_a_pipeline_that_is_up_to_date(finished, copy_of, tmp_path):
    repo = copy_of(finished)
    repo.run("dvc", "remote", "add", "-d", "shared", str(tmp_path / "remote"))
    repo.run("dvc", "push")
    repo.run("git", "commit", "-qam", "a remote")
    repo.run("git", "clone", "-q", ".", str(tmp_path / "clone"))
    clone = Repo(tmp_path / "clone")
    shutil.rmtree(repo.path / ".dvc/cache")  # what the clone gets, it gets from the remote
    clone.run("dvc", "pull")
    assert clone.ran("repro") == {"track"}
    model = "models/target/dots-0/weights.safetensors"
    assert (clone.path / model).read_bytes() == (repo.path / model).read_bytes()
