"""The pipeline as a user runs it: real DVC, git, processes and kills, on small images and a tiny backbone."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages.lib.core import cards
from stages.lib.tracking import store
from tests.helpers import leaves, put
from tests.tiny import FULL, PARAMS, Repo, draw, write_params

TARGETS = {"target@dots-0", "target@tiny-0"}
TRAININGS = TARGETS | {"intermediate@dots", "scratch@0"}
EVALUATIONS = {"evaluate@dots-0", "evaluate@tiny-0", "evaluate-scratch@0", "evaluate-intermediate@dots"}
END = {"compare", "report", "track"}
EVERYTHING = {
    "check",
    "source@tiny",
    "prepare@dots",
    "prepare@lines",
    "leaks",
    "recipe-hops",
    "advise",
    "recipe",
    "forgetting@dots",
    "calibrate",
    "controls",
}
EVERYTHING |= TRAININGS | EVALUATIONS | END


def parents(repo):
    return repo.query("SELECT r.run_uuid, r.status FROM tags t JOIN runs r USING (run_uuid) WHERE t.key = 'transfer.state' "
                       "AND lifecycle_stage = 'active' AND r.run_uuid NOT IN "
                       "(SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId')")  # fmt: skip


def test_one_command_runs_everything(finished):
    executed = {line.split("'")[1] for line in finished.output.splitlines() if line.startswith("Running stage '")}
    assert executed == EVERYTHING
    assert "%|" not in finished.output, "progress bars without a terminal"
    verdict = json.loads((finished.path / "metrics/compare.json").read_text())
    assert verdict["transfer"]["verdict"] in {"this model is better", "this model is worse", "no difference shown"}
    card = json.loads((finished.path / "models/target/dots-0/card.json").read_text())
    assert card["chain"] == ["tiny", "dots", "dots-0"]
    assert card["output_names"] == ["cross", "frame"]
    assert (card["licences"], card["use"]) == (["Apache-2.0 (code of timm)", "none", "our own"], "may be sold")
    assert json.loads((finished.path / "models/scratch/0/card.json").read_text())["parent"] is None
    certificate = pd.read_csv(finished.path / "metrics/target/dots-0/certificate.csv")
    assert set(certificate.declared) == {"trainable", "statistics", "frozen"}
    assert (certificate.moved == (certificate.declared != "frozen")).all()
    recipe = json.loads((finished.path / "metrics/recipe/target.json").read_text())
    assert (recipe["strategy"], recipe["options"]) == ("partial", PARAMS["training"])
    forgotten = pd.read_csv(finished.path / "metrics/forgetting/dots/forgetting.csv")
    assert forgotten.model.tolist() == ["target dots-0"]
    assert "## Warnings" in (finished.path / "metrics/verdict.md").read_text()


def test_the_advice_stands_in_mlflow_before_the_target_is_trained(finished):
    starts = dict(finished.query("SELECT t.value, r.start_time FROM runs r JOIN tags t USING (run_uuid) "
                                  "WHERE t.key = 'transfer.stage'"))  # fmt: skip
    assert starts["intermediate dots"] < starts["advise"] < min(starts["target dots-0"], starts["target tiny-0"])
    told = json.loads((finished.path / "metrics/advise.json").read_text())
    points = finished.query("SELECT m.key, m.value FROM metrics m JOIN tags t USING (run_uuid) "
                             "WHERE t.key = 'transfer.stage' AND t.value = 'advise'")  # fmt: skip
    assert dict(points) == pytest.approx({store.chart(name): value for name, value in told["figures"].items()}, abs=1e-6)
    assert len(points) == len(told["figures"]), "each once, from the stage itself or from track"


def test_nothing_to_do_runs_nothing(finished, copy_of):
    repo = copy_of(finished)
    assert repo.ran("repro") == {"track"}
    assert len(parents(repo)) == 1


@pytest.mark.slow
def test_another_strategy_reruns_the_target_and_what_follows(finished, copy_of):
    repo = copy_of(finished)
    before = repo.sha256("scratch/0")
    evaluations = {"evaluate@dots-0", "evaluate@tiny-0"}
    executed = repo.ran("exp", "run", "-S", "strategy=full")
    assert executed == TARGETS | evaluations | END | {"check", "recipe", "calibrate", "forgetting@dots"}
    assert repo.sha256("scratch/0") == before
    assert len(parents(repo)) == 2
    first = parents(repo)
    assert repo.ran("exp", "run", "-S", "strategy=partial") == {"check", "compare", "track"}  # the rest is restored
    assert parents(repo) == first, "a state that is in MLflow already is not logged again"


@pytest.mark.slow
def test_a_param_of_evaluate_and_a_knob_of_another_strategy_train_nothing(finished, copy_of):
    repo = copy_of(finished)
    strategies = PARAMS["strategies"] | {"full": FULL | {"lr": 0.02}}
    write_params(repo.path, PARAMS | {"strategies": strategies, "evaluate": PARAMS["evaluate"] | {"num_resamples": 300}})
    assert repo.ran("repro", "evaluate@dots-0") == {"check", "recipe", "evaluate@dots-0"}


@pytest.mark.slow
def test_auto_trains_what_is_advised_and_follows_the_advice_and_the_code_of_its_plugin(finished, copy_of):
    repo = copy_of(finished)
    stages = repo.path / "stages/lib"

    def rank(*best_first):
        shares = {name: (0.1 * (number + 1), 0, 0, 0) for number, name in enumerate(best_first)}
        append(stages / "advice/rule.py", f"ERRORS_LEFT = {shares}")

    def append(path, line):
        path.write_text(path.read_text() + f"\n{line}\n")

    def target():
        executed = repo.ran("repro", "target@tiny-0")
        return executed, json.loads((repo.path / "models/target/tiny-0/card.json").read_text())["settings"]["strategy"]

    partial = repo.sha256("target/tiny-0")
    write_params(repo.path, PARAMS | {"strategy": "auto", "strategies": PARAMS["strategies"] | {"auto": {}}})
    rank("prototype", "full", "partial")  # prototype has no block
    assert target() == ({"check", "advise", "recipe", "target@tiny-0"}, "full")
    assert json.loads((repo.path / "metrics/advise.json").read_text())["choice"] == "prototype"
    rank("partial", "full")
    assert target() == ({"advise", "recipe"}, "partial")  # trained before, when it was chosen by name: the same recipe
    assert repo.sha256("target/tiny-0") == partial
    append(stages / "strategies/feature_extraction.py", "# not advised")
    assert target() == ({"recipe", "recipe-hops"}, "partial")
    append(stages / "strategies/partial.py", "# advised")
    assert target() == ({"recipe", "recipe-hops", "target@tiny-0"}, "partial")


@pytest.mark.slow
def test_a_common_option_retrains_only_what_has_none_of_its_own(finished, copy_of):
    repo = copy_of(finished)
    values = copy.deepcopy(PARAMS)
    values["intermediate"]["dots"]["label_smoothing"] = values["training"]["label_smoothing"]
    write_params(repo.path, values)
    assert repo.ran("repro", "recipe-hops") == {"check", "leaks", "recipe-hops"}
    repo.run("dvc", "commit", "-f", "intermediate@dots", "forgetting@dots", "compare", "report")  # the block says what it said
    assert set(repo.status()) == {"track"}
    values["training"]["label_smoothing"] = 0.2
    write_params(repo.path, values)
    assert repo.ran("repro", "recipe", "recipe-hops") == {"check", "recipe", "recipe-hops"}
    status = repo.status()
    assert set(status) == TARGETS | {"scratch@0", "calibrate", "track"}
    assert status["scratch@0"] == [{"changed deps": {"metrics/recipes/scratch.json": "modified"}}]


OF_TARGET = {"leaks", "recipe-hops", "recipe", "advise", "calibrate", "controls", "compare", "report"}
STALE = {  # what a change of each section makes stale by itself, beside check, which reads all of params.yaml
    "modality": EVERYTHING - TRAININGS - {"check", "track"},  # and the trainings by their recipes
    "seed": TRAININGS,
    "strategy": {"recipe"},  # and by the recipe the targets, where it becomes another
    "strategies": {"recipe"},
    "training": {"recipe", "recipe-hops"},  # and by their recipes the trainings whose options are others now
    "checks.forgetting": {"compare"},
    "checks.shortcut": {"compare"},
    "checks.use": {"compare"},
    "checks": TRAININGS,
    "device": TRAININGS | EVALUATIONS | {"advise", "calibrate", "forgetting@dots", "controls"},
    "datasets.dots": {"prepare@dots"},
    "datasets.lines": {"prepare@lines"},
    "source.tiny": {"source@tiny"},
    "leaks": {"leaks"},
    "intermediate.dots": {"leaks", "recipe-hops", "intermediate@dots", "forgetting@dots", "compare", "report"},
    "target.test": OF_TARGET,  # trains nothing again by itself
    "target.task": OF_TARGET,  # and the trainings by their recipes
    "target": OF_TARGET | TARGETS | {"scratch@0"},
    "scratch": {"recipe-hops", "scratch@0"},
    "advise": {"advise"},
    "calibrate": {"calibrate"},
    "evaluate": EVALUATIONS | {"forgetting@dots", "controls"},
    "compare.confidence": {"advise", "compare", "report"},
    "compare": {"compare", "report"},
    "inits": {"compare", "report", "forgetting@dots", "advise", "calibrate", "controls"},
    "seeds": {"advise", "calibrate", "compare", "report", "forgetting@dots"},
}
ALSO = {  # and these leaves, because they name what is read
    "intermediate.dots.data": {"evaluate-intermediate@dots"},
    "intermediate.dots.task": {"evaluate-intermediate@dots"},
    "target.test": {"evaluate@dots-0", "evaluate@tiny-0", "evaluate-scratch@0"},
    "target.task": {"evaluate@dots-0", "evaluate@tiny-0", "evaluate-scratch@0"},
    "scratch.like": {"advise"},  # the same network is the root of the chain, on which the preprocessing is tried
}
OTHER = {"dots": "lines", "lines": "dots", "partial": "full", "full": "partial", "warn": "error"}
OTHER_NAME = {"raw": "images", "reader": "csv", "preprocessing": "tiny2", "init": "dots2", "like": "tiny2", "weights": "timm",
              "library": "torchvision"}  # fmt: skip


def section_of(path):
    return next(section for section in STALE if path == section or path.startswith(f"{section}."))


def changed(path, value):
    """Params with another value at one leaf, though perhaps none that the check stage would let pass."""
    values = copy.deepcopy(PARAMS)
    if isinstance(value, str):
        new = OTHER.get(value) or OTHER_NAME.get(path[-1], value + "x")
    elif isinstance(value, list):
        new = value[:1] if len(value) == 2 else [*value, 1.0]
    elif value is None:  # a block that only some tasks have
        new = 1
    else:
        new = not value if isinstance(value, bool) else value + 1
    if new in ("tiny2", "dots2"):
        values["source"] |= {new: copy.deepcopy(values["source"]["tiny"])}
    put(values, path, new)
    return values


STATUS = """
import json, sys
from dvc.repo import Repo
from ruamel.yaml import YAML
for path, values in json.load(sys.stdin):
    with open("params.yaml", "w") as file:
        YAML(typ="safe").dump(values, file)
    print(json.dumps([path, sorted(Repo(".").status())]), flush=True)
