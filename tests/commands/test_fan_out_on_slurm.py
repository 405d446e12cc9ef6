"""Stages as jobs of a real Slurm of two nodes: at the same time, put back into the queue, cancelled."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from ruamel.yaml import YAML

from stages.commands._fan_out import schedule
from stages.commands._fan_out.slurm import Cluster
from stages.lib.errors import UserError
from tests import slurm
from tests.commands.test_fan_out import Toys, orphans, stage, until
from tests.lib.tracking.mlflow_runs import Server, wait
from tests.test_interrupted import longer
from tests.tiny import PARAMS, ROOT, Repo, write_params

MLFLOW = "http://127.0.0.1:9"  # toys do not use it
HIDDEN = "n2 does not see the toys"
lacking = slurm.missing()


@pytest.fixture
def cluster(request, tmp_path):
    """The environment of a Slurm of two nodes; a test may give further lines of its settings, or hide the toys from n2."""
    if lacking:
        pytest.skip(lacking)
    given = getattr(request, "param", "")
    (tmp_path / "toys").mkdir()
    hidden = tmp_path / "toys" if given == HIDDEN else None
    with slurm.cluster(tmp_path / "slurm", "" if hidden else given, hidden=hidden) as environment:
        yield environment


@pytest.fixture
def toys(tmp_path, cluster):
    """Toy stages, and an environment in which they are given to Slurm."""
    pytest.importorskip("submitit", reason="pip install submitit")

    def toys(**stages):
        repo = Toys(tmp_path / "toys", **stages)
        settings = {"at_once": 2, "all": {"timeout_min": 5, "slurm_partition": "both"}, "first": "here",
                    "long": {"timeout_min": 1, "slurm_signal_delay_s": 30, "slurm_comment": "its own"},
                    "endless": {"timeout_min": 100}}  # fmt: skip
        YAML().dump(settings, repo.path / "cluster.yaml")
        paths = [str(ROOT), repo.environment.get("PYTHONPATH", "")]
        repo.environment |= cluster | {"MLFLOW_TRACKING_URI": MLFLOW, "PYTHONPATH": ":".join(filter(None, paths))}
        return repo

    return toys


def job_of(repo, name):
    """The number of the job of a stage."""
    until = time.monotonic() + 90
    while not (job := slurm.asked(repo.environment, "squeue", "-h", "-o", "%i", "-n", name)):
        assert time.monotonic() < until
    return job


@pytest.mark.slow
def test_independent_stages_run_on_two_nodes_at_the_same_time(toys):
    stages = (stage("first") | stage("one", "first", wait=["begun/two"]) | stage("two", "first", wait=["begun/one"])
              | stage("last", "one", "two"))  # fmt: skip
    repo = toys(**stages)
    told = repo.fan_out("--engine", "slurm", "--dry")
    assert "first: on this machine\none: timeout_min=5, slurm_partition=both\n" in told
    repo.fan_out("--engine", "slurm")
    assert repo.begun() == dict.fromkeys(stages, 1) and repo.status() == {}
    assert {(repo.path / "begun" / name).read_text() for name in ("one", "two")} == {"n1\n", "n2\n"}
    assert (repo.path / "begun/first").read_text() == "\n", "on this machine"
    assert "MLflow's store is an SQLite file" in repo.fan_out("--engine", "slurm", code=1, MLFLOW_TRACKING_URI="")


@pytest.mark.slow
def test_jobs_are_put_back_cancelled_and_lost(toys):
    repo = toys(**stage("one", wait=["notes/one"]), **stage("two", wait=["notes/two"]))
    process = repo.start("--engine", "slurm")
    repo.wait_for("one", "two")
    slurm.asked(repo.environment, "scancel", "--signal=USR2", job_of(repo, "one"))
    slurm.asked(repo.environment, "scancel", job_of(repo, "two"))
    (repo.path / "notes/one").touch()
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1 and "failed: two\n" in output and " of Slurm: CANCELLED on n" in output, output
    assert repo.begun() == {"one": 2, "two": 1} and repo.lock().keys() == {"one"}
    process = repo.start("--engine", "slurm")
    job = job_of(repo, "two")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert job not in slurm.asked(repo.environment, "squeue", "-h", "-t", "R,PD", "-o", "%i").split() and not orphans(repo)
    (repo.path / "notes/two").touch()
    repo.fan_out("--engine", "slurm")
    assert repo.status() == {}


@pytest.mark.slow
def test_what_slurm_ends_itself_begins_again(toys):
    """By a manager's requeue, of which a job hears with TERM, and at its time limit."""
    repo = toys(**stage("long", wait=["notes/long"]), **stage("one", wait=["notes/one"]))
    process = repo.start("--engine", "slurm")
    repo.wait_for("one", "long")
    comments = {name: slurm.asked(repo.environment, "squeue", "-h", "-o", "%k", "-n", name) for name in ("long", "one")}
    assert comments == {"long": "its own", "one": "(null)"}, "what one stage asks for, the next one does not"
    slurm.asked(repo.environment, "scontrol", "requeue", job_of(repo, "one"))
    for name in ("one", "long"):
        wait(lambda name=name: repo.begun()[name] > 1, 180)
        (repo.path / "notes" / name).touch()
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0 and repo.begun() == {"one": 2, "long": 2} and repo.status() == {}, output


