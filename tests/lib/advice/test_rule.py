"""The advisor's rule on made-up shares; the measured ones are only held against what they must look like."""

import math

import numpy as np
import pandas as pd
import pytest

from stages.lib.advice import probe, rule, transferability
from stages.lib.core import plugins
from tests.benchmarks import advisor as benchmark
from tests.tiny import ROOT

MEASURED = {name: getattr(rule, name) for name in ("EXAMPLES", "DRIFTS", "USUAL", "ERRORS_LEFT")}
LEFT = {"probe": (1.0, 0.0, 0.0, 0.0), "tuned": (0.8, -0.5, -1.0, 0.0), "same": (0.8, -0.5, -1.0, 0.0)}


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    for name, value in {"EXAMPLES": (10, 1000), "DRIFTS": (0.1, 0.8), "USUAL": (100, 0.2), "ERRORS_LEFT": LEFT}.items():
        monkeypatch.setattr(rule, name, value)


def known(num, probe=0.8, least=20, drift=0.2):
    return {"num_examples": num, "probe_accuracy": probe, "min": least, "drift": drift}


def left(num, drift, errors_left=None):
    return {entry["strategy"]: entry["left"] for entry in rule.rank(known(num, drift=drift), errors_left or rule.ERRORS_LEFT)}


@pytest.mark.parametrize(
    ("num", "drift", "wanted"),
    [
        (100, 0.2, 0.8),
        (400, 0.2, 0.4),  # four times the examples, half the errors
        (25, 0.2, 1.6),
        (100, 0.4, 0.4),  # twice as far
        (400, 0.1, 0.8),
        (1, 0.2, 0.8 * math.sqrt(10)),  # as far as was measured
        (10**6, 0.2, 0.8 / math.sqrt(10)),
        (100, 0.01, 1.6),
        (100, 5.0, 0.2),
        (100, None, 0.8),  # unknown: as usual
    ],
)
def test_a_share_of_the_errors_is_left_by_powers_of_examples_and_drift_constant_beyond_what_was_measured(num, drift, wanted):
    assert left(num, drift) == pytest.approx({"probe": 1.0, "tuned": wanted, "same": wanted})


def test_how_much_examples_help_may_depend_on_the_drift():
    far = {"far": (1.0, 0.0, 0.0, -1.0)}
    assert left(1000, 0.2, far) == left(100, 0.4, far) == {"far": 1.0}
    assert left(1000, 0.4, far)["far"] == pytest.approx(math.exp(-math.log(10) * math.log(2)))
    assert left(1000, 0.1, far)["far"] == pytest.approx(math.exp(math.log(10) * math.log(2)))


def test_the_probe_says_how_much_there_is_to_gain():
    for probe in (0.3, 0.8, 1.0):
        found = {entry["strategy"]: entry["expected"] for entry in rule.rank(known(400, probe), rule.ERRORS_LEFT)}
        assert found == pytest.approx({"probe": probe, "tuned": 1 - 0.4 * (1 - probe), "same": 1 - 0.4 * (1 - probe)})


def test_the_best_comes_first_and_of_equals_the_one_that_the_rule_names_first():
    def order(num, drift):
        return [entry["strategy"] for entry in rule.rank(known(num, drift=drift), rule.ERRORS_LEFT)]

    assert order(20, 0.2) == ["probe", "tuned", "same"]
    assert order(500, 0.2) == ["tuned", "same", "probe"]
    assert order(100, 0.1) == ["probe", "tuned", "same"], "near to what the network knows"


def test_what_is_worse_than_nothing_is_expected_to_reach_nothing():
    shares = {"bad": (2.0, 0, 0, 0), "worse": (3.0, 0, 0, 0), "same": (1.0, 0, 0, 0)}
    ranking = rule.rank(known(10, probe=0.1), shares)
    assert [(entry["strategy"], round(entry["expected"], 6)) for entry in ranking] == [("same", 0.1), ("bad", 0), ("worse", 0)]


def test_the_reason_is_told_in_words(monkeypatch):
    words = {entry["strategy"]: entry["why"] for entry in rule.rank(known(100), rule.ERRORS_LEFT)}
    given, of = "in our measurements with 100 examples and a drift of 0.20", "a linear probe (accuracy here: 80.0%)"
    assert words["tuned"] == f"{given}, 20% fewer errors than {of}"
    assert words["probe"] == f"{given}, as many errors as {of}"
    assert "153% more errors than a linear probe" in rule.rank(known(10), rule.ERRORS_LEFT)[-1]["why"]
    assert "with 100 examples, 20% fewer" in rule.rank(known(100, drift=None), rule.ERRORS_LEFT)[0]["why"]
    monkeypatch.setattr(rule, "ERRORS_LEFT", {"nearly": (1.004, 0.0, 0.0, 0.0)})
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
    without = rule.unsure(known(500, drift=None), rule.rank(known(500, drift=None), rule.ERRORS_LEFT), spread=0)
    assert without == "this network has no batch normalisation that says how far the data are from its own"


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
    examples, drifts, errors_left = (MEASURED[name] for name in ("EXAMPLES", "DRIFTS", "ERRORS_LEFT"))
    assert 1 < examples[0] < examples[1] and 0 < drifts[0] < drifts[1]
    assert errors_left.keys() <= set(plugins.names("strategies")) - {"auto", "scratch"}
    for strategy, (share, *powers) in errors_left.items():
        assert 0 < share < 10 and all(-2 < power < 2 for power in powers), strategy


@pytest.fixture
def recorded(monkeypatch):
    """The real rule, and what it was fitted to."""
    for name, value in MEASURED.items():
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
