"""The advisor's rule on made-up shares; the measured ones are only held against what they must look like."""

import math

import numpy as np
import pandas as pd
import pytest

from stages.lib.advice import probe, rule, transferability
from stages.lib.core import plugins
from tests.benchmarks import advisor as benchmark
from tests.tiny import ROOT

MEASURED = rule.EXAMPLES, rule.ERRORS, rule.ERRORS_LEFT
LEFT = {"probe": (1.0, 0.0, 0.0), "tuned": (0.8, -0.5, -0.25), "same": (0.8, -0.5, -0.25)}


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    monkeypatch.setattr(rule, "EXAMPLES", (10, 1000))
    monkeypatch.setattr(rule, "ERRORS", (0.05, 0.8))
    monkeypatch.setattr(rule, "USUAL", (100, 0.2))
    monkeypatch.setattr(rule, "ERRORS_LEFT", LEFT)


def known(num, probe=0.8, least=20):
    return {"num_examples": num, "probe_accuracy": probe, "min": least}


def expected(num, probe=0.8):
    return {entry["strategy"]: entry["expected"] for entry in rule.rank(known(num, probe), rule.ERRORS_LEFT)}


@pytest.mark.parametrize(
    ("num", "probe", "left"),
    [
        (100, 0.8, 0.8),
        (400, 0.8, 0.4),  # four times the examples, half the errors
        (25, 0.8, 1.6),
        (100, 0.95, 0.8 * math.sqrt(2)),  # a quarter of the probe's errors
        (400, 0.2, 0.4 / math.sqrt(2)),
        (1, 0.8, 0.8 * math.sqrt(10)),  # as far as was measured
        (10**6, 0.8, 0.8 / math.sqrt(10)),
        (100, 0.999, 0.8 * math.sqrt(2)),
        (100, 0.05, 0.8 / math.sqrt(2)),
    ],
)
def test_a_share_of_the_errors_is_left_by_powers_of_examples_and_errors_constant_beyond_what_was_measured(num, probe, left):
    entry = next(each for each in rule.rank(known(num, probe), rule.ERRORS_LEFT) if each["strategy"] == "tuned")
    assert entry["left"] == pytest.approx(left)
    assert expected(num, probe) == pytest.approx(
        {"probe": probe, "tuned": 1 - (1 - probe) * left, "same": 1 - (1 - probe) * left}
    )


def test_the_best_comes_first_and_of_equals_the_one_that_the_rule_names_first():
    assert [entry["strategy"] for entry in rule.rank(known(20), rule.ERRORS_LEFT)] == ["probe", "tuned", "same"]
    assert [entry["strategy"] for entry in rule.rank(known(500), rule.ERRORS_LEFT)] == ["tuned", "same", "probe"]
    assert rule.rank(known(50, 0.8), rule.ERRORS_LEFT)[0]["strategy"] == "probe"
    assert rule.rank(known(50, 0.3), rule.ERRORS_LEFT)[0]["strategy"] == "tuned", "where the probe is often wrong"


def test_where_the_probe_makes_no_errors_none_are_left():
    assert set(expected(500, probe=1.0).values()) == {1.0}


def test_what_is_worse_than_nothing_is_expected_to_reach_nothing():
    ranking = rule.rank(known(10, probe=0.2), {"bad": (2.0, 0, 0), "worse": (3.0, 0, 0), "same": (1.0, 0, 0)})
    assert [(entry["strategy"], round(entry["expected"], 6)) for entry in ranking] == [("same", 0.2), ("bad", 0), ("worse", 0)]


def test_the_reason_is_told_in_words(monkeypatch):
    words = {entry["strategy"]: entry["why"] for entry in rule.rank(known(100), rule.ERRORS_LEFT)}
    of = "a cross-validated linear probe that is 80.0% right"
    assert words["tuned"] == f"in our measurements with 100 examples, 20% fewer errors than {of}"
    assert words["probe"] == f"in our measurements with 100 examples, as many errors as {of}"
    assert f"153% more errors than {of}" in rule.rank(known(10), rule.ERRORS_LEFT)[-1]["why"]
    monkeypatch.setattr(rule, "ERRORS_LEFT", {"nearly": (1.004, 0.0, 0.0)})
    assert "as many errors as" in rule.rank(known(10), rule.ERRORS_LEFT)[0]["why"]


