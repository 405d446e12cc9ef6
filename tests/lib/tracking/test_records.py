"""The track stage as DVC calls it: real processes on the files of a finished pipeline, and a real store."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
import yaml

from stages.lib.core import cards, runs
from stages.lib.reporting.verdict.spent import spent
from stages.lib.tracking import figures, records, store, views
from tests.lib.tracking.mlflow_runs import refusing
from tests.tiny import PARAMS, ROOT, Repo, data_card, model_card, network, write_params

STAGES = {"intermediate": ["dots"], "target": ["dots-0", "tiny-0"], "scratch": ["0"]}
EVALUATE = {"intermediate": "evaluate-intermediate", "target": "evaluate", "scratch": "evaluate-scratch"}
EVALUATED = ["confusion.csv", "confusion.png", "mistakes.png", "predictions.csv", "reliability.csv", "reliability.png"]


def finish(folder: Path, values: dict = PARAMS) -> Path:
    """What a finished pipeline leaves behind: the files that the track stage reads."""
    folder.mkdir(parents=True)
    write_params(folder, values)
    lock = {"check": {"cmd": "check", "deps": [{"path": "params.yaml", "md5": "0"}]}}
    for kind, names in STAGES.items():
        for name in names:
            entry = {"cmd": f"train {kind} {name}", "outs": [{"path": name, "md5": f"{kind}{name}"}]}
            lock |= {f"{kind}@{name}": entry, f"{EVALUATE[kind]}@{name}": entry | {"cmd": "evaluate"}}
            trained, evaluated = folder / "metrics" / kind / name, folder / "metrics/evaluate" / f"{kind}-{name}"
            rows = "".join(f"0,{epoch},0.1,{1 / epoch!r},0.5,True\n" for epoch in (1, 2, 3))
            trained.mkdir(parents=True)
            (trained / "history.csv").write_text("phase,epoch,lr_head,train_loss,val_loss,best\n" + rows)
            (trained / "certificate.csv").write_text("tensor,declared,moved\nhead.weight,trainable,True\n")
            (trained / "layers.csv").write_text("phase,layer\n0,head\n")
            (trained / "alpha.csv").write_text("alpha,kept\n0.5,True\n")  # a table that the strategy adds
            settings = {"strategy": "partial", "lr": 0.01}
            run = {
                "key": f"key-{kind}-{name}",
                "name": f"{kind} {name}",
                "stage": kind,
                "settings": settings,
                "best": {"epoch": 3},
                "model": f"{kind}{name}",
            }
            cards.write_json(trained / "run.json", run)
            measured = {"accuracy": {"value": 0.9, "lower": 0.8, "upper": 1.0}, "auroc": {"value": None}}
            primary = {"name": "accuracy", "higher_is_better": True, "fraction": True}
            cards.write_json(
                evaluated / "report.json",
                {"primary": primary, "metrics": measured, "num_examples": 20, "chance": 0.5, "model": f"{kind}{name}"},
            )
            for name in EVALUATED:
                (evaluated / name).write_text("column\n")
    lock |= {"advise": {"cmd": "advise"}, "forgetting@dots": {"cmd": "forget"}}
    ranking = [{"strategy": "partial", "expected": 0.9, "why": "it is so"}]
    cards.write_json(folder / "metrics/advise.json", {
        "choice": "partial", "unsure": "", "ranking": ranking, "figures": {"probe_accuracy": 0.8}, "warnings": [],
        "settings": {"neighbours": 3}, "key": "key-advise",
    })  # fmt: skip
    (folder / "metrics/forgetting/dots").mkdir(parents=True)
    (folder / "metrics/forgetting/dots/forgetting.csv").write_text("model,before\n")
    lock["compare"] = {"cmd": "compare", "deps": [{"path": "metrics/evaluate", "md5": "1.dir"}], "outs": [{"md5": "2"}]}
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}))
    transfer = {"difference": 0.02, "lower": -0.01, "upper": 0.05, "verdict": "no difference shown"}
    compare = {
        "accuracy": {"dots": 0.9, "scratch": None},
        "shipped": {
            "trained_from": "dots",
            "facts": {"accuracy": {"value": 0.9, "lower": 0.8, "upper": 1}},
            "transfer": {"difference": 0.02, "lower": -0.01, "upper": 0.05},
        },
        "transfer": transfer,
        "ship": "dots-0",
        "measured": {"target-dots-0": "targetdots-0", "scratch-0": "scratch0"},
        "use": "may be sold",
    }
    cards.write_json(folder / "metrics/compare.json", compare)
    (folder / "metrics/verdict.md").write_text("# Verdict\n\n- **Transfer: no difference shown**, +2.0.\n- More.\n")
    (folder / "metrics/MODEL_CARD.md").write_text("# What it is for\n")
    (folder / "metrics/report.html").write_text("<h1>No difference shown</h1>")
    (folder / "metrics/plots").mkdir()
    (folder / "metrics/plots/curves.png").write_bytes(b"png")
    for name in ("dots", "lines"):
        cards.write_data_card(folder / "data/prepared" / name, data_card(name, counts={"test": {"cross": 3}}))
    cards.write_model(folder / "models/target/dots-0", network().state_dict(), model_card("dots-0"))
    for name in ("dots", "target/tiny-0", "scratch/0"):
        cards.write_json(folder / "models" / name / "card.json", model_card(name).model_dump())
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = finish(tmp_path_factory.mktemp("template") / "pipeline")
    mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()  # an empty store: making one takes seconds
    return folder


@pytest.fixture
def project(template, tmp_path):
    subprocess.run(["cp", "-r", template, tmp_path / "a b"], check=True)  # a path with a space, as people have
    return tmp_path / "a b"


@pytest.fixture(scope="module")
def tracked(template, tmp_path_factory):
    """Tracked once; for tests that only look at it."""
    folder = tmp_path_factory.mktemp("tracked") / "pipeline"
    subprocess.run(["cp", "-r", template, folder], check=True)
    assert run(folder).stderr == ""
    return folder


@pytest.fixture
def again(tracked, tmp_path):
    """A copy of what was tracked; its artifacts stay with the original."""
    subprocess.run(["cp", "-r", tracked, tmp_path / "again"], check=True)
    return tmp_path / "again"


def start(project, *flags, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_"))}
    return subprocess.Popen(
        [sys.executable, *flags, "-m", "stages", "track"], cwd=project, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=clean | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip


def run(project, *flags, code=0, **environment):
    process = start(project, *flags, **environment)
    stdout, stderr = process.communicate(timeout=900)
    assert process.returncode == code, stderr
    return subprocess.CompletedProcess("", code, stdout, stderr)


def query(project, sql):
    return Repo(project).query(sql)


def runs_of(project):
    """(kind, stage, status) of every run, children under their parents."""
    sql = """SELECT (SELECT value FROM tags WHERE run_uuid = r.run_uuid AND key = 'transfer.stage'), status,
             (SELECT value FROM tags WHERE run_uuid = r.run_uuid AND key = 'mlflow.parentRunId') IS NOT NULL
             FROM runs r WHERE lifecycle_stage = 'active' ORDER BY 1"""
    return query(project, sql)


LAST = "Transfer: no difference shown, +2.0.\nReport: metrics/report.html\n"
WHOLE = [(stage, "FINISHED", 1) for stage in ("advise", "intermediate dots")] + [("pipeline", "FINISHED", 0)]
WHOLE += [(stage, "FINISHED", 1) for stage in ("scratch 0", "target dots-0", "target tiny-0")]


def edit_lock(project, change):
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    change(lock["stages"])
    (project / "dvc.lock").write_text(yaml.safe_dump(lock))


def test_a_state_becomes_one_run_with_everything_in_it(tracked):
    assert runs_of(tracked) == WHOLE
    client = mlflow.MlflowClient(f"sqlite:///{tracked}/mlflow.db")
    experiment = client.get_experiment_by_name("transfer-learning").experiment_id
    by_name = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert set(by_name) == {
        "partial 90.0 % · dots → lines · seeds 0", "intermediate dots: partial on dots", "target dots-0: partial on lines",
        "target tiny-0: partial on lines", "scratch 0: partial on lines", "advise: partial for lines",
    }  # fmt: skip
    parent, child = by_name["partial 90.0 % · dots → lines · seeds 0"], by_name["target dots-0: partial on lines"]
    assert parent.data.params["datasets.lines.px"] == "32"
    assert parent.data.params["inits"] == '["dots", "tiny"]'
    assert parent.data.metrics == {"test/accuracy": 0.9, "arms/dots": 0.9, "transfer/difference": 0.02}
    assert "strategies.partial.lr" in parent.data.params and "strategies.full.lr" not in parent.data.params
    assert parent.data.tags["mlflow.note.content"] == "# Verdict\n\n- **Transfer: no difference shown**, +2.0.\n- More.\n"
    about = {"transfer.model": "targetdots-0", "transfer.use": "may be sold"}
    assert about.items() <= parent.data.tags.items()
    assert parent.data.tags["transfer.tried"] == "dots 0, scratch 0"
    (version,) = client.search_model_versions(f"run_id = '{parent.info.run_id}'")
    assert about.items() <= version.tags.items()
    assert {entry.dataset.name for entry in parent.inputs.dataset_inputs} == {"dots", "lines"}
    assert files(client, parent) == {
        "compare.json", "dvc.lock", "forgetting/dots/forgetting.csv", "params.yaml", "plots/curves.png", "report.html",
        "MODEL_CARD.md",
        "shipped/mistakes.png", "shipped/predictions.csv", "verdict.md",
    }  # fmt: skip
    advice = by_name["advise: partial for lines"]
    assert advice.data.metrics == {"probe_accuracy": 0.8}
    assert advice.data.tags["mlflow.note.content"] == "partial: 90.0% expected, it is so"
    assert files(client, advice) == {"advise.json"}
    ends = {"test/accuracy_lower": "0.8", "test/accuracy_upper": "1.0"}
    assert child.data.params == {"strategy": "partial", "lr": "0.01", "best_epoch": "3"} | ends
    assert {name: value for name, value in child.data.metrics.items() if name.startswith("test/")} == {"test/accuracy": 0.9}
    assert [(p.step, p.value) for p in client.get_metric_history(child.info.run_id, "loss/train")] == [
        (1, 1),
        (2, 0.5),
        (3, 1 / 3),
    ]
    evaluated = {f"evaluate/{name}" for name in [*EVALUATED, "report.json"]}
    own = {"alpha.csv", "card.json", "certificate.csv", "history.csv", "layers.csv", "run.json"}
    assert files(client, child) == own | evaluated
    assert child.data.tags["mlflow.note.content"].startswith(
        "The target, trained on lines by partial.\nTest accuracy 90.0 % (80.0 % to 100.0 %). Always the most frequent answer: "
        "50.0 %.\n3 epochs; kept: epoch 3."
    )
    (model,) = client.search_logged_models([experiment])
    version = client.get_model_version_by_alias("transfer-learning-lines", "champion")
    assert (version.source, version.run_id) == (f"models:/{model.model_id}", parent.info.run_id)
    assert version.description == "The first model of this name.\n\n# What it is for"
    about = client.get_registered_model("transfer-learning-lines").description
    assert about.endswith("The champion is version 1:\n\n# What it is for")
    linked = client.get_logged_model(model.model_id).metrics
    assert [(each.key, each.value) for each in linked if each.dataset_name == "lines"] == [("test/accuracy", 0.9)]


def test_the_experiment_says_what_it_holds_and_has_a_table_of_states(tracked):
    """What the address that `track` prints shows in a browser: tests/test_pages.py."""
    client = mlflow.MlflowClient(f"sqlite:///{tracked}/mlflow.db")
    found = client.get_experiment_by_name("transfer-learning")
    assert "/#/experiments/1/runs?viewStateShareKey=states&workflowType=machine_learning" in found.tags["mlflow.note.content"]
    view = json.loads(found.tags["mlflow.sharedViewState.states"])
    assert "metrics.`test/accuracy`" in view["selectedColumns"] and "params.`strategy`" in view["selectedColumns"]


def test_the_champion_answers(tracked):
    mlflow.set_tracking_uri(f"sqlite:///{tracked}/mlflow.db")
    try:
        model = mlflow.pyfunc.load_model("models:/transfer-learning-lines@champion")
    finally:
        mlflow.set_tracking_uri(None)
    image = torch.zeros(40, 40, 3, dtype=torch.uint8).numpy()
    assert list(model.predict(pd.DataFrame({"image": [image]})).columns) == ["label", "probability", "p_cross", "p_frame"]


def files(client, run, folder=None):
    found = set()
    for entry in client.list_artifacts(run.info.run_id, folder):
        found |= files(client, run, entry.path) if entry.is_dir else {entry.path}
    return found


def test_a_state_is_named_after_the_strategy_that_trained_it_also_with_auto():
    raw = {"strategy": "auto", "inits": ["tiny"], "target": {"data": "lines"}, "seeds": [0, 1]}
    report = {"primary": {"name": "accuracy"}, "metrics": {"accuracy": {"value": 0.949}}}
    assert figures.name_of(raw, "linear_probe", report) == "linear_probe (auto) 94.9 % · tiny → lines · seeds 0, 1"
    assert figures.name_of(raw | {"strategy": "full"}, "full", report) == "full 94.9 % · tiny → lines · seeds 0, 1"


def test_nothing_to_do_imports_nothing_slow(tracked):
    before = query(tracked, "SELECT * FROM runs")
    again = run(tracked, "-X", "importtime")
    imported = {line.rpartition("|")[2].strip() for line in again.stderr.splitlines()}
    assert "stages.lib.tracking.records" in imported
    assert not imported & {"mlflow", "torch", "pandas", "numpy", "sqlalchemy", "requests"}
    assert query(tracked, "SELECT * FROM runs") == before


def test_what_is_the_same_state(template, monkeypatch):
    monkeypatch.chdir(template)
    trainings = runs.expected(PARAMS)
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    before = records.state(trainings)

    def after(change):
        changed = copy.deepcopy(lock)
        change(changed["stages"])
        Path("dvc.lock").write_text(yaml.safe_dump(changed))
        try:
            return records.state(trainings)
        finally:
            Path("dvc.lock").write_text(yaml.safe_dump(lock))

    assert after(lambda stages: stages["check"].update(deps=[{"md5": "a comment in params.yaml"}])) == before
    assert after(lambda stages: stages.update({"target@gone-0": {"cmd": "of a removed block"}})) == before
    assert after(lambda stages: stages["compare"].update(deps=[{"md5": "a folder with removed results"}])) == before
    assert after(lambda stages: stages["compare"].update(outs=[{"md5": "another verdict"}])) != before
    for name in ("target@tiny-0", "evaluate@tiny-0", "evaluate-intermediate@dots", "scratch@0"):
        assert after(lambda stages, name=name: stages[name].update(outs=[{"md5": "other"}])) != before


def test_another_state_is_another_run_and_a_state_that_came_back_is_not(again, call):
    old = (again / "dvc.lock").read_text()
    edit_lock(again, lambda stages: stages["scratch@0"].update(outs=[{"md5": "other"}]))
    assert call(Repo(again), "track").startswith(LAST)
    assert runs_of(again) == sorted(WHOLE * 2)
    (again / "dvc.lock").write_text(old)
    assert call(Repo(again), "track").startswith(LAST)
    assert runs_of(again) == sorted(WHOLE * 2)


def test_the_last_words_are_the_verdict_the_report_and_the_page_of_this_run(tracked, call):
    """Also if the state is already recorded; of a store on a server, it is that server's page."""
    ((experiment, run_id),) = query(tracked, "SELECT experiment_id, run_uuid FROM runs JOIN tags USING (run_uuid) "
                                    "WHERE key = 'transfer.stage' AND value = 'pipeline'")  # fmt: skip
    page = f"#/experiments/{experiment}/runs/{run_id}?workflowType=machine_learning"
    assert call(Repo(tracked), "track") == f"{LAST}MLflow: http://127.0.0.1:5000/{page}\n"


