"""The pipeline as a user runs it: real DVC, git, processes and kills, on small images and a tiny backbone."""

import copy
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages.lib import advice, artifacts
from tests.conftest import FULL, PARAMS, new_repo, write_params
from tests.helpers import leaves, put

TARGETS = {"target@dots-0", "target@tiny-0"}
TRAININGS = TARGETS | {"intermediate@dots", "scratch@0"}
EVALUATIONS = {"evaluate@dots-0", "evaluate@tiny-0", "evaluate-scratch@0", "evaluate-intermediate@dots"}
END = {"compare", "report", "track"}
EVERYTHING = {"check", "source@tiny", "prepare@dots", "prepare@lines", "advise", "recipe", "forgetting@dots"}
EVERYTHING |= TRAININGS | EVALUATIONS | END


def sha(repo, model):
    return json.loads((repo.path / "models" / model / "card.json").read_text())["sha256"]


def query(repo, sql):
    with sqlite3.connect(repo.path / "mlflow.db") as store:
        return store.execute(sql).fetchall()


def parents(repo):
    return query(repo, "SELECT r.run_uuid, r.status FROM tags t JOIN runs r USING (run_uuid) WHERE t.key = 'transfer.state' "
                       "AND lifecycle_stage = 'active' AND r.run_uuid NOT IN "
                       "(SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId')")  # fmt: skip


def test_one_command_runs_everything(finished):
    executed = {line.split("'")[1] for line in finished.output.splitlines() if line.startswith("Running stage '")}
    assert executed == EVERYTHING
    assert "%|" not in finished.output, "progress bars without a terminal"
    verdict = json.loads((finished.path / "metrics/compare.json").read_text())
    assert verdict["transfer"]["verdict"] in {"helps", "hurts", "no difference shown"}
    card = json.loads((finished.path / "models/target/dots-0/card.json").read_text())
    assert card["chain"] == ["tiny", "dots", "dots-0"]
    assert card["classes"] == ["cross", "frame"]
    assert card["licences"] == ["none", "our own"]
    assert json.loads((finished.path / "models/scratch/0/card.json").read_text())["parent"] is None
    certificate = pd.read_csv(finished.path / "metrics/target/dots-0/certificate.csv")
    assert set(certificate.declared) == {"trainable", "statistics", "frozen"}
    assert (certificate.moved == (certificate.declared != "frozen")).all()
    recipe = json.loads((finished.path / "metrics/recipe.json").read_text())
    assert (recipe["strategy"], recipe["training"]) == ("partial", PARAMS["training"])
    forgotten = pd.read_csv(finished.path / "metrics/forgetting/dots/accuracy.csv")
    assert forgotten.model.tolist() == ["target dots-0"]
    assert "## Signs of mistakes" in (finished.path / "metrics/verdict.md").read_text()


def test_the_advice_stands_in_mlflow_before_the_target_is_trained(finished):
    starts = dict(query(finished, "SELECT t.value, r.start_time FROM runs r JOIN tags t USING (run_uuid) "
                                  "WHERE t.key = 'transfer.stage'"))  # fmt: skip
    assert starts["intermediate dots"] < starts["advise"] < min(starts["target dots-0"], starts["target tiny-0"])
    told = json.loads((finished.path / "metrics/advise.json").read_text())
    points = query(finished, "SELECT m.key, m.value FROM metrics m JOIN tags t USING (run_uuid) "
                             "WHERE t.key = 'transfer.stage' AND t.value = 'advise'")  # fmt: skip
    assert dict(points) == pytest.approx(told["figures"], abs=1e-6)
    assert len(points) == len(told["figures"]), "each once, from the stage itself or from track"


def test_nothing_to_do_runs_nothing(finished, copy_of):
    repo = copy_of(finished)
    assert repo.ran("repro") == {"track"}
    assert len(parents(repo)) == 1