@pytest.mark.slow
def test_a_full_queue_is_one_line_and_the_next_look_finds_room(toys, tmp_path):
    repo = toys(**stage("one"), **stage("two"))
    (tmp_path / "slurm" / slurm.FULL).touch()
    process = repo.start("--engine", "slurm")
    told = until(process, "one waits: Slurm does not take it: ")
    time.sleep(3 * schedule.AGAIN_S)
    (tmp_path / "slurm" / slurm.FULL).unlink()
    told += process.communicate(timeout=120)[0]
    assert process.returncode == 0 and repo.status() == {} and told.count("job submit limit") == 1, told


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["EnforcePartLimits=ALL"], indirect=True)
def test_what_slurm_never_takes_is_an_error(toys):
    told = toys(**stage("endless")).fan_out("--engine", "slurm", code=1)
    assert "error: Slurm does not take it: " in told and "Requested time limit is invalid" in told, told


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["SlurmdTimeout=10"], indirect=True)
def test_what_ran_on_a_node_that_is_gone_runs_on_another(toys):
    repo = toys(**stage("one", wait=["notes/one"]))
    process = repo.start("--engine", "slurm")
    repo.wait_for("one")
    node = (repo.path / "begun/one").read_text().strip()
    slurm.lose(node)
    (repo.path / "notes/one").touch()
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 0 and repo.status() == {}, output
    assert sorted((repo.path / "begun/one").read_text().split()) == ["n1", "n2"]


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [HIDDEN], indirect=True)
def test_a_node_that_does_not_see_the_folder_is_named(toys):
    repo = toys(**stage("one"), **stage("two"))
    output = repo.fan_out("--engine", "slurm", code=1)
    assert f"of Slurm: n2 does not see {repo.path}, which all nodes must share" in output, output
    YAML().dump({"at_once": 2, "all": {"timeout_min": 5, "slurm_exclude": "n2"}}, repo.path / "cluster.yaml")
    repo.fan_out("--engine", "slurm")
    assert repo.begun() == {"one": 1, "two": 1} and repo.status() == {}


