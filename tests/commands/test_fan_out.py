"""Stages that are fanned out: at the same time, each once, whatever is killed; and the same results as from `dvc repro`."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from stages.commands._fan_out import schedule
from tests import kills, warm
from tests.tiny import PARAMS, ROOT, Repo, new_repo, write_params

# A stage of the toys: it notes that it begins, waits until the files that it is told of are there, and writes its output.
STAGE = """import os, sys, time
from pathlib import Path
name, *wanted = sys.argv[2:]
Path(f"begun/{name}").open("a").write(os.environ.get("CUDA_VISIBLE_DEVICES", os.environ.get("SLURMD_NODENAME", "")) + "\\n")
while not all(Path(each).exists() for each in wanted):
    time.sleep(0.02)
if Path(f"notes/{name}.wrong").exists():
    sys.exit(f"error: {name} is wrong")
Path(f"{name}.txt").write_text(name)
"""
CONFIG = (ROOT / ".dvc/config").read_text()  # without reports to DVC's makers
FAN_OUT = f"import sys; sys.path[0] = {str(ROOT)!r}; from stages.__main__ import main; main(['fan_out', *sys.argv[1:]])"


def stage(name, *needs, wait=()):
    cmd = " ".join(["python -m stages", name, name, *wait])
    return {name: {"cmd": cmd, "deps": [f"{each}.txt" for each in needs] or ["go"], "outs": [f"{name}.txt"]}}


class Toys(Repo):
    """A repository of DVC with toy stages, and fan_out run in it."""

    def __init__(self, path, **stages):
        super().__init__(path)
        for folder in ("stages", "notes", "begun"):
            (path / folder).mkdir(parents=True)
        (path / "stages/__main__.py").write_text(STAGE)
        (path / "go").touch()
        write_params(path, PARAMS)
        (path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
        self.run("git", "init", "-q")
        self.run("dvc", "init", "-q")
        (path / ".dvc/config").write_text(CONFIG)
        self.environment |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

    def start(self, *words, **environment):
        """Start fan_out in a process of its own."""
        return subprocess.Popen([sys.executable, "-c", FAN_OUT, *words], cwd=self.path, env=self.environment | environment,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)  # fmt: skip

    def fan_out(self, *words, code=0, **environment):
        process = self.start(*words, **environment)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == code, output
        return output

    def begun(self):
        """How often each stage began."""
        return {file.name: len(file.read_text().splitlines()) for file in (self.path / "begun").iterdir()}

    def wait_for(self, *names):
        until = time.monotonic() + 60
        while not all((self.path / "begun" / name).exists() for name in names):
            assert time.monotonic() < until, self.begun()
            time.sleep(0.02)

    def lock(self):
        return yaml.safe_load((self.path / "dvc.lock").read_text())["stages"]

    def dvc_of(self, name):
        """The process of the dvc that runs a stage."""
        return next(each for each in psutil.process_iter(["cmdline", "cwd"])
                    if each.info["cwd"] == str(self.path) and (each.info["cmdline"] or [])[-1:] == [name]
                    and "--single-item" in each.info["cmdline"])  # fmt: skip


@pytest.fixture
def toys(tmp_path):
    return lambda **stages: Toys(tmp_path / "toys", **stages)


@pytest.mark.slow
def test_independent_stages_run_at_the_same_time_and_the_lock_is_that_of_a_plain_repro(toys, tmp_path):
    stages = (stage("first") | stage("one", "first", wait=["begun/two"]) | stage("two", "first", wait=["begun/one"])
              | stage("last", "one", "two"))  # fmt: skip
    repo = toys(**stages)
    output = repo.fan_out("--workers", "2")
    assert "worker 1: one begins" in output or "worker 2: one begins" in output
    assert repo.begun() == dict.fromkeys(stages, 1)
    plain = Toys(tmp_path / "plain", **stages)
    for name in ("one", "two"):
        (plain.path / "begun" / name).touch()
    plain.run("dvc", "repro")
    assert repo.lock() == plain.lock() and repo.status() == {}
    assert "begins" not in repo.fan_out()
    assert repo.begun() == dict.fromkeys(stages, 1)


def test_what_fails_stops_only_what_needs_it(toys):
    stages = stage("good") | stage("bad") | stage("after", "good") | stage("never", "bad")
    repo = toys(**stages)
    (repo.path / "notes/bad.wrong").touch()
    output = repo.fan_out("--workers", "2", code=1)
    assert "bad failed: bad is wrong; see .transfer/fan_out/bad.log" in output
    assert "failed: bad\nnot begun, because they need what failed: never\n" in output and "goes on where it stopped" in output
    assert repo.begun() == {"good": 1, "bad": 1, "after": 1} and repo.lock().keys() == {"good", "after"}
    (repo.path / "notes/bad.wrong").unlink()
    assert "good begins" not in repo.fan_out()
    assert repo.begun() == {"good": 1, "bad": 2, "after": 1, "never": 1} and repo.status() == {}


@pytest.mark.slow
def test_only_the_targets_and_what_they_need(toys):
    repo = toys(**stage("a"), **stage("b", "a"), **stage("c"))
    repo.fan_out("b")
    assert repo.begun() == {"a": 1, "b": 1}
    assert "error: Stage 'd' not found" in repo.fan_out("d", code=1)
    assert "error: --workers" in repo.fan_out("--workers", "0", code=1)


@pytest.mark.slow
def test_a_killed_worker_is_one_line_and_the_next_call_goes_on(toys):
    repo = toys(**stage("hit", wait=["notes/release"]), **stage("other", wait=["notes/struck"]), **stage("after", "hit", "other"))
    process = repo.start("--workers", "2")
    repo.wait_for("hit", "other")
    repo.dvc_of("hit").kill()
    (repo.path / "notes/struck").touch()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1 and "hit failed: its dvc was killed (signal 9)" in output
    assert not orphans(repo), "its stage was ended too"
    (repo.path / "notes/release").touch()
    repo.fan_out()
    assert repo.begun() == {"hit": 2, "other": 1, "after": 1} and repo.status() == {}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_stages_and_leaves_dvc_in_order(toys, number):
    repo = toys(**stage("one", wait=["notes/release"]), **stage("two", wait=["notes/release"]))
    process = repo.start("--workers", "2")
    repo.wait_for("one", "two")
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "Stopping the stages" in output
    assert not orphans(repo) and (repo.path / ".dvc/tmp/rwlock").read_text() == "{}"
    (repo.path / "notes/release").touch()
    repo.fan_out()
    assert repo.begun() == {"one": 2, "two": 2} and repo.status() == {}


@pytest.mark.slow
def test_after_it_was_killed_itself_the_next_call_waits_for_its_stages(toys):
    repo = toys(**stage("one", wait=["notes/release"]), **stage("two", "one"))
    process = repo.start()
    repo.wait_for("one")
    process.kill()
    process.communicate()
    again = repo.start()
    told = until(again, "one waits: its files are in use by (PID")
    (repo.path / "notes/release").touch()
    told += again.communicate(timeout=60)[0]
    assert again.returncode == 0 and repo.begun() == {"one": 1, "two": 1} and repo.status() == {}, told


@pytest.mark.slow
def test_two_at_once_run_each_stage_once(toys):
    repo = toys(**stage("one", wait=["notes/release"]), **stage("two", "one"))
    both = [repo.start()]
    repo.wait_for("one")
    both.append(repo.start())
    until(both[1], "fan_out is already running in another process; waiting for it.")
    (repo.path / "notes/release").touch()
    assert [(each.communicate(timeout=60), each.returncode)[1] for each in both] == [0, 0]
    assert repo.begun() == {"one": 1, "two": 1}


@pytest.mark.slow
def test_beside_a_plain_repro_each_stage_runs_once(toys):
    repo = toys(**stage("one", wait=["notes/release"]), **stage("two", "one"))
    plain = subprocess.Popen(["dvc", "repro", "one"], cwd=repo.path, env=repo.environment, stdout=subprocess.DEVNULL)
    repo.wait_for("one")
    process = repo.start()
    told = until(process, "one waits")
    (repo.path / "notes/release").touch()
    assert plain.wait(60) == 0
    told += process.communicate(timeout=60)[0]
    assert process.returncode == 0 and repo.begun() == {"one": 1, "two": 1}, told


@pytest.mark.slow
def test_what_a_killed_dvc_left_half_written_is_mended(toys):
    repo = toys(**stage("one"))
    repo.fan_out()
    (repo.path / "dvc.lock").write_text("sche")
    (repo.path / ".dvc/tmp/rwlock").write_text("{")
    assert repo.fan_out().count("half-written by a dvc that was killed, deleted") == 2
    assert repo.begun() == {"one": 1} and repo.status() == {}, "taken from DVC's cache"


@pytest.mark.slow
def test_each_worker_has_its_own_gpus(toys):
    repo = toys(**stage("one", wait=["begun/two"]), **stage("two", wait=["begun/one"]))
    write_params(repo.path, PARAMS | {"device": PARAMS["device"] | {"accelerator": "auto"}})
    assert "fan_out: workers: 2 (2 GPUs)" in repo.fan_out(CUDA_VISIBLE_DEVICES="3,GPU-5")
    assert {(repo.path / "begun" / name).read_text() for name in ("one", "two")} == {"3\n", "GPU-5\n"}


@pytest.mark.slow
def test_the_pipeline_gives_the_same_lock_the_same_bits_and_the_same_runs(finished, copy_of, tmp_path):
    repo = new_repo(tmp_path / "fanned", PARAMS)
    path = os.pathsep.join([warm.path(), repo.environment["PATH"]])
    output = repo.run(sys.executable, "-m", "stages", "fan_out", "--workers", "3", PATH=path)
    assert "target@dots-0 begins; " in output and "Running stage 'track'" in output
    assert "Running stage 'compare'" not in output, "at the end there is nothing left but to track"
    made, wanted = kills.made(repo), kills.made(copy_of(finished))
    for kind in wanted:
        assert made[kind] == wanted[kind], kind


def test_a_full_queue_is_told_once_and_tried_again(monkeypatch, tmp_path):
    class Done:
        log = tmp_path / "log"

        def code(self):
            return 0

    tries, told = [], []

    def start(name, slot):
        tries.append(name)
        if len(tries) in (1, 2, 4):
            raise schedule.Full("no room")
        return Done()

    monkeypatch.setattr(schedule, "AGAIN_S", 0.01)
    needs = {"one": frozenset(), "two": frozenset(), "three": frozenset({"one"})}
    state = schedule.run(needs, 2, start, set, lambda name: 1, lambda sentence, state: told.append(sentence))
    assert state.done == {"one", "two", "three"} and len(tries) == 6
    assert [each for each in told if "waits" in each] == ["one waits: no room", "two waits: no room"]
    assert sum("begins" in each for each in told) == 3


def until(process, words):
    """What a process says until it has said these words."""
    told = ""
    while words not in told:
        line = process.stdout.readline()
        assert line, told
        told += line
    return told


def orphans(repo):
    """Processes that run in a repository."""
    return [each for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(repo.path)]