def test_another_strategy_reruns_the_target_and_what_follows(finished, copy_of):
    repo = copy_of(finished)
    before = sha(repo, "scratch/0")
    evaluations = {"evaluate@dots-0", "evaluate@tiny-0"}
    executed = repo.ran("exp", "run", "-S", "strategy=full")
    assert executed == TARGETS | evaluations | END | {"check", "recipe", "forgetting@dots"}
    assert sha(repo, "scratch/0") == before
    assert len(parents(repo)) == 2
    first = parents(repo)
    assert repo.ran("exp", "run", "-S", "strategy=partial") == {"check", "compare", "track"}  # the rest is restored
    assert parents(repo) == first, "a state that is in MLflow already is not logged again"


def test_a_param_of_evaluate_and_a_knob_of_another_strategy_train_nothing(finished, copy_of):
    repo = copy_of(finished)
    strategies = PARAMS["strategies"] | {"full": FULL | {"lr": 0.02}}
    write_params(repo.path, PARAMS | {"strategies": strategies, "evaluate": PARAMS["evaluate"] | {"num_resamples": 300}})
    assert repo.ran("repro", "evaluate@dots-0") == {"check", "recipe", "evaluate@dots-0"}


def test_auto_trains_what_is_advised_and_follows_the_advice_and_the_code_of_its_plugin(finished, copy_of):
    repo = copy_of(finished)
    stages = repo.path / "stages/lib"

    def rank(*best_first):
        shares = {name: [0.1 * (number + 1)] * len(advice.EXAMPLES) for number, name in enumerate(best_first)}
        append(stages / "advice.py", f"ERRORS_LEFT = {shares}")

    def append(path, line):
        path.write_text(path.read_text() + f"\n{line}\n")

    def target():
        executed = repo.ran("repro", "target@tiny-0")
        return executed, json.loads((repo.path / "models/target/tiny-0/card.json").read_text())["settings"]["strategy"]

    partial = sha(repo, "target/tiny-0")
    write_params(repo.path, PARAMS | {"strategy": "auto", "strategies": PARAMS["strategies"] | {"auto": {}}})
    rank("prototype", "full", "partial")  # prototype has no block
    assert target() == ({"check", "advise", "recipe", "target@tiny-0"}, "full")
    assert json.loads((repo.path / "metrics/advise.json").read_text())["choice"] == "prototype"
    rank("partial", "full")
    assert target() == ({"advise", "recipe", "target@tiny-0"}, "partial")
    assert sha(repo, "target/tiny-0") == partial, "as if it had been chosen by name"
    append(stages / "strategies/feature_extraction.py", "# not advised")
    assert target() == ({"check", "recipe"}, "partial")
    append(stages / "strategies/partial.py", "# advised")
    assert target() == ({"check", "recipe", "target@tiny-0"}, "partial")


STALE = {  # what a change of each section makes stale by itself, beside check, which reads all of params.yaml
    "seed": TRAININGS,
    "strategies": {"recipe"},
    "training": {"intermediate@dots", "scratch@0", "recipe"},  # and by the recipe the targets
    "checks": TRAININGS | {"compare"},
    "device": TRAININGS | EVALUATIONS | {"advise", "forgetting@dots"},
    "datasets.dots": {"prepare@dots"},
    "datasets.lines": {"prepare@lines"},
    "source.tiny": {"source@tiny"},
    "intermediate.dots": {"intermediate@dots", "forgetting@dots", "compare", "report"},
    "target": TARGETS | {"scratch@0", "advise", "report"},
    "scratch": {"scratch@0"},
    "advise": {"advise"},
    "evaluate": EVALUATIONS | {"forgetting@dots"},
    "compare": {"compare", "report"},
    "inits": {"compare", "report", "forgetting@dots", "advise"},
    "seeds": {"compare", "report", "forgetting@dots"},
}


