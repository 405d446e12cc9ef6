"""The verdict on the command line, with its exit code."""

import json

import pytest

from stages.lib.core import cards, runs
from stages.lib.evaluation.verdicts import Comparison
from stages.lib.tracking import ledger
from tests.lib.reporting.test_verdict import SHIPPED, of
from tests.tiny import Repo


@pytest.fixture
def repo(tmp_path):
    def repo(**verdicts):
        found = Comparison(
            ship="a-0",
            shipped=SHIPPED,
            intervals={},
            measured={"target-a-0": "x", "target-a-1": "y", "scratch-0": "z"},
            use="unknown",
            luck={"standard_error": 0.02, "correlation": 0.5},
            chance=0.5,
            without_leaks=None,
            warnings=[],
            accuracy={"a": 0.9},
            **{key: of(word) for key, word in verdicts.items()},
        )
        cards.write_json(tmp_path / runs.COMPARISON, found.model_dump())
        cards.write_json(tmp_path / "metrics/evaluate/target-a-0/report.json", {"test": "t", "data": "lines"})
        return Repo(tmp_path)

    return repo


@pytest.mark.parametrize(
    ("word", "levels"),
    [("helps", {"helps", "better", "as_good"}), ("this model is better", {"better", "as_good"}), ("as good", {"as_good"}),
     ("this model is as good", {"as_good"}), ("no difference shown", set()), ("hurts", set()), ("this model is worse", set())],
)  # fmt: skip
def test_the_exit_code_says_whether_it_is_so(repo, call, word, levels):
    project = repo(transfer=word)
    for level in ("helps", "better", "as_good"):
        told = call(project, "verdict", "--require", level, ok=level in levels)
        assert told.startswith(f"transfer: {word}, +0.25 (+0.125 to +0.5), corrected p 0.03\n")
        assert ("So it is." in told) == (level in levels) and ("Not so: transfer." in told) == (level not in levels)


def test_what_git_holds_is_enough_for_the_exit_code(repo, call, tmp_path):
    project = repo(transfer="helps")
    (tmp_path / "metrics/evaluate/target-a-0/report.json").unlink()
    told = call(project, "verdict", "--require", "helps")
    assert "is not known here" in told and "So it is." in told
    call(project, "verdict", "--require", "as_good")


def test_every_comparison_must_be_so_or_those_that_are_named(repo, call):
    project = repo(transfer="helps", intermediate="hurts")
    assert "Not so: intermediate." in call(project, "verdict", "--require", "helps", ok=False)
    assert "intermediate" not in call(project, "verdict", "--of", "transfer", "--require", "helps")
    assert call(project, "verdict").count("\n") == 5
    told = call(project, "verdict", "--of", "transfr", ok=False)
    assert told.startswith("error: --of: metrics/compare.json has no comparison 'transfr'. Did you mean 'transfer'?")


def test_what_is_not_there_or_not_of_this_version_is_said(repo, call, tmp_path):
    assert "compare.json is not here. Run `dvc repro`" in call(Repo(tmp_path), "verdict", ok=False)
    project = repo(transfer="helps")
    path = tmp_path / runs.COMPARISON
    cards.write_json(path, {"ship": "a-0", "accuracy": {"a": 0.9}, "transfer": {"difference": 0.1, "verdict": "helps"}})
    told = call(project, "verdict", ok=False)
    assert "was not written by this version of the code" in told and "dvc repro" in told and "Traceback" not in told


def test_the_schema_is_printed_and_the_pipeline_keeps_it(finished, call):
    schema = json.loads(call(finished, "verdict", "--schema"))
    assert schema["$defs"]["Verdict"]["properties"]["verdict"]["enum"]
    found = cards.parsed(finished.path / runs.COMPARISON, Comparison)
    assert set(found.verdicts) == {"transfer", "intermediate", "training"}
    assert found.measured["target-dots-0"] == finished.sha256("target/dots-0")


def test_it_says_how_many_models_the_test_has_seen(repo, call):
    project = repo(transfer="helps")
    assert "models measured on the test of lines: 0 (ledger.jsonl)\n" in call(project, "verdict")
    (project.path / "metrics/ledger.jsonl").write_text("")
    ledger.note([ledger.Opening("t", str(number), "lines", "x") for number in range(10)])
    told = call(project, "verdict")
    assert (
        "models measured on the test of lines: 10" in told
        and "would flatter it by about +0.022, and by +0.043 at most with 90% confidence" in told
    )


def test_it_says_how_many_settings_each_arm_had_and_warns(repo, call):
    project = repo(transfer="helps")
    assert "settings tried for a: 0\nsettings tried for random weights: 0\n" in call(project, "verdict")
    ledger.note([ledger.Trial("a", "lines", {"lr": lr, "strategy": "full"}) for lr in (0.1, 0.03, 0.3)])
    ledger.note([ledger.Trial("scratch", "lines", {"lr": 0.1}), ledger.Trial("a", "dots", {"lr": 9})])
    told = call(project, "verdict")
    assert "settings tried for a: 3, lr 0.03 to 0.3\nsettings tried for random weights: 1\n" in told
    assert "warning: a had more settings than random weights (3 and 1)" in told


def test_every_model_of_a_finished_pipeline_stands_in_the_ledger_once(finished, call):
    lines = [json.loads(line) for line in (finished.path / "metrics/ledger.jsonl").read_text().splitlines()]
    models = {cards.read_json(path)["model"] for path in (finished.path / "metrics/evaluate").glob("*/report.json")}
    lines_test = cards.read_json(finished.path / "metrics/evaluate/target-dots-0/report.json")["test"]
    opened, trials = [line for line in lines if "model" in line], [line for line in lines if "arm" in line]
    assert {line["model"] for line in opened} == models and len(models) == 4 and len(opened) + len(trials) == len(lines)
    assert len([line for line in opened if line["test"] == lines_test]) == 4, "two targets, the control, and the hop as it is"
    assert {(line["arm"], line["data"]) for line in trials} == {("dots", "lines"), ("tiny", "lines"), ("scratch", "lines")}
    settings = {line["arm"]: line["settings"] for line in trials}
    assert len(trials) == 3 and settings["dots"]["strategy"] == "partial" and settings["dots"]["dots.strategy"] == "full"
    assert settings["tiny"] == {name: value for name, value in settings["dots"].items() if not name.startswith("dots.")}
    assert "seed" not in settings["scratch"] and settings["scratch"]["epochs"] == 2
    assert "models measured on the test of lines: 4" in call(finished, "verdict")
