"""Seeds are added as planned, params.yaml keeps its comments, and the verdict of the last look is that of compare."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.commands import decide
from stages.lib.core import cards, runs
from stages.lib.errors import UserError
from stages.lib.evaluation.verdicts import Comparison
from stages.lib.params.read import load
from tests.lib.reporting.test_verdict import SHIPPED, of
from tests.tiny import PARAMS, ROOT, Repo, write_params


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose pipeline gives the verdicts that are put in for each number of seeds, beside one that helps at once."""
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, PARAMS)
    verdicts: dict[int, str] = {}
    ran: list[int] = []

    def reproduced():
        num = len(load("seeds").seeds)
        ran.append(num)
        found = Comparison(ship="a-0", shipped=SHIPPED, intervals={}, measured={}, use="unknown", luck={}, chance=None,
                           without_leaks=None, warnings=[], accuracy={"a": 0.9},
                           transfer=of(verdicts.get(num, "no difference shown")), intermediate=of("helps"))  # fmt: skip
        cards.write_json(runs.COMPARISON, found.model_dump())

    monkeypatch.setattr(decide, "reproduce", reproduced)
    return Repo(tmp_path), verdicts, ran


def now():
    p = load("seeds", "compare")
    return p.seeds, p.compare.looks


def test_seeds_are_added_until_it_is_decided(project, call):
    repo, verdicts, ran = project
    verdicts[8] = "as good"
    told = call(repo, "decide", "--most", "12")
    assert ran == [3, 5, 8] and now() == (list(range(8)), [3, 5, 8, 12])
    assert "looks planned at 3, 5, 8, 12 seeds; there are 1 now" in told and "8 seeds, transfer: as good" in told
    assert "Decided with 8 seeds." in told and "Note" not in told


def test_it_ends_with_the_plan(project, call):
    repo, _, ran = project
    told = call(repo, "decide", "--most", "6")
    assert ran == [3, 5, 6] and now() == ([0, 1, 2, 3, 4, 5], [3, 5, 6])
    assert "Not decided with 6 seeds, which is the end of the plan" in told
    call(repo, "decide")
    assert ran == [3, 5, 6, 6], "nothing more than the last look again"


def test_only_the_comparison_that_is_named_decides(project, call):
    repo, _, ran = project
    assert "Decided with 3 seeds." in call(repo, "decide", "--most", "12", "--of", "intermediate")
    assert ran == [3] and "no comparison 'transfr'" in call(repo, "decide", "--of", "transfr", ok=False)


def test_an_interrupted_plan_goes_on_and_cannot_be_changed(project, call, monkeypatch):
    repo, verdicts, ran = project
    write_params(repo.path, PARAMS | {"seeds": [7, 1, 2, 8, 9], "compare": PARAMS["compare"] | {"looks": [3, 5, 8]}})
    for more in (["--most", "12"], ["--margin", "0.1"]):
        assert "a plan that has begun cannot be changed" in call(repo, "decide", *more, ok=False)
    verdicts[8] = "helps"
    assert "Decided with 8 seeds." in call(repo, "decide", "--most", "8")
    assert ran == [5, 8] and now()[0] == [7, 1, 2, 8, 9, 10, 11, 12]


def test_the_margin_is_written_and_an_earlier_look_is_named(project, call):
    repo, verdicts, _ = project
    decide.reproduce()
    verdicts[3] = "as good"
    assert "one look more than planned" in call(repo, "decide", "--most", "3", "--margin", "0.01")
    assert load("compare").compare.margin == 0.01


@pytest.mark.parametrize("most", [[], ["--most", "2"]])
def test_the_most_seeds_must_be_named_and_enough(project, call, most):
    repo, _, ran = project
    assert "--most: how many seeds there may be at most, 3 or more" in call(repo, "decide", *most, ok=False)
    assert not ran and now() == ([0], [])


@pytest.mark.parametrize(("num", "most", "looks"), [(1, 3, [3]), (1, 12, [3, 5, 8, 12]), (6, 20, [6, 9, 14, 20]), (5, 6, [5, 6])])
def test_looks_grow_with_the_seeds(num, most, looks):
    assert decide.planned(num, most) == looks


def test_comments_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(before)
    decide.write("seeds: [0, 1, 2, 3, 4]\ncompare: {looks: [3, 5, 8]}")
    after = Path("params.yaml").read_text()
    assert re.findall(r"#.*", after) == re.findall(r"#.*", before)
    values = YAML(typ="safe").load(after)
    assert (values.pop("seeds"), values["compare"].pop("looks")) == ([0, 1, 2, 3, 4], [3, 5, 8])
    whole = YAML(typ="safe").load(before)
    assert whole.pop("seeds") and whole["compare"].pop("looks") == [] and values == whole


def test_a_pipeline_that_fails_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no repository
    with pytest.raises(UserError, match="dvc repro failed"):
        decide.reproduce()


@pytest.mark.slow
def test_it_trains_what_is_missing_and_the_last_look_is_the_verdict(finished, copy_of):
    """The real pipeline, from one seed to three: what there was is not trained again."""
    repo = copy_of(finished)
    kept = repo.sha256("target/dots-0")
    told = repo.run("python", "-m", "stages", "decide", "--most", "3", "--margin", "0.9")
    assert repo.sha256("target/dots-0") == kept and "Running stage 'target@dots-0'" not in told
    assert {"Running stage 'target@dots-2'", "Running stage 'scratch@1'"} <= {line.rstrip(":") for line in told.splitlines()}
    found = cards.parsed(repo.path / runs.COMPARISON, Comparison).verdicts
    for key, verdict in found.items():
        assert f"3 seeds, {key}: {verdict.verdict}, {verdict.difference:+.4g}" in told
    assert "looks are planned at 3 seeds, and this is the one at 3" in (repo.path / runs.VERDICT).read_text()