def test_every_leaf_of_params_makes_exactly_the_documented_stages_stale(finished, copy_of):
    repo = copy_of(finished)
    program = """
import json, sys
from dvc.repo import Repo
from ruamel.yaml import YAML
for path, values in json.load(sys.stdin):
    YAML(typ="safe").dump(values, open("params.yaml", "w"))
    print(json.dumps([path, sorted(Repo(".").status())]), flush=True)
"""
    changes = []
    for path, value in leaves(PARAMS):
        if path == ("strategy",) or value == {}:
            continue  # the strategy has its own test: the target's deps change with it
        values = copy.deepcopy(PARAMS)
        other = {bool: lambda v: not v, str: lambda v: v, list: lambda v: v[:1] if len(v) == 2 else [*v, 1.0]}
        new = other.get(type(value), lambda v: v + 1)(value)
        if isinstance(value, str):
            other_data = "lines" if value == "dots" else "dots"
            new = {"raw": "images", "reader": "csv", "preprocessing": "tiny2", "init": "dots2", "data": other_data,
                   "like": "tiny2", "strategy": "partial", "weights": "timm"}.get(path[-1], value + "x")  # fmt: skip
            new = "error" if path == ("advise", "preprocessing") else new
            if new in ("tiny2", "dots2"):
                values["source"] |= {new: copy.deepcopy(values["source"]["tiny"])}
        put(values, path, new)
        changes.append((".".join(path), values))
    done = subprocess.run([sys.executable, "-c", program], input=json.dumps(changes), cwd=repo.path, env=repo.environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(changes) > 90
    for path, stale in results:
        section = next(prefix for prefix in STALE if path == prefix or path.startswith(f"{prefix}."))
        added = {"source@tiny2", "source@dots2"} | {stage for stage in stale if stage.startswith("target@") and path == "seeds"}
        added |= {stage for stage in stale if stage.endswith("-1.0") or stage.endswith("@1.0")}
        if path == "target.data":
            added |= EVALUATIONS - {"evaluate-intermediate@dots"}  # other data to be measured on
        if path == "intermediate.dots.data":
            added |= {"evaluate-intermediate@dots"}
        if path == "scratch.like":
            added |= {"advise"}  # the same network is the root of the chain, on which the preprocessing is tried
        expected = STALE[section] | {"check", "track"}
        assert expected <= set(stale) <= expected | added, path


def test_a_mistake_stops_everything_before_it_starts(finished, copy_of):
    repo = copy_of(finished)
    values = copy.deepcopy(PARAMS) | {"seed": 1}
    values["intermediate"]["dots"]["epoch"] = 3
    values["datasets"]["dots"]["fit"] = "stretch"
    write_params(repo.path, values)
    output = repo.run("dvc", "repro", ok=False)
    assert "intermediate.dots.epoch: unknown key. Did you mean 'epochs'?" in output
    assert "datasets.dots.fit: must be 'squash' or 'crop'" in output
    assert "Traceback" not in output
    assert output.count("Running stage") == 1


def test_every_stage_checks_the_whole_file_itself(finished, copy_of):
    repo = copy_of(finished)
    write_params(repo.path, PARAMS | {"sed": 1})
    for command in ("prepare dots", "source tiny", "intermediate dots", "advise", "recipe", "target dots 0", "scratch 0",
                    "evaluate target dots-0 lines", "forgetting dots dots", "compare", "report", "track", "check"):  # fmt: skip
        output = repo.run(sys.executable, "-m", *f"stages.{command}".split(), ok=False)
        assert "sed: unknown section. Did you mean 'seed'?" in output, command
        assert "Traceback" not in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("download", "usage: python -m stages.download NAME"),
        ("compare now", "usage: python -m stages.compare"),
        ("forgetting dots", "usage: python -m stages.forgetting HOP DATA"),
        ("prepare dotts", "datasets in params.yaml has no block 'dotts'. Did you mean 'dots'?"),
        ("intermediate tiny", "intermediate in params.yaml has no block 'tiny'"),
        ("target nohop 0", "models/nohop/card.json cannot be read"),
    ],
)
def test_a_wrong_word_on_the_command_line_is_answered_in_words(finished, words, said):
    output = finished.run(sys.executable, "-m", *f"stages.{words}".split(), ok=False)
    assert said in output
    assert "Traceback" not in output