def test_the_pages_of_a_store_on_a_server_are_there_and_say_no_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example/")
    assert store.address("3", "ab") == "https://mlflow.example/#/experiments/3/runs/ab?workflowType=machine_learning"
    assert views.address("3").startswith("https://mlflow.example/#/experiments/3/runs?")


def test_a_store_begun_anew_is_filled_again(again, template, call):
    shutil.copy(template / "mlflow.db", again)
    assert call(Repo(again), "track").startswith(LAST)
    assert runs_of(again) == WHOLE


@pytest.mark.slow
def test_two_throw_away_clones_at_once_make_one_run_in_the_main_repository(project, tmp_path):
    main = tmp_path / "main"
    main.mkdir()
    (project / "mlflow.db").rename(main / "mlflow.db")
    other = Path(shutil.copytree(project, tmp_path / "other"))
    both = [start(clone, DVC_ROOT=str(main), DVC_EXP_NAME="rusty-nail") for clone in (project, other)]
    for process in both:
        assert process.communicate(timeout=900)[1] == ""
        assert process.returncode == 0
    assert runs_of(main) == WHOLE
    assert query(main, "SELECT value FROM tags WHERE key = 'dvc.experiment'") == [("rusty-nail",)]
    assert not (project / "mlflow.db").exists()
    assert not (project / "mlartifacts").exists()


