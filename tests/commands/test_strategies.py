"""Strategies run as experiments and compared: from DVC's cache, from MLflow, and which are the usual ones."""

import json
import shlex
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from stages.commands import strategies
from stages.lib.core import plugins
from stages.lib.errors import UserError
from stages.lib.params.validate import validate
from tests.tiny import PARAMS

BLOCKS = validate(
    PARAMS
    | {
        "strategies": PARAMS["strategies"]
        | {"knn": {"neighbours": 3, "temperature": 0.1}, "linear_probe": {"l2": [1]}, "frozen": {}}
    }
).strategies


def test_the_usual_strategies_are_those_that_have_a_block_and_are_for_the_task():
    assert strategies.chosen("", BLOCKS, "classify") == list(strategies.USUAL)
    assert strategies.chosen("", BLOCKS, "transcribe") == ["feature_extraction", "partial", "full"]
    assert strategies.chosen("", validate(PARAMS).strategies, "classify") == ["feature_extraction", "partial", "full"]
    assert strategies.chosen("full,knn", BLOCKS, "classify") == ["full", "knn"]
    with pytest.raises(UserError, match=r"strategies in params.yaml has no block 'ful'. Did you mean 'full'"):
        strategies.chosen("ful", BLOCKS, "classify")
    assert set(strategies.USUAL) <= set(plugins.names("strategies"))


def test_data_that_neither_git_nor_dvc_holds_are_given_to_the_clone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tracked", "own", "of_dvc", "data/raw/download"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.png").touch()
    (tmp_path / "of_dvc.dvc").touch()
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "add", "tracked"], check=True)
    raw = ["tracked", "own", "own", "of_dvc", "data/raw/download", "data/raw/later", str(tmp_path / "own")]
    assert strategies.own_data(raw) == ["own"]


@pytest.mark.slow
def test_strategies_are_run_and_compared_and_the_workspace_stays_as_it_is(finished, copy_of, call):
    repo = copy_of(finished)
    before = (repo.path / "params.yaml").read_bytes()
    (repo.path / "images/lines").rename(repo.path / "own")
    repo.run("git", "rm", "-rqf", "--cached", "images/lines")
    (repo.path / "own").rename(repo.path / "images/lines")
    (repo.path / ".gitignore").write_text((repo.path / ".gitignore").read_text() + "/images/lines/\n")
    repo.run("git", "commit", "-qam", "own images are in neither git nor DVC")
    told = repo.run("python", "-m", "stages", "strategies", "--run", "partial,full", "--epochs", "3")
    assert "dvc exp run --temp -n strategy-full -S strategy=full -S strategies.full.epochs=3 --copy-paths images/lines" in told
    assert "Best on validation: " in told and "14 test examples of lines" in told and "One training each" in told
    assert (repo.path / "params.yaml").read_bytes() == before
    assert repo.run("git", "status", "--porcelain") in ("", " M metrics/ledger.jsonl\n")
    assert {"strategy-partial", "strategy-full"} <= set(repo.run("dvc", "exp", "list", "--name-only").split())
    table = pd.read_csv(repo.path / "metrics/strategies/strategies.csv").set_index("experiment")
    assert table.strategy.to_dict() == {"strategy-partial": "partial", "strategy-full": "full"}
    assert (table.seconds > 0).all() and table.verdict.isna().sum() == 1
    page = (repo.path / "metrics/strategies/strategies.html").read_text()
    assert "Which strategy suits lines?" in page and "strategy-full" in page
    said = "SELECT run_uuid FROM tags WHERE key = 'transfer.kind' AND value = 'strategies'"
    ((run_id,),) = repo.query(said)
    assert f"runs/{run_id}?workflowType=machine_learning" in told

    assert run_id in call(repo, "strategies", "strategy-full", "strategy-partial"), "the same states in another order"
    assert repo.query(said) == [(run_id,)]
    shown = call(repo, "strategies", "strategy-full", "HEAD")
    assert "full" in shown and " HEAD" in shown

    assert len(repo.query(said)) == 2
    recorded = call(repo, "strategies")
    assert "(strategy-full)" in recorded and "(strategy-partial)" in recorded
    again = pd.read_csv(repo.path / "metrics/strategies/strategies.csv")
    assert len(again) == 3 and again.label.str.startswith("partial (").sum() == 2, "with other epochs"
    same = again[again.experiment.str.contains("strategy-full")].test_accuracy.item()
    assert same == table.test_accuracy["strategy-full"], "MLflow's files are those of DVC's cache"
    ids = again.experiment.str.split().str[0].tolist()
    assert "Best on validation" in call(repo, "strategies", *ids[:2])
    assert "'xyz' is no experiment of DVC, no commit and no run in MLflow" in call(repo, "strategies", "xyz", "HEAD", ok=False)

    drop = guide_line()
    header = repo.run(*drop, "--csv").splitlines()[0].split(",")
    assert "strategy" in header and len(header) < 20 and not [name for name in header if "/" in name], (
        "figures alone may not differ"
    )
    plots = json.loads(repo.run("dvc", "plots", "diff", "HEAD", "strategy-full", "--json"))
    assert not plots.get("errors")
    curves = plots["data"]["metrics/target/dots-0/history.csv"][0]["content"]["data"]["values"]
    assert {row["rev"] for row in curves} == {"HEAD", "strategy-full"} and {"train_loss", "val_loss"} <= curves[0].keys()
    answers = plots["data"]["metrics/evaluate/target-dots-0/predictions.csv"][0]["content"]["data"]["values"]
    assert answers[0].keys() >= {"label", "predicted"}


def guide_line() -> list[str]:
    """The words of the line in the guide that makes `dvc exp show` readable."""
    guide = Path(__file__).parents[2] / "stages/commands/README.md"
    line = next(line for line in guide.read_text(encoding="utf-8").splitlines() if line.startswith("dvc exp show"))
    return shlex.split(line.partition("  #")[0])
