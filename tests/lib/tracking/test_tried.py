"""How many settings each arm had: counted once each, hops included, and unequal tuning is said."""

import json

import pytest

from stages.lib.core import cards, runs
from stages.lib.tracking import ledger, tried
from stages.lib.tracking.ledger import Trial
from tests.tiny import PARAMS, model_card, write_params


@pytest.fixture(autouse=True)
def repo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    write_params(tmp_path, PARAMS)  # in which dots is a hop, and lines the data of the test
    return tmp_path


def trained(kind, name, parent, sha256, **settings):
    """A training whose model and card are there."""
    training = runs.Training(kind, name, "lines")
    told = {"data": "lines", "settings": {"seed": 3, **settings}, "sha256": sha256,
            "parent": cards.Parent(name=parent[0], sha256=parent[1])}  # fmt: skip
    training.model.mkdir(parents=True, exist_ok=True)
    (training.model / "card.json").write_text(model_card(name, kind=kind, **told).model_dump_json())
    return training


def note(training):
    ledger.note_training(training)
    return [json.loads(line) for line in ledger.path().read_text().splitlines()] if ledger.path().exists() else []


def test_settings_are_noted_once_whatever_the_seed():
    for seed in (0, 1, 2):
        lines = note(trained("target", f"tiny-{seed}", ("tiny", "s"), "t", lr=0.1, seed=seed))
    (line,) = lines
    assert (line["arm"], line["data"], line["settings"]) == ("tiny", "lines", {"data": "lines", "lr": 0.1})
    assert len(note(trained("target", "tiny-0", ("tiny", "s"), "t", lr=0.2))) == 2
    assert note(trained("scratch", "0", ("tiny", "s"), "t", lr=0.2))[-1]["arm"] == "scratch"
    assert ledger.faults([]) == [] and len(ledger.trials("lines")) == 3 and ledger.trials("dots") == []


def test_another_setting_of_a_hop_is_another_of_the_arm():
    trained("intermediate", "dots", ("tiny", "s"), "first", lr=0.5)
    assert note(trained("target", "dots-0", ("dots", "first"), "t", lr=0.1))[0]["settings"]["dots.lr"] == 0.5
    trained("intermediate", "dots", ("tiny", "s"), "second", lr=0.7)
    assert len(note(runs.target("dots", 0, "lines"))) == 1, "what it was trained from is gone, so nothing is known of it"
    assert len(note(trained("target", "dots-0", ("dots", "second"), "t", lr=0.1))) == 2


def test_an_edited_trial_is_noticed():
    note(trained("scratch", "0", ("tiny", "s"), "t", lr=0.2))
    ledger.path().write_text(ledger.path().read_text().replace("0.2", "0.3"))
    assert "line 1" in ledger.faults([])[0] and "was edited" in ledger.faults([])[0]


def test_equal_tuning_gives_no_warning_and_ranges_name_what_differs():
    both = [{"lr": 0.1, "strategy": "full", "zero": False, "x": None}, {"lr": 0.3, "strategy": "partial", "zero": True, "k": 1}]
    lines = tried.told([Trial(arm, "lines", settings) for arm in ("a", "scratch") for settings in both], ["a", "scratch"])
    what = "2, lr 0.1 to 0.3, strategy full or partial, zero False or True"
    assert lines == [f"settings tried for a: {what}", f"settings tried for random weights: {what}"]
    assert tried.counts([Trial("a", "lines", {}), Trial("other", "lines", {})], ["a", "scratch"]) == "a 1, scratch 0"


def test_the_arms_are_those_of_the_comparison():
    measured = ["target-a-b-0", "target-a-b-1", "alternative-probe-0", "scratch-0", "intermediate-dots", "target-tiny-0"]
    assert tried.arms(measured) == ["a-b", "probe", "scratch", "tiny"]