"""


def test_a_leaf_of_each_section_of_params_makes_exactly_the_documented_stages_stale(finished, copy_of):
    repo = copy_of(finished)
    found = {".".join(path): (path, value) for path, value in leaves(PARAMS) if value != {}}
    found = {name: found[name] for name in [*{section_of(name): name for name in found}.values(), *ALSO]}
    changes = [(name, changed(path, value)) for name, (path, value) in found.items()]
    done = subprocess.run([sys.executable, "-c", STATUS], input=json.dumps(changes), cwd=repo.path, env=repo.environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(changes) > 15
    wrong = {}
    for path, stale in results:
        expected = STALE[section_of(path)] | ALSO.get(path, set()) | {"check", "track"}
        new = {stage for stage in stale if stage.startswith("source@") and stage != "source@tiny"}  # never run before
        new |= {stage for stage in stale if path == "seeds" and stage.endswith(("-1.0", "@1.0"))}
        if set(stale) - new != expected:
            wrong[path] = set(stale) - new, expected
    assert wrong == {}


def test_a_mistake_stops_everything_before_it_starts(finished, copy_of):
    repo = copy_of(finished)
    values = copy.deepcopy(PARAMS) | {"seed": 1}
    values["intermediate"]["dots"]["epoch"] = 3
    values["datasets"]["dots"]["fit"] = "stretch"
    write_params(repo.path, values)
    output = repo.run("dvc", "repro", ok=False)
    assert "intermediate.dots.epoch: unknown key. Did you mean 'epochs'?" in output
    assert "datasets.dots.fit: must be 'squash', 'crop' or 'frame'" in output
    assert "Traceback" not in output
    assert output.count("Running stage") == 1


@pytest.mark.parametrize("path", ["/usr/bin:/bin", pytest.param("empty", marks=pytest.mark.slow)])
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


def test_a_backbone_that_forgot_is_named_and_one_that_stayed_is_not(finished, copy_of, call):
    repo = copy_of(finished)
    folder = repo.path / "models/target/dots-0"
    tensors, card = cards.read_model(folder)
    for other, forgot in [("dots", False), ("scratch/0", True)]:
        others, _ = cards.read_model(repo.path / "models" / other)
        backbone = {name: tensor for name, tensor in others.items() if name.startswith("backbone.")}
        written = cards.write_model(folder, tensors | backbone, card)
        trained = repo.path / "metrics/target/dots-0/run.json"
        cards.write_json(trained, cards.read_json(trained) | {"model": written.sha256})
        call(repo, "calibrate")
        call(repo, "evaluate", "target", "dots-0", "lines")
        call(repo, "forgetting", "dots", "dots")
        call(repo, "compare")
        words = (repo.path / "metrics/verdict.md").read_text()
        assert ("Catastrophic forgetting: after target dots-0, balanced accuracy on dots" in words) == forgot


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

if sys.orig_argv[1:3] == ["-m", "stages"]:
    sys.addaudithook(look)
    atexit.register(write)
"""