def kill_when(project, moment):
    """Start to track, and kill it as soon as the store has an answer to `moment`."""
    process = start(project)
    deadline = time.time() + 600
    while not query(project, moment):
        assert process.poll() is None
        assert time.time() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert ("pipeline", "FINISHED", 0) not in runs_of(project)


@pytest.mark.slow
def test_killed_midway_it_is_gone_on_with(project):
    kill_when(project, "SELECT 1 FROM runs WHERE status = 'FINISHED'")  # the first child
    kill_when(project, "SELECT 1 FROM logged_models")
    assert run(project).stderr == ""
    assert runs_of(project) == WHOLE
    assert query(project, "SELECT status FROM logged_models WHERE lifecycle_stage = 'active'") == [(2,)], "one, and it is ready"
    assert query(project, "SELECT 1 FROM metrics GROUP BY run_uuid, key, step HAVING COUNT(*) > 1") == []


def test_a_store_that_is_away_is_told_in_one_line(project, call):
    *last, told = call(Repo(project), "track", MLFLOW_TRACKING_URI="http://user:secret@127.0.0.1:9").splitlines()
    assert last == LAST.splitlines(), "without a page in MLflow"
    assert "http://127.0.0.1:9 could not be used" in told
    assert "Connection refused" in told
    assert "dvc repro" in told
    with refusing(hang=False) as server:
        told = call(Repo(project), "track", MLFLOW_TRACKING_URI=server.uri).splitlines()[-1]
    assert "could not be used" in told and "secret" not in told
    assert server.num_attempts == 2