def test_what_this_machine_or_network_cannot_do_is_said_before_training(finished, copy_of):
    repo = copy_of(finished)
    write_params(repo.path, PARAMS | {"device": PARAMS["device"] | {"accelerator": "mps"}})
    assert "error: device: this machine cannot do that" in repo.run(sys.executable, "-m", "stages.scratch", "0", ok=False)
    card = repo.path / "models/tiny/card.json"
    text = card.read_text().replace("test_resnet", "vit_tiny_patch16_224")  # made for 224 px and nothing else
    card.write_text(text)
    write_params(repo.path, PARAMS)
    output = repo.run(sys.executable, "-m", "stages.scratch", "0", ok=False)
    assert "vit_tiny_patch16_224 does not take images of 32 px (datasets.lines.px)" in output


@pytest.mark.parametrize("path", ["/usr/bin:/bin", "empty"])
def test_dvc_outside_its_environment_says_so(finished, copy_of, path, tmp_path):
    repo = copy_of(finished)
    if path == "empty":  # a shell and no python at all
        path = str(tmp_path / "bin")
        Path(path).mkdir()
        (tmp_path / "bin/sh").symlink_to("/bin/sh")
        (tmp_path / "bin/git").symlink_to(shutil.which("git"))
    output = repo.run(str(Path(sys.executable).parent / "dvc"), "repro", "-f", "check", ok=False, PATH=path)
    assert "virtual environment" in output
    assert "Traceback" not in output


def test_a_backbone_that_forgot_is_named_and_one_that_stayed_is_not(finished, copy_of):
    repo = copy_of(finished)
    folder = repo.path / "models/target/dots-0"
    tensors, card = artifacts.read_model(folder)
    for other, forgot in [("dots", False), ("scratch/0", True)]:
        others, _ = artifacts.read_model(repo.path / "models" / other)
        backbone = {name: tensor for name, tensor in others.items() if name.startswith("backbone.")}
        artifacts.write_model(folder, tensors | backbone, card)
        repo.run(sys.executable, "-m", "stages.forgetting", "dots", "dots")
        repo.run(sys.executable, "-m", "stages.compare")
        words = (repo.path / "metrics/verdict.md").read_text()
        assert ("Catastrophic forgetting: after target dots-0, dots is recognised with" in words) == forgot


LOOK = """
import atexit, json, os, sys
from pathlib import Path
here, opened = Path.cwd(), set()

def look(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and "r" in (arguments[1] or "r"):
        opened.add(arguments[0])

def write():
    paths = [Path(os.path.normpath(here / name)) for name in opened]
    read = sorted(str(path.relative_to(here)) for path in paths if path.is_relative_to(here))
    Path(os.environ["LOOKED"], str(os.getpid())).write_text(json.dumps([" ".join(["python", *sys.orig_argv[1:]]), read]))

if sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2].startswith("stages."):
    sys.addaudithook(look)
    atexit.register(write)
"""


@pytest.fixture(scope="module")
def again(finished, tmp_path_factory):
    """Everything run once more by force, and what each command opened to read."""
    folder = tmp_path_factory.mktemp("again")
    repo = type(finished)(shutil.copytree(finished.path, folder / "repo", symlinks=True))
    shutil.rmtree(repo.path / ".transfer")  # or the finished trainings would be found there
    for name in ("look", "looked"):
        (folder / name).mkdir()
    (folder / "look/sitecustomize.py").write_text(LOOK)  # which Python runs first
    repo.executed = repo.ran("repro", "-f", PYTHONPATH=str(folder / "look"), LOOKED=str(folder / "looked"))
    repo.looked = dict(json.loads(path.read_text()) for path in (folder / "looked").iterdir())
    return repo