@pytest.fixture(scope="session")
def again(finished, shared):
    """Everything run once more by force, and what each command opened to read."""

    def fill(folder):
        repo = Repo(shutil.copytree(finished.path, folder / "repo", symlinks=True))
        shutil.rmtree(repo.path / ".transfer")  # or the finished trainings would be found there
        for name in ("look", "looked"):
            (folder / name).mkdir()
        (folder / "look/sitecustomize.py").write_text(LOOK)  # which Python runs first
        executed = repo.ran("repro", "-f", PYTHONPATH=str(folder / "look"), LOOKED=str(folder / "looked"))
        (folder / "executed.json").write_text(json.dumps(sorted(executed)))

    folder = shared("again", fill)
    repo = Repo(folder / "repo")
    repo.executed = set(json.loads((folder / "executed.json").read_text()))
    repo.looked = dict(json.loads(path.read_text()) for path in (folder / "looked").iterdir())
    return repo


@pytest.mark.slow
def test_the_same_params_give_the_same_bits(finished, again):
    assert again.executed == EVERYTHING
    models = [finished.sha256(model) for model in ("dots", "target/dots-0", "target/tiny-0", "scratch/0")]
    assert [again.sha256(model) for model in ("dots", "target/dots-0", "target/tiny-0", "scratch/0")] == models
    assert len(set(models)) == 4
    assert again.run("git", "status", "--porcelain") == "", "metrics and dvc.lock are the same too"
    assert len(parents(again)) == 1


