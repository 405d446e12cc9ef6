"""metrics/run.js: what a page may say of one run, kept apart from the results."""

import json

import pytest

from stages.lib.core import cards, runs
from stages.lib.shell import beside, epochs
from stages.lib.tracking import ledger
from tests.tiny import PARAMS, write_params


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs.COMPARISON.parent.mkdir()
    runs.COMPARISON.write_text("{}")


def test_it_is_a_call_that_says_whose_minutes_these_are(results):
    beside.write({"target-mono-0": 90.5})
    text = beside.PATH.read_text()
    assert text.startswith("run({") and text.endswith("});\n")
    told = json.loads(text.removeprefix("run(").removesuffix(");\n"))
    assert told["seconds"] == {"target-mono-0": 90.5} and told["commit"] == ""  # no repository here
    assert told["of"] == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # sha256 of "{}"


def test_the_time_of_a_training_is_that_of_all_its_processes(results, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    write_params(tmp_path, PARAMS)
    for each in runs.expected(PARAMS)[:3]:
        cards.write_json(each.metrics / "run.json", {"key": f"{each.label:_<16}"})
    killed, whole, _ = (f"{each.label:_<16}" for each in runs.expected(PARAMS)[:3])
    epochs.note_seconds(killed, 20, resumed=False)
    epochs.note_seconds(killed, 5, resumed=True)
    epochs.note_seconds(whole, 7, resumed=False)
    assert beside.trained() == {"intermediate-dots": 25.0, "target-dots-0": 7.0}, "the third was trained elsewhere"


def test_it_tells_how_much_each_arm_was_tuned(results, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    write_params(tmp_path, PARAMS)
    runs.COMPARISON.write_text('{"measured": {"target-dots-0": "a", "scratch-0": "b"}}')
    ledger.note(
        [ledger.Trial("dots", "lines", {"lr": rate}) for rate in (0.1, 0.2)] + [ledger.Trial("scratch", "lines", {"lr": 1})]
    )
    beside.write({})
    assert beside.read()["tried"][0] == "settings tried for dots: 2, lr 0.1 to 0.2"
    assert beside.read()["tried"][-1].startswith("warning: dots had more settings than random weights (2 and 1)")


def test_day_and_commit_stay_while_the_results_do(results):
    beside.write({})
    beside.PATH.write_text(beside.PATH.read_text().replace(beside.read()["date"], "2020-02-02"))
    beside.write({"scratch-0": 1.0})
    assert beside.read()["date"] == "2020-02-02" and beside.read()["seconds"] == {"scratch-0": 1.0}
    runs.COMPARISON.write_text('{"ship": "mono-0"}')
    beside.write({})
    assert beside.read()["date"] != "2020-02-02"


def test_without_results_or_with_a_damaged_file_nothing_fails(results):
    beside.PATH.write_text("run({broken")
    assert beside.read() == {}
    runs.COMPARISON.unlink()
    beside.write({})
    assert beside.PATH.read_text() == "run({broken"