def test_the_same_params_give_the_same_bits(finished, again):
    assert again.executed == EVERYTHING
    models = [sha(finished, model) for model in ("dots", "target/dots-0", "target/tiny-0", "scratch/0")]
    assert [sha(again, model) for model in ("dots", "target/dots-0", "target/tiny-0", "scratch/0")] == models
    assert len(set(models)) == 4
    assert again.run("git", "status", "--porcelain") == "", "metrics and dvc.lock are the same too"
    assert len(parents(again)) == 1


def test_training_never_opens_the_test_split(again):
    opens = {stage for stage, read in read_by_stage(again) if any(path.name.startswith("test.") for path in read)}
    assert opens == EVALUATIONS | {"forgetting@dots", "prepare@dots", "prepare@lines"}  # prepare, which writes it, hashes it


def test_a_stage_reads_nothing_but_what_it_depends_on(again):
    lock = YAML(typ="safe").load(again.path / "dvc.lock")["stages"]
    for stage, read in read_by_stage(again):
        known = {each["path"] for each in lock[stage]["deps"] + lock[stage]["outs"]} | {"params.yaml"}
        assert {str(path) for path in read if not any(path.is_relative_to(each) for each in known)} == set(), stage
        assert Path("params.yaml") in read and (len(read) > 2 or stage in ("recipe", "source@tiny")), "what is read is seen"


def read_by_stage(repo):
    """The data that each stage opened to read; code is held against the imports elsewhere, and these two run always."""
    lock = YAML(typ="safe").load(repo.path / "dvc.lock")["stages"]
    for stage in EVERYTHING - {"check", "track"}:
        read = {Path(name) for name in repo.looked[lock[stage]["cmd"]]}
        yield stage, {path for path in read if path.parts[0] in ("data", "images", "metrics", "models", "params.yaml")}


def test_two_processes_write_one_model_and_one_run(finished, copy_of):
    """A whole stage data-parallel: Fabric starts the second process, the first alone writes, logs and checkpoints."""
    repo = copy_of(finished)
    (repo.path / "mlflow.db").unlink()
    write_params(repo.path, PARAMS | {"device": PARAMS["device"] | {"devices": 2}})
    before = sha(repo, "scratch/0")
    repo.run(sys.executable, "-m", "stages.scratch", "0")
    assert sha(repo, "scratch/0") != before  # BatchNorm sees half a batch in each process
    assert query(repo, "SELECT step, COUNT(*) FROM metrics WHERE key = 'val_loss' GROUP BY step") == [(1, 1), (2, 1)]
    trained = sha(repo, "scratch/0")
    shutil.rmtree(repo.path / "models/scratch/0")
    repo.run(sys.executable, "-m", "stages.scratch", "0")  # the state is found, broadcast, and leads to the same bits
    assert sha(repo, "scratch/0") == trained


@pytest.fixture(scope="module")
def long_training(tmp_path_factory):
    """A repository whose hop takes long enough to be killed, everything before it done."""
    values = copy.deepcopy(PARAMS)
    values["intermediate"]["dots"] |= {"epochs": 60, "patience": 60}
    repo = new_repo(tmp_path_factory.mktemp("long") / "repo", values)
    repo.run("dvc", "repro", "prepare@dots")
    return repo