@pytest.mark.slow
def test_training_never_opens_the_test_split(again):
    opens = {stage for stage, read in read_by_stage(again) if any("test" in path.parts for path in read)}
    assert opens == EVALUATIONS | {
        "forgetting@dots",
        "controls",
        "prepare@dots",
        "prepare@lines",
    }  # prepare, which writes it, hashes it


@pytest.mark.slow
def test_a_stage_reads_nothing_but_what_it_depends_on(again):
    lock = YAML(typ="safe").load(again.path / "dvc.lock")["stages"]
    for stage, read in read_by_stage(again):
        if stage.startswith(("evaluate", "controls", "forgetting")):  # after these the ledger notes what has been measured
            read = {path for path in read if path.name not in ("report.json", "forgetting.csv")}
        if stage.startswith(("evaluate", "controls", "forgetting", "target", "alternative", "scratch")):  # and which settings
            read = {path for path in read if path.name != "ledger.jsonl"}
        if stage == "report":  # after it minutes, day, commit and tuning are kept beside the page
            read = {path for path in read if path.name not in ("run.js", "ledger.jsonl")}
        known = {each["path"] for each in lock[stage]["deps"] + lock[stage]["outs"]} | {"params.yaml"}
        assert {str(path) for path in read if not any(path.is_relative_to(each) for each in known)} == set(), stage
        assert Path("params.yaml") in read and (len(read) > 2 or stage in ("recipe", "recipe-hops", "source@tiny")), (
            "what is read is seen"
        )


