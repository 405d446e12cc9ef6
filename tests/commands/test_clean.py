"""The clean command deletes what is over, keeps what is young, in use, or may go on."""

import os
import sys
import time

import pytest

from stages.commands.clean import main
from stages.lib.shell import checkpoints
from stages.lib.shell.locks import alone


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    made = {}
    for name, age_h in (("old", 30), ("young", 1), ("used", 30), ("broken", 30)):
        made[name] = checkpoints.folder_of(f"target-{name}", "k")
        made[name].mkdir(parents=True)
        (made[name] / "state.pt").write_bytes(b"x" * 1_000_000)
        if name != "broken":
            then = time.time() - age_h * 3600
            checkpoints.finish(f"target-{name}", "k")
            os.utime(made[name] / checkpoints.FINISHED, (then, then))
    return made


def test_old_ones_go_and_those_in_use_stay(folders, capsys):
    with alone(folders["used"] / "lock", "a test"):
        main([])
    output = capsys.readouterr().out
    assert "1 MB freed" in output and "target-used-k: in use, kept" in output
    assert "target-broken-k: not finished, kept" in output
    assert [name for name, folder in folders.items() if folder.exists()] == ["young", "used", "broken"]


def test_all_of_them(folders, capsys):
    main(["--all"])
    assert "4 MB freed" in capsys.readouterr().out
    assert not any(folder.exists() for folder in folders.values())


@pytest.mark.parametrize("name, whole, halves", [
    (".dvc/tmp/rwlock", ['{"write": {}, "read": {}}', "{}"], ["", '{"write": {"a']),
    ("dvc.lock", ["schema: '2.0'\nstages:\n  a: {cmd: b}\n", "schema: '2.0'\n"], ["", "sche", "schema: '2.0'\nstages:\n  a: {c"]),
])  # fmt: skip
def test_what_a_killed_dvc_left_half_written_is_deleted(tmp_path, monkeypatch, capsys, name, whole, halves):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    for text in whole:
        (tmp_path / name).write_text(text)
        main([])
        assert (tmp_path / name).read_text() == text
    for text in halves:
        (tmp_path / name).write_text(text)
        main([])
        assert not (tmp_path / name).exists()
        assert "half-written by a dvc that was killed, deleted" in capsys.readouterr().out


@pytest.mark.slow
def test_dvc_goes_on_after_its_half_written_files_are_deleted(finished, copy_of):
    """It takes from its cache what dvc.lock had known."""
    repo = copy_of(finished)
    (repo.path / "dvc.lock").write_text("")
    (repo.path / ".dvc/tmp/rwlock").write_text("")
    assert "validation failed" in repo.run("dvc", "repro", ok=False)
    repo.run(sys.executable, "-m", "stages", "clean")
    assert repo.ran("repro") <= {"compare", "report", "track"}
    assert repo.run("git", "diff", "dvc.lock") == ""