def test_what_is_missing_is_said(project, call):
    edit_lock(project, lambda stages: stages.pop("evaluate@tiny-0"))
    assert "have not run yet: evaluate@tiny-0. Run: dvc repro" in call(Repo(project), "track", ok=False)
    (project / "dvc.lock").unlink()
    assert "nothing has run yet" in call(Repo(project), "track", ok=False)


def test_a_missing_result_is_said(project):
    (project / "metrics/target/dots-0/run.json").unlink()
    error = run(project, code=1).stderr
    assert error == "error: metrics/target/dots-0/run.json is missing. Make it again with: dvc repro\n"


def test_a_model_that_is_missing_is_no_fault_of_the_store(project, call):
    (project / "models/target/dots-0/card.json").unlink()
    (line,) = call(Repo(project), "track", ok=False).splitlines()
    assert line.startswith("error: models/target/dots-0/card.json is missing. Make it again with: dvc repro")
    assert ("pipeline", "FINISHED", 0) not in runs_of(project)


def test_flat():
    nested = {"a": {"value": 1, "lower": 0}, "b": [1, 2], "c": {}, "value": 3}
    assert dict(figures.flat(nested, "_")) == {"a": 1, "a_lower": 0, "b": [1, 2], "c": {}, "value": 3}
    assert json.dumps(dict(figures.flat({"a": {"b": None}}, "."))) == '{"a.b": null}'
    patterns = {"rates": {"blocks.6.*": 0.001}}  # MLflow would refuse the run for such a name
    assert dict(figures.flat({"discriminative": patterns}, ".")) == {"discriminative.rates": {"blocks.6.*": 0.001}}


@pytest.mark.parametrize(
    ("loss", "num", "said"), [("", 0, "Computed from features, not trained."), ("0.4", 1, "1 epoch; kept: epoch")]
)
def test_what_trained_nothing_is_not_said_to_have_had_an_epoch(project, monkeypatch, loss, num, said):
    monkeypatch.chdir(project)
    training = runs.target("dots", 0, "lines")
    (training.metrics / "history.csv").write_text(f"phase,epoch,train_loss,val_loss\n0,1,{loss},0.5\n")
    assert said in records.child(training).tags["mlflow.note.content"]
    assert spent(training, None).epochs == num


def test_what_would_be_a_chart_with_one_bar_before_the_losses_is_a_param():
    report = {"metrics": {"accuracy": {"value": 0.9, "lower": 0.8, "upper": None}, "auroc": {"value": None}},
              "calibrated": {"set_90": {"coverage": {"value": 0.91, "lower": 0.9}, "classes": 1.5, "known": 30}}}  # fmt: skip
    assert figures.of_test(report) == {"test/accuracy": 0.9}
    beside = {"test/accuracy_lower": 0.8, "calibrated/set_90_coverage": 0.91, "calibrated/set_90_classes": 1.5}
    assert figures.beside(report) == beside