def read_by_stage(repo):
    """The data that each stage opened to read; code is held against the imports elsewhere, and these two run always."""
    lock = YAML(typ="safe").load(repo.path / "dvc.lock")["stages"]
    for stage in EVERYTHING - {"check", "track"}:
        read = {Path(name) for name in repo.looked[lock[stage]["cmd"]]}
        yield stage, {path for path in read if path.parts[0] in ("data", "images", "metrics", "models", "params.yaml")}


def test_what_can_be_foreseen_is_told_before_a_training_from_pretrained_weights(finished, copy_of, call):
    repo = copy_of(finished)
    values = copy.deepcopy(PARAMS)
    values["checks"]["params_per_example"] = 1
    values["strategy"] = "full"
    values["strategies"]["full"] |= {"optimizer": "sgd", "lr": 10, "head_lr": 10, "weight_decay": 1}
    values["strategies"]["full"] |= {"batch_size": 2}  # steps enough to come beyond all numbers within the first epoch
    write_params(repo.path, values)
    call(repo, "recipe", "target")
    output = call(repo, "target", "dots", "0", ok=False)
    assert "WARNING, target dots-0: More is trained than the data supports" in output, "although it ends in an error"
    told = "More is trained than the data supports"
    assert told not in call(repo, "intermediate", "dots"), "its source has random weights"
    assert told not in call(repo, "scratch", "0")


@pytest.mark.slow
def test_experiments_in_temporary_clones_reach_the_same_store(finished, copy_of, request):
    repo = copy_of(finished)
    repo.run("dvc", "exp", "run", "--temp", "-S", "scratch.lr=0.02")
    assert [status for _, status in parents(repo)] == ["FINISHED"] * 2
    repo.run("dvc", "exp", "run", "--queue", "-S", "scratch.lr=0.03")
    repo.run("dvc", "exp", "run", "--queue", "-S", "compare.num_resamples=300")
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
    per_state = repo.query("SELECT COUNT(*), COUNT(DISTINCT c.value) FROM tags p JOIN tags c USING (run_uuid) "
                            "WHERE p.key = 'mlflow.parentRunId' AND c.key = 'transfer.stage' GROUP BY p.value")  # fmt: skip
    assert per_state == [(5, 5)] * 4, "each state has its advice, its hop, two targets and the control, once"
    trained = repo.query("SELECT COUNT(DISTINCT t.value) FROM tags t JOIN tags s USING (run_uuid) "
                          "WHERE t.key = 'transfer.key' AND s.key = 'transfer.stage' AND s.value = 'scratch 0'")  # fmt: skip
    assert trained == [(3,)], "with each learning rate"


