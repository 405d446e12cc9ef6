"""How far the pipeline is: dvc.yaml as DVC itself reads it, what will run, and the line on a terminal."""

import os
import pty
import sys
from pathlib import Path

import pytest
import yaml

from stages.lib.params import read as params
from stages.lib.shell import progress
from tests.tiny import PARAMS, ROOT, write_params

CHAIN = [
    progress.Stage("check", ["check"], ["params.yaml"], ["ok.txt"]),
    progress.Stage("prepare@a", ["prepare", "a"], ["ok.txt"], ["data/a"]),
    progress.Stage("prepare@b", ["prepare", "b"], ["ok.txt"], ["data/b"]),
    progress.Stage("target@a-0", ["target", "a", "0"], ["data/a/train.npy"], ["models/target/a-0"]),
    progress.Stage("compare", ["compare"], ["models/target", "data/b/card.json"], ["verdict.md"]),
]


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A folder in which all that CHAIN makes is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for stage in CHAIN:
        for path in map(Path, stage.makes):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def test_the_stages_are_those_that_dvc_finds():
    from dvc.repo import Repo

    dvc = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    wanted = {}
    with Repo(str(ROOT)) as repo:
        for stage in repo.index.stages:
            reads = {dep.def_path for dep in stage.deps if type(dep).__name__ == "Dependency"}  # the others are params
            wanted[stage.name] = reads, {out.def_path for out in stage.outs}
    expanded = progress.expand(dvc, params.read(ROOT / "params.yaml"))
    assert {stage.name: (set(stage.reads), set(stage.makes)) for stage in expanded} == wanted and len(wanted) > 10


@pytest.mark.parametrize(
    ("own", "missing", "expected"),
    [
        (0, [], []),  # what check makes is always the same
        (1, [], ["target@a-0", "compare"]),
        (2, [], ["compare"]),
        (4, [], []),
        (0, ["data/b"], ["prepare@b", "compare"]),
        (1, ["data/a", "data/b"], ["prepare@b", "target@a-0", "compare"]),
    ],
)
def test_what_reads_of_what_runs_will_run_and_what_is_missing(made, own, missing, expected):
    for path in missing:
        Path(path).unlink()
    assert [stage.name for stage in progress.following(CHAIN[own], CHAIN)] == expected


def test_the_line_tells_what_is_left_and_how_long_it_took(made):
    bar = "[########............] 2 of 5 stages done; now prepare@a"
    assert progress.line(["prepare", "a"], CHAIN, {}) == f"{bar}; 2 stages remain (not timed yet)"
    seconds = {"prepare-a": 7.4, "target-a-0": 170.0}
    expected = f"{bar} (last time 7 s); 2 stages remain (about 3 min, plus 1 not timed yet)"
    assert progress.line(["prepare", "a"], CHAIN, seconds) == expected
    expected = "[############........] 3 of 5 stages done; now target@a-0; 1 stage remains (about 2 s)"
    assert progress.line(["target", "a", "0"], CHAIN, {"compare": 2.0}) == expected
    expected = "[################....] 4 of 5 stages done; now compare (last time 2 s)"
    assert progress.line(["compare"], CHAIN, {"compare": 2.0}) == expected


def test_whatever_dvc_yaml_has_become_a_stage_runs(made, monkeypatch, capsys):
    Path("dvc.yaml").write_text("stages: [1, 2]")
    write_params(Path(), PARAMS)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.shown(["check"]):
        print("it runs")
    told = capsys.readouterr()
    assert told.out == "it runs\n" and told.err.startswith("(progress of the pipeline: ")
    assert Path(".transfer/seconds/check").exists()


def test_on_a_terminal_a_stage_says_so_and_its_time_is_kept(tmp_path, monkeypatch, capfd):
    """The check stage itself, on a pseudo-terminal."""
    monkeypatch.chdir(tmp_path)
    for name in ("dvc.yaml", "requirements.in", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    write_params(tmp_path, PARAMS)
    for name in PARAMS["datasets"]:
        (tmp_path / "images" / name).mkdir(parents=True)
    (tmp_path / "metrics").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    seen = []

    def read(descriptor):
        seen.append(os.read(descriptor, 1024))
        return seen[-1]

    assert pty.spawn([sys.executable, "-m", "stages", "check"], read) == 0
    assert b"stages done; now check; " in b"".join(seen)
    assert float((tmp_path / ".transfer/seconds/check").read_text()) >= 0