def test_a_killed_hop_goes_on_to_the_same_bits_in_the_same_run(long_training, copy_of, tmp_path):
    whole = copy_of(long_training)
    whole.run("dvc", "repro", "intermediate@dots")
    killed = type(whole)(tmp_path / "killed")
    shutil.copytree(long_training.path, killed.path, symlinks=True)
    for pause in (0.0, 0.11, 0.37):  # at different moments of an epoch
        epochs = num_epochs(killed)
        process = subprocess.Popen(["dvc", "repro", "intermediate@dots"], cwd=killed.path, env=killed.environment,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        while num_epochs(killed) < epochs + 3:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        time.sleep(pause)
        os.killpg(process.pid, signal.SIGKILL)  # dvc and the stage
        process.wait()
    assert num_epochs(killed) < 60
    killed.run("dvc", "repro", "intermediate@dots")
    assert sha(killed, "dots") == sha(whole, "dots")
    history = "metrics/intermediate/dots/history.csv"
    assert (killed.path / history).read_bytes() == (whole.path / history).read_bytes()
    runs = query(killed, "SELECT run_uuid FROM runs")
    assert len(runs) == 1
    points = query(killed, "SELECT step, COUNT(*) FROM metrics WHERE key = 'val_loss' GROUP BY step ORDER BY step")
    assert points == [(epoch, 1) for epoch in range(1, 61)]


def num_epochs(repo) -> int:
    """Epochs in MLflow so far: the curves are live."""
    try:
        return query(repo, "SELECT COUNT(*) FROM metrics WHERE key = 'val_loss'")[0][0]
    except sqlite3.OperationalError:  # no store yet
        return 0


def test_an_orphan_and_a_second_start_train_once(long_training, copy_of):
    """A killed dvc leaves its stage running; the next repro must not train beside it."""
    repo = copy_of(long_training)
    values = copy.deepcopy(PARAMS)
    values["intermediate"]["dots"] |= {"epochs": 300, "patience": 300}
    write_params(repo.path, values)
    process = subprocess.Popen(["dvc", "repro", "intermediate@dots"], cwd=repo.path, env=repo.environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    while num_epochs(repo) < 3:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    output = repo.run("dvc", "repro", "intermediate@dots")
    assert "already running in another process" in output
    points = query(repo, "SELECT COUNT(*), COUNT(DISTINCT step) FROM metrics WHERE key = 'val_loss'")
    assert points == [(300, 300)]


def test_experiments_in_temporary_clones_reach_the_same_store(finished, copy_of, request):
    repo = copy_of(finished)
    repo.run("dvc", "exp", "run", "--temp", "-S", "strategy=feature_extraction")
    assert [status for _, status in parents(repo)] == ["FINISHED"] * 2
    repo.run("dvc", "exp", "run", "--queue", "-S", "strategy=full")
    repo.run("dvc", "exp", "run", "--queue", "-S", "strategies.partial.epochs=3")
    # Not through a pipe: DVC's workers hold it open, and sometimes one of two stays although the queue is empty.
    start = ["dvc", "queue", "start", "-j", "2"]
    subprocess.run(start, cwd=repo.path, env=repo.environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    request.addfinalizer(lambda: end_workers(repo))
    deadline = time.time() + 1800
    while any(word in repo.run("dvc", "queue", "status") for word in ("Queued", "Running")):
        assert time.time() < deadline
        time.sleep(2)
    assert "Failed" not in repo.run("dvc", "queue", "status")
    assert [status for _, status in parents(repo)] == ["FINISHED"] * 4
    per_state = query(repo, "SELECT COUNT(*), COUNT(DISTINCT c.value) FROM tags p JOIN tags c USING (run_uuid) "
                            "WHERE p.key = 'mlflow.parentRunId' AND c.key = 'transfer.stage' GROUP BY p.value")  # fmt: skip
    assert per_state == [(5, 5)] * 4, "each state has its advice, its hop, two targets and the control, once"


def end_workers(repo) -> None:
    for path in (repo.path / ".dvc/tmp/exps/celery").glob("*.json"):
        worker = json.loads(path.read_text())
        if worker["returncode"] is None:
            os.kill(worker["pid"], signal.SIGKILL)


def test_no_hop_and_a_chain_of_two(tmp_path):
    values = copy.deepcopy(PARAMS) | {"intermediate": {}, "inits": ["tiny"]}
    repo = new_repo(tmp_path / "repo", values)
    repo.run("dvc", "repro")
    assert json.loads((repo.path / "metrics/compare.json").read_text())["ship"] == "tiny-0"
    assert not (repo.path / "metrics/plots/forgetting.png").exists()
    hop = PARAMS["intermediate"]["dots"]
    hops = {"dots": hop, "lines2": hop | {"init": "dots", "data": "lines"}}
    wise_ft = {"wise_ft": {"probe_epochs": 2, "head_lr": 0.05, "epochs": 2, "lr": 0.01, "num_alphas": 5}}
    values = values | {"intermediate": hops, "inits": ["lines2"], "strategy": "wise_ft", "strategies": wise_ft}
    write_params(repo.path, values)
    executed = repo.ran("repro")
    assert {"intermediate@dots", "intermediate@lines2", "target@lines2-0"} <= executed
    assert not {"scratch@0", "prepare@dots", "source@tiny"} & executed
    card = json.loads((repo.path / "models/target/lines2-0/card.json").read_text())
    assert card["chain"] == ["tiny", "dots", "lines2", "lines2-0"]
    # Both hops are asked after every training behind them, and along the line that wise_ft chose the target from.
    tables = {name: pd.read_csv(repo.path / f"metrics/forgetting/{name}/accuracy.csv").set_index("model") for name in hops}
    assert tables["dots"].index.tolist() == ["lines2", "target lines2-0"]
    assert tables["lines2"].index.tolist() == ["target lines2-0"]
    alphas = pd.read_csv(repo.path / "metrics/target/lines2-0/alpha.csv")
    kept = alphas[alphas.kept].alpha.item()
    for name, start in [("dots", tables["dots"].accuracy["lines2"]), ("lines2", tables["lines2"].before.item())]:
        if kept:
            line = pd.read_csv(repo.path / f"metrics/forgetting/{name}/alpha.csv").set_index("alpha")
            assert line.index.tolist() == [0, 0.25, 0.5, 0.75, 1]
            assert line.earlier_accuracy[0.0] == start
            assert line.earlier_accuracy[kept] == tables[name].accuracy["target lines2-0"]
            assert line.target_val_accuracy.tolist() == pytest.approx(alphas.val_accuracy.tolist(), abs=1e-6)
    plots = {path.name for path in (repo.path / "metrics/plots").iterdir()}
    assert plots >= {"forgetting.png"} | ({"alpha.png"} if kept else set())


def test_another_check_does_not_take_the_answers_of_an_earlier_training(finished, copy_of):
    repo = copy_of(finished)
    values = YAML(typ="safe").load(repo.path / "params.yaml")
    stage = [sys.executable, "-m", "stages.scratch", "0"]
    assert "scratch 0 goes on after" in repo.run(*stage), "its state is there"
    write_params(repo.path, values | {"checks": values["checks"] | {"loss_jump": 1.01}})
    assert "goes on after" not in repo.run(*stage)


def test_what_can_be_foreseen_is_told_before_a_training_from_pretrained_weights(finished, copy_of):
    repo = copy_of(finished)
    values = YAML(typ="safe").load(repo.path / "params.yaml")
    values["checks"]["params_per_example"] = 1
    values["strategy"] = "full"
    values["strategies"]["full"] |= {"optimizer": "sgd", "lr": 10, "head_lr": 10, "weight_decay": 1}
    values["strategies"]["full"] |= {"batch_size": 2}  # steps enough to come beyond all numbers within the first epoch
    write_params(repo.path, values)
    repo.run(sys.executable, "-m", "stages.recipe")
    output = repo.run(sys.executable, "-m", "stages.target", "dots", "0", ok=False)
    assert "WARNING, target dots-0: More is trained than the data supports" in output, "although it ends in an error"
    told = "More is trained than the data supports"
    assert told not in repo.run(sys.executable, "-m", "stages.intermediate", "dots"), "its source has random weights"
    assert told not in repo.run(sys.executable, "-m", "stages.scratch", "0")