def end_workers(repo) -> None:
    for path in (repo.path / ".dvc/tmp/exps/celery").glob("*.json"):
        worker = json.loads(path.read_text())
        if worker["returncode"] is None:
            os.kill(worker["pid"], signal.SIGKILL)


@pytest.mark.slow
def test_no_hop_and_a_chain_of_two(finished, copy_of):
    repo = copy_of(finished)
    for folder in ("models/dots", "models/target/dots-0", "metrics/intermediate/dots", "metrics/forgetting/dots", "metrics/plots",
                   "metrics/target/dots-0", "metrics/evaluate/intermediate-dots", "metrics/evaluate/target-dots-0"):  # fmt: skip
        shutil.rmtree(repo.path / folder)  # as if there had never been a hop
    values = copy.deepcopy(PARAMS) | {"intermediate": {}, "inits": ["tiny"]}
    write_params(repo.path, values)
    assert repo.ran("repro") == {"check", "leaks", "recipe-hops", "advise", "recipe", "calibrate", "controls"} | END
    assert json.loads((repo.path / "metrics/compare.json").read_text())["ship"] == "tiny-0"
    assert not (repo.path / "metrics/plots/forgetting.png").exists()
    hop = PARAMS["intermediate"]["dots"]
    hops = {"dots": hop, "lines2": hop | {"init": "dots", "data": "lines"}}
    wise_ft = {"wise_ft": {"probe_epochs": 2, "head_lr": 0.05, "epochs": 2, "lr": 0.01, "num_alphas": 5}}
    values = values | {"intermediate": hops, "inits": ["lines2"], "strategy": "wise_ft", "strategies": wise_ft}
    write_params(repo.path, values)
    executed = repo.ran("repro")
    assert {"intermediate@lines2", "target@lines2-0"} <= executed
    assert not {"scratch@0", "prepare@dots", "source@tiny"} & executed
    card = json.loads((repo.path / "models/target/lines2-0/card.json").read_text())
    assert card["chain"] == ["tiny", "dots", "lines2", "lines2-0"]
    # Both hops are asked after every training behind them, and along the line that wise_ft chose the target from.
    tables = {name: pd.read_csv(repo.path / f"metrics/forgetting/{name}/forgetting.csv").set_index("model") for name in hops}
    assert tables["dots"].index.tolist() == ["lines2", "target lines2-0"]
    assert tables["lines2"].index.tolist() == ["target lines2-0"]
    alphas = pd.read_csv(repo.path / "metrics/target/lines2-0/alpha.csv")
    kept = alphas[alphas.kept].alpha.item()
    for name, start in [("dots", tables["dots"].after["lines2"]), ("lines2", tables["lines2"].before.item())]:
        if kept:
            line = pd.read_csv(repo.path / f"metrics/forgetting/{name}/alpha.csv").set_index("alpha")
            assert line.index.tolist() == [0, 0.25, 0.5, 0.75, 1]
            assert line.earlier[0.0] == start
            assert line.earlier[kept] == tables[name].after["target lines2-0"]
            assert line.target.tolist() == pytest.approx(alphas.val_accuracy.tolist(), abs=1e-6)
    plots = {path.name for path in (repo.path / "metrics/plots").iterdir()}
    assert plots >= {"forgetting.png"} | ({"alpha.png"} if kept else set())


