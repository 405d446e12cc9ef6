"""The clean command deletes what is over, keeps what is young, in use, or may go on."""

import os
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


def test_what_a_killed_dvc_left_half_written_is_deleted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    noted = tmp_path / ".dvc/tmp/rwlock"
    noted.parent.mkdir(parents=True)
    for text in ('{"write": {}, "read": {}}', "{}"):
        noted.write_text(text)
        main([])
        assert noted.read_text() == text
    for text in ("", '{"write": {"a'):
        noted.write_text(text)
        main([])
        assert not noted.exists()
        assert "half-written by a dvc that was killed, deleted" in capsys.readouterr().out
