"""How far the pipeline is: dvc.yaml as DVC itself reads it, and the line on a terminal."""

import os
import pty
import re
import sys
from pathlib import Path

import pytest
import yaml

from stages.lib.params import read as params
from stages.lib.shell import progress
from stages.lib.shell.plan import Plan, Stage
from stages.lib.shell.progress import Timed
from tests.tiny import PARAMS, ROOT, write_params

CHAIN = [
    Stage("check", ["check"], ["params.yaml"], ["ok.txt"]),
    Stage("prepare@a", ["prepare", "a"], ["ok.txt"], ["data/a"]),
    Stage("prepare@b", ["prepare", "b"], ["ok.txt"], ["data/b"]),
    Stage("target@a-0", ["target", "a", "0"], ["data/a/train"], ["models/target/a-0"]),
    Stage("target@a-1", ["target", "a", "1"], ["data/a/train"], ["models/target/a-1"]),
    Stage("compare", ["compare"], ["models/target", "data/b/card.json"], ["verdict.md"]),
]
WHOLE = Plan([stage.name for stage in CHAIN], [], since=1000)


def test_the_stages_are_those_that_dvc_finds():
    from dvc.repo import Repo

    dvc = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    wanted = {}
    with Repo(str(ROOT)) as repo:
        for stage in repo.index.stages:
            reads = {dep.def_path for dep in stage.deps if type(dep).__name__ == "Dependency"}  # the others are params
            wanted[stage.name] = stage.cmd, reads, {out.def_path for out in stage.outs}
    expanded = progress.expand(dvc, params.read(ROOT / "params.yaml"))
    assert {stage.name: (stage.cmd, set(stage.reads), set(stage.makes)) for stage in expanded} == wanted and len(wanted) > 10


@pytest.mark.parametrize(
    ("own", "begun", "timed", "expected"),
    [
        (1, [0], {}, "[#.........] stage 2 of 6: prepare@a; 4 more, untimed"),
        (
            1,
            [0],
            {"prepare-a": 7.4, "target-a-0": 170},
            "stage 2 of 6: prepare@a, about 7 s; 4 more, about 6 min, 1 untimed",
        ),
        (
            3,
            [0, 1, 2],
            {"target-a-0": 50, "target-a-1": 9, "compare": 2},
            "stage 4 of 6: target@a-0, about 50 s; 2 more, about 11 s",
        ),
        (3, [0], {}, "stage 3 of 6: target@a-0; 3 more, untimed"),  # prepare@a turned out to have nothing to do
        (5, [0, 1, 2, 3, 4], {"compare": 2}, "[########..] stage 6 of 6: compare, about 2 s"),
    ],
)
def test_the_line_tells_which_stage_of_the_plan_it_is_and_what_is_left(own, begun, timed, expected):
    plan = WHOLE._replace(begun=[CHAIN[index].name for index in [*begun, own]])
    line = progress.line(CHAIN[own], plan, CHAIN, {name: Timed(seconds, ended=900) for name, seconds in timed.items()})
    assert line.endswith(expected) and len(line) <= 80


def test_a_training_is_expected_to_take_what_the_same_with_another_seed_took_in_this_run():
    """Not what it took itself with earlier settings."""
    timed = {"target-a-0": Timed(300, ended=1200), "target-a-1": Timed(4, ended=900)}
    assert progress.expected(CHAIN[4], WHOLE, CHAIN, timed) == 300
    assert progress.expected(CHAIN[4], WHOLE._replace(since=1300), CHAIN, timed) == 4
    assert progress.expected(CHAIN[2], WHOLE, CHAIN, {"prepare-a": Timed(6, ended=900)}) == 6
    assert progress.expected(CHAIN[5], WHOLE, CHAIN, timed) is None


def test_a_stage_that_is_started_by_hand_says_its_name_alone():
    assert progress.line(CHAIN[3], None, CHAIN, {"target-a-0": Timed(30, ended=900)}) == "target@a-0, about 30 s"


def test_whatever_dvc_yaml_has_become_a_stage_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    Path("dvc.yaml").write_text("stages: [1, 2]")
    write_params(Path(), PARAMS)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.shown(["check"]):
        print("it runs")
    told = capsys.readouterr()
    assert told.out == "it runs\n" and told.err.startswith("(progress of the pipeline: ")
    assert Path(".transfer/seconds/check").exists()


def test_a_time_that_could_not_be_written_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with progress.shown(["target", "mono", "0"]):
        pass
    (tmp_path / ".transfer/seconds/scratch-0").touch()  # a full disk
    assert list(progress.read_timed()) == ["target-mono-0"]


def test_on_a_terminal_a_stage_says_so_and_its_time_is_kept(tmp_path, monkeypatch, capfd):
    """The check stage itself, on a pseudo-terminal, as DVC starts it: through a shell."""
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

    (tmp_path / "dvc").write_text(f"import subprocess\nsubprocess.run('{sys.executable} -m stages check || exit 1', shell=True)")
    assert pty.spawn([sys.executable, "dvc", "repro"], read) == 0
    told = re.search(rb"\[\.{10}\] stage 1 of (\d+): check; (\d+) more, untimed", b"".join(seen))
    assert told and int(told[1]) - 1 == int(told[2]) > 10
    assert float((tmp_path / ".transfer/seconds/check").read_text()) >= 0
    seen.clear()
    assert pty.spawn([sys.executable, "-m", "stages", "check"], read) == 0
    assert b"".join(seen).strip().startswith(b"check, about 0 s")