@pytest.mark.slow
def test_another_domain_is_adapted_to_and_other_ways_to_train_are_arms(finished, copy_of):
    """Labels of dots and inputs of lines: two ways to adapt, training on dots alone, and on the labels of lines, the bound."""
    repo = copy_of(finished)
    mcc = {
        "epochs": 3,
        "lr": 0.01,
        "head_lr": 0.01,
        "trainable": "all",
        "strength": 1,
        "temperature": 2.5,
        "select": "information",
    }
    dann = {"epochs": 2, "lr": 0.01, "head_lr": 0.01, "trainable": {"last_blocks": 2}, "strength": 1, "gamma": 10, "hidden": 8,
            "discriminator_lr": 0.01, "select": "loss"}  # fmt: skip
    others = {"oracle": {"data": "lines", "strategy": "full", **FULL}, "dann": {"data": "dots", "strategy": "dann", **dann},
              "probe": {"data": "dots", "strategy": "feature_extraction", "epochs": 3, "head_lr": 0.05}}  # fmt: skip
    values = copy.deepcopy(PARAMS) | {"strategy": "mcc", "intermediate": {}, "inits": ["tiny"], "alternatives": others}
    values["strategies"]["mcc"] = mcc
    values["target"] |= {"data": "dots"}
    write_params(repo.path, values)
    arms = {"alternative@oracle-0", "alternative@dann-0", "alternative@probe-0"}
    measured = {"evaluate@tiny-0", "evaluate-scratch@0", *(f"evaluate-{arm}" for arm in arms)}
    begun = {"check", "leaks", "recipe-hops", "advise", "recipe", "calibrate", "controls", "target@tiny-0", "scratch@0"}
    assert repo.ran("repro") == begun | arms | measured | END
    for arm in ("target-tiny-0", "scratch-0", "alternative-oracle-0", "alternative-probe-0"):
        assert json.loads((repo.path / f"metrics/evaluate/{arm}/report.json").read_text())["data"] == "lines"
    assert json.loads((repo.path / "models/alternative/oracle-0/card.json").read_text())["data"] == "lines"
    assert {"against_oracle", "against_probe"} <= json.loads((repo.path / "metrics/compare.json").read_text()).keys()

    verdict = (repo.path / "metrics/verdict.md").read_text()
    assert "Training as it does (tiny, against probe: feature_extraction on dots)" in verdict
    section = verdict.split("## Domains")[1].split("\n## ")[0]
    assert section.count("| tiny-0 |") == section.count("| dann-0 |") == 1 and "probe" not in section
    assert "The two domains" in (repo.path / "metrics/report.html").read_text()
    run = json.loads((repo.path / "metrics/target/tiny-0/run.json").read_text())
    assert run["settings"]["unlabelled"] == "lines"
    history = pd.read_csv(repo.path / "metrics/target/tiny-0/history.csv")
    assert run["best"]["epoch"] == history.epoch[history.val_information.idxmax()] or not history.best.iloc[0]
    proof = pd.read_csv(repo.path / "metrics/alternative/dann-0/certificate.csv")
    assert (proof[proof.declared == "not shipped"].tensor.str.startswith("penalty.")).sum() == 4
    assert repo.query("SELECT COUNT(*) FROM metrics WHERE key = 'val/information'") != [(0,)]
    assert "0 findings" in repo.run("python", "-m", "stages", "audit")

    values["alternatives"]["probe"]["epochs"] = 4
    write_params(repo.path, values)
    changed = {"alternative@probe-0", "evaluate-alternative@probe-0"}
    assert repo.ran("repro") == {"check", "leaks", "recipe"} | changed | END, "only this arm is trained again"
    shutil.rmtree(repo.path / "images/lines")
    draw(repo.path / "images/lines", ("cross", "frame"), seed=5)  # others: what adapts to them, or learns from them, must notice
    executed = repo.ran("repro")
    assert {"target@tiny-0", "alternative@dann-0", "alternative@oracle-0"} <= executed and "alternative@probe-0" not in executed


STATISTICS = {"scipy.stats", "sklearn"}  # take long to import, and what is needed of them is in scipy.special


@pytest.mark.parametrize(
    ("words", "without"),
    [
        (("recipe", "target"), {"torch", "pandas"}),
        (("compare",), {"torch"} | STATISTICS),
        (("report",), {"torch"} | STATISTICS),
        (("evaluate", "target", "dots-0", "lines"), STATISTICS),
    ],
)
def test_no_stage_imports_what_it_does_not_need(finished, copy_of, words, without):
    program = f"import sys; from stages.__main__ import main; main(sys.argv[1:]); sys.exit(bool({without} & set(sys.modules)))"
    copy_of(finished).run(sys.executable, "-c", program, *words)