@pytest.mark.slow
def test_one_training_on_two_nodes_is_that_of_two_processes(cluster, finished, copy_of):
    """srun starts a process on each node: one model, one run, resumed, and the bits of two processes on one machine."""
    repo = copy_of(finished)
    (repo.path / "mlflow.db").unlink()
    stage = [sys.executable, "-m", "stages", "scratch", "0"]
    write_params(repo.path, PARAMS | {"device": PARAMS["device"] | {"devices": 2}})
    repo.run(*stage)
    on_one = repo.sha256("scratch/0")
    shutil.rmtree(repo.path / "models/scratch/0")
    write_params(repo.path, PARAMS | {"device": PARAMS["device"] | {"num_nodes": 2}})
    for _ in range(2):
        told = repo.run(
            "srun", "--nodes=2", "--ntasks-per-node=1", "--kill-on-bad-exit", *stage, MASTER_ADDR="127.0.0.1", **cluster
        )
        assert repo.sha256("scratch/0") == on_one
        shutil.rmtree(repo.path / "models/scratch/0")
    assert told.count("scratch 0 resumes after epoch 2.") == 1
    assert repo.query("SELECT COUNT(*) FROM runs") == [(2,)], "one for each of the two settings"
    assert repo.query("SELECT COUNT(*), COUNT(DISTINCT run_uuid || step) FROM metrics WHERE key = 'loss/val'") == [(4, 4)]


@pytest.mark.slow
@pytest.mark.parametrize("ended", [["scancel", "--signal=USR2"], ["scontrol", "requeue"]], ids=["by submitit", "by Slurm"])
def test_a_training_that_is_put_back_goes_on_to_the_same_bits_in_the_same_run(cluster, finished, copy_of, tmp_path, ended):
    pytest.importorskip("submitit", reason="pip install submitit")
    whole = copy_of(finished)
    longer(whole, epochs=100)
    repo = Repo(shutil.copytree(whole.path, tmp_path / "fanned", symlinks=True))
    YAML().dump({"at_once": 2, "all": {"timeout_min": 5}, "check": "here", "leaks": "here"}, repo.path / "cluster.yaml")
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server")
    server.start()
    try:
        repo.environment |= cluster | {"MLFLOW_TRACKING_URI": server.uri}
        stage = ["fan_out", "intermediate@dots", "--engine", "slurm"]
        process = subprocess.Popen([sys.executable, "-m", "stages", *stage], cwd=repo.path, env=repo.environment)
        points = "SELECT step, COUNT(*) FROM metrics WHERE key = 'loss/val' GROUP BY step ORDER BY step"
        logged = Repo(tmp_path / "server")
        job = job_of(repo, "intermediate@dots")
        wait(lambda: len(asked(logged, points)) > 2, 120)
        slurm.asked(repo.environment, *ended, job)
        assert len(asked(logged, points)) < 100, "it was still training"
        whole.run("dvc", "repro", "intermediate@dots")
        assert process.wait(180) == 0
    finally:
        server.kill()
    assert repo.sha256("dots") == whole.sha256("dots")
    history = "metrics/intermediate/dots/history.csv"
    assert (repo.path / history).read_bytes() == (whole.path / history).read_bytes()
    assert asked(logged, "SELECT COUNT(*) FROM runs") == [(1,)]
    assert asked(logged, points) == [(epoch, 1) for epoch in range(1, 101)]


def asked(repo, sql):
    """What an MLflow store answers; nothing while it is being made."""
    try:
        return repo.query(sql)
    except sqlite3.OperationalError:
        return []


@pytest.mark.parametrize("text, words", [
    (None, "cluster.yaml is missing"), ("all: {", "cluster.yaml is not valid YAML"), ("all: {}", "at_once, how many"),
    ("at_once: 0", "1 or more"),
    ("{at_once: 2, target: there}", "target must be a block"), ("{at_once: 2, all: here}", "all must be a block"),
])  # fmt: skip
def test_what_is_wrong_with_cluster_yaml_is_said(tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "cluster.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        Cluster()


def test_a_stage_asks_for_what_all_and_its_group_say(tmp_path):
    (tmp_path / "cluster.yaml").write_text(
        "{at_once: 2, all: {timeout_min: 5, cpus_per_task: 1}, target: {timeout_min: 9}, download: here}"
    )
    cluster = Cluster(tmp_path / "cluster.yaml")
    assert cluster.asks("target@mono-0") == {"timeout_min": 9, "cpus_per_task": 1} and cluster.asks("download@elpv") is None
    assert cluster.asks("scratch@0") == {"timeout_min": 5, "cpus_per_task": 1} and cluster.at_once == 2
