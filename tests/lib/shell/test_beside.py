"""metrics/run.js: what a page may say of one run, kept apart from the results."""

import json

import pytest

from stages.lib.core import runs
from stages.lib.shell import beside


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
