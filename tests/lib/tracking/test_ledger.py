"""The ledger of opened tests: one line per model, nothing edited or deleted unnoticed, branches merged by union."""

import json
import subprocess

import numpy as np
import pytest

from stages.lib.core import cards
from stages.lib.tracking import ledger
from stages.lib.tracking.ledger import Opening
from tests.tiny import ROOT

A, B, C = (Opening("t1", model * 64, "lines", f"target-{model}-0") for model in "abc")


@pytest.fixture
def repo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / ".gitattributes").write_text((ROOT / ".gitattributes").read_text())
    git("init", "-q", "-b", "main")
    for key in ("user.name", "user.email"):
        git("config", key, "a@b")
    return tmp_path


def git(*words):
    subprocess.run(["git", *words], check=True, capture_output=True)


def commit(*openings):
    ledger.note(openings)
    git("add", "-A")
    git("commit", "-qm", "measured")


def test_a_model_that_is_measured_again_adds_nothing(repo):
    ledger.note([A, A, B])
    before = ledger.path().read_bytes()
    ledger.note([B, A])
    assert ledger.path().read_bytes() == before and len(before.splitlines()) == 2
    ledger.note([A._replace(test="t2")])
    assert (ledger.count("t1"), ledger.count("t2"), ledger.count("t3")) == (2, 1, 0)


def test_nothing_is_wrong_with_what_was_written(repo):
    commit(A, B)
    ledger.note([C])
    assert ledger.faults([A, B, C]) == []


@pytest.mark.parametrize("field", ["model", "what", "sha256"])
def test_an_edited_line_is_noticed(repo, field):
    ledger.note([A, B])
    first, second = ledger.path().read_text().splitlines()
    edited = json.dumps(json.loads(second) | {field: "cd" * 32}, sort_keys=True)
    ledger.path().write_text(f"{first}\n{edited}\n")
    assert [fault for fault in ledger.faults([]) if "line 2 of" in fault and "was edited" in fault]
    ledger.path().write_text(f"{first}\nno JSON\n")
    assert "was edited" in ledger.faults([])[0]


@pytest.mark.parametrize("whole", [False, True])
def test_a_deleted_line_or_file_is_noticed(repo, whole):
    commit(A, B)
    text = ledger.path().read_text()
    if whole:
        ledger.path().unlink()
    else:
        ledger.path().write_text(text.splitlines(keepends=True)[1])
    (gone,) = ledger.faults([])
    assert gone.startswith(f"ledger: {2 if whole else 1} lines of") and "restore them with git" in gone
    assert any("target-a-0 was measured on the test of lines and has no line" in fault for fault in ledger.faults([A]))


def test_two_branches_are_merged_without_conflict(repo):
    commit(A)
    git("checkout", "-qb", "other")
    commit(B)
    git("checkout", "-q", "main")
    commit(C)
    git("merge", "-q", "other", "-m", "both")
    assert ledger.count("t1") == 3 and ledger.faults([A, B, C]) == []


def test_it_reads_what_the_stages_wrote(repo):
    for name, model in (
        ("target-dots-0", "a" * 64),
        ("intermediate-dots", "b" * 64),
        ("controls/tfidf", None),
        ("old", "c" * 64),
    ):
        report = {"test": f"test of {name}", "data": "lines", "model": model}
        cards.write_json(repo / "metrics/evaluate" / name / "report.json", {"data": "x"} if name == "old" else report)
    (repo / "metrics/forgetting/dots").mkdir(parents=True)
    (repo / "metrics/forgetting/dots/forgetting.csv").write_text(f"model,sha256,before\ntarget dots-0,{'a' * 64},0.5\n")
    ledger.note_reports()
    assert [(each.test, each.model[0], each.what) for each in ledger.openings()] == [
        ("test of intermediate-dots", "b", "intermediate-dots"), ("test of target-dots-0", "a", "target-dots-0"),
        ("test of intermediate-dots", "a", "forgetting: target dots-0"),
    ]  # fmt: skip
    assert (ledger.count("test of intermediate-dots"), ledger.faults(ledger.openings())) == (2, [])


def test_a_disk_that_cannot_be_written_ends_nothing(repo, capsys):
    (repo / "metrics").write_text("a file in the way")
    ledger.note_reports()  # nothing to write
    (repo / "metrics").unlink()
    cards.write_json(repo / "metrics/evaluate/target-a-0/report.json", A._asdict())
    (repo / "metrics/ledger.jsonl").mkdir()
    ledger.note_reports()
    assert "could not be written" in capsys.readouterr().err


@pytest.mark.parametrize(("num", "correlation"), [(2, 0.0), (5, 0.3), (20, 0.8), (50, 0.0)])
def test_the_best_of_many_is_flattered_as_in_a_simulation(num, correlation):
    random = np.random.default_rng(0)
    shared, own = random.normal(size=(40_000, 1)), random.normal(size=(40_000, num))
    best = (np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own).max(1).mean()
    assert ledger.flattery(num, 0.02, correlation) == pytest.approx(0.02 * best, rel=0.06)
    assert ledger.flattery(1, 0.02, correlation) == 0 == ledger.flattery(num, 0.02, 1.0)


@pytest.mark.parametrize(("num", "correlation"), [(1, 0.4), (2, 0.0), (20, 0.8), (200, 0.5), (50, 1.0)])
def test_the_best_of_many_is_seldom_flattered_more_than_is_said(num, correlation):
    random = np.random.default_rng(0)
    shared, own = random.normal(size=(20_000, 1)), random.normal(size=(20_000, num))
    best = 0.02 * (np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own).max(1)
    for sure in (0.6, 0.9):
        most = ledger.flattered_at_most(num, 0.02, correlation, sure)
        assert (best <= most).mean() == pytest.approx(sure, abs=0.012)