def test_it_is_unsure_of_what_the_rule_cannot_tell_apart():
    assert rule.unsure(known(20), rule.rank(known(20), rule.ERRORS_LEFT), spread=0) == ""
    ranking = rule.rank(known(256), rule.ERRORS_LEFT)  # shares of 0.5, 0.5 and 1
    assert rule.as_good(ranking, 0.01) == ["same"]
    assert rule.unsure(known(256), ranking, 0.2) == "same may be as good (less than 22% more errors expected)"
    assert rule.unsure(known(256), ranking, 0.8) == "same, probe may be as good (less than 123% more errors expected)"


def test_it_is_unsure_far_from_what_was_measured_and_of_small_classes():
    def reasons(num, least=20):
        return rule.unsure(known(num, least=least), rule.rank(known(num), rule.ERRORS_LEFT), spread=0)

    assert reasons(10) == reasons(2000) == reasons(500) == ""
    assert reasons(9) == "the rule was measured on 10 to 1000 examples, and here are 9"
    assert reasons(2001) == "the rule was measured on 10 to 1000 examples, and here are 2001"
    assert reasons(500, least=5) == ""
    assert reasons(9, least=4).endswith("here are 9; the smallest class has 4 examples")


def test_the_facts_are_those_of_the_features():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    features = random.normal(size=(60, 8)) + 0.8 * labels[:, None]
    facts = rule.facts(features, labels)
    accuracy = probe.probe_accuracy(features, labels, folds=5, seed=0).mean()
    assert 0.5 < accuracy < 0.95
    assert facts["probe_accuracy"] == accuracy
    assert facts["probe_error"] == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / 60))
    assert (facts["num_examples"], facts["num_classes"], facts["min"], facts["max"], facts["ratio"]) == (60, 3, 10, 30, 3.0)
    assert facts["logme"] == transferability.logme(features, labels)
    assert facts["h_score"] == transferability.h_score(features, labels)


def test_a_probe_that_is_always_right_is_not_surely_so():
    labels = np.repeat([0, 1], 20)
    facts = rule.facts(np.random.default_rng(0).normal(size=(40, 3)) + 100 * labels[:, None], labels)
    assert facts["probe_accuracy"] == 1
    assert facts["probe_error"] == pytest.approx(1 / 40)  # as if one of 40 were wrong


def test_the_measured_shares_are_a_rule():
    examples, errors, errors_left = MEASURED
    assert 1 < examples[0] < examples[1] and 0 < errors[0] < errors[1] < 1
    assert errors_left.keys() <= set(plugins.names("strategies")) - {"auto", "scratch"}
    for strategy, (share, *powers) in errors_left.items():
        assert 0 < share < 10 and all(-2 < power < 2 for power in powers), strategy


@pytest.fixture
def recorded(monkeypatch):
    """The real rule, and what it was fitted to."""
    for name, value in zip(("EXAMPLES", "ERRORS", "ERRORS_LEFT"), MEASURED, strict=True):
        monkeypatch.setattr(rule, name, value)
    return pd.read_csv(ROOT / "tests/benchmarks/advisor.csv")


def test_the_rule_is_what_was_measured(recorded):
    for strategy, shares in benchmark.fit(recorded).items():
        assert rule.ERRORS_LEFT[strategy] == pytest.approx(shares, abs=0.005), strategy
    assert pytest.approx(benchmark.spread(recorded), abs=0.005) == rule.SPREAD


def test_on_data_that_it_was_not_fitted_to_the_rule_beats_every_fixed_choice(recorded):
    regret = benchmark.marks_left_out(recorded).set_index("measure")["mean"]
    fixed = [regret[f"regret, always {strategy}"] for strategy in benchmark.FIXED]
    assert regret["regret, the advisor"] < min(fixed)
    assert regret["Spearman, the advisor"] > 0
