"""Decisions and prediction sets of a classifier, from validation alone."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from stages.lib.errors import UserError
from stages.lib.params.schema import Calibrate, Evaluate
from stages.lib.tasks.classify import calibration, measures, words
from tests.tiny import PARAMS

CLASSES = ["a", "b, c", "d"]
EVALUATE = Evaluate.model_validate(PARAMS["evaluate"])


def settings(**changes):
    return Calibrate.model_validate(PARAMS["calibrate"] | changes)


def data(num, seed, classes=3, sure=1.5):
    """Probabilities (N, C) float32 that are right most of the time, and the right classes (N,)."""
    random = np.random.default_rng(seed)
    targets = random.integers(classes, size=num)
    logits = random.normal(size=(num, classes)) + sure * np.eye(classes)[targets]
    return (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32), targets


def test_without_a_decision_the_most_probable_class_is_the_answer():
    p, _ = data(50, 0)
    columns = calibration.answered(p, CLASSES, calibration.fitted(*data(50, 1), CLASSES, settings(sets=[])))
    assert list(columns) == ["label", "probability"]
    assert list(columns["label"]) == [CLASSES[index] for index in p.argmax(1)]
    np.testing.assert_array_equal(columns["probability"], p.max(1))


def test_a_threshold_decides_for_its_class_and_the_others_stay_in_order():
    p = np.array([[0.2, 0.5, 0.3], [0.19, 0.5, 0.31], [0.1, 0.3, 0.6], [0.9, 0.06, 0.04]], np.float32)
    made = calibration.fitted(p, np.array([0, 1, 2, 0]), CLASSES, settings(decision={"label": "a", "threshold": 0.2}))
    assert list(calibration.answered(p, CLASSES, made)["label"]) == ["a", "b, c", "d", "a"]
    above = made | {"decision": {"label": "a", "threshold": 0.95}}
    assert list(calibration.answered(p, CLASSES, above)["label"]) == ["b, c", "b, c", "d", "b, c"]
    assert calibration.answered(p, CLASSES, made)["probability"][0] == np.float32(0.2), "that of the answer"


@pytest.mark.parametrize("wanted", [0.7, 0.9])
def test_a_wanted_recall_is_reached_on_new_examples_on_average_and_hardly_exceeded(wanted):
    reached = []
    for seed in range(300):
        made = calibration.fitted(*data(120, seed), CLASSES, settings(decision={"label": "b, c", "recall": wanted}))
        p, targets = data(400, 1000 + seed)
        answers = calibration.decided(p, CLASSES, made)
        reached.append((answers[targets == 1] == 1).mean())
    assert wanted - 0.01 <= np.mean(reached) <= wanted + 0.04
    assert made["decision"]["promised"] == wanted


def test_where_validation_has_too_few_of_the_class_the_record_says_what_it_can_promise():
    p, targets = data(60, 0)
    targets[:] = 0
    targets[:9] = 1
    made = calibration.fitted(p, targets, CLASSES, settings(decision={"label": "b, c", "recall": 0.95}))["decision"]
    assert made["threshold"] == p[:9, 1].min()
    assert (made["promised"], made["known"], made["needed"]) == (0.9, 9, 19)


def test_a_decision_for_what_is_no_class_or_has_no_example_is_refused():
    p, targets = data(60, 0)
    with pytest.raises(UserError, match=r"calibrate\.decision: 'x' is none of the model's classes\. Allowed: a, b, c, d"):
        calibration.fitted(p, targets, CLASSES, settings(decision={"label": "x", "recall": 0.5}))
    with pytest.raises(UserError, match=r"validation has no example of d"):
        calibration.fitted(p, targets * 0, CLASSES, settings(decision={"label": "d", "recall": 0.5}))


@pytest.mark.parametrize("share", [0.8, 0.9, 0.95])
def test_sets_hold_the_right_class_as_often_as_they_say(share):
    """Sure of little, so that the answer alone would not be enough: at least the share on average, and hardly more."""
    covered, name = [], calibration.column(share)
    for seed in range(300):
        made = calibration.fitted(*data(100, seed, sure=0.7), CLASSES, settings(sets=[share]))
        p, targets = data(300, 1000 + seed, sure=0.7)
        sets = calibration.answered(p, CLASSES, made)[name]
        covered.append(np.mean([CLASSES[target] in each for target, each in zip(targets, sets, strict=True)]))
    assert share - 0.006 <= np.mean(covered) <= share + 0.02


def test_no_set_is_empty_larger_shares_hold_more_and_too_little_validation_means_all_classes():
    made = calibration.fitted(*data(18, 0, sure=5), CLASSES, settings(sets=[0.5, 0.9, 0.95]))
    p, _ = data(200, 1, sure=1)
    columns = calibration.answered(p, CLASSES, made)
    for label, *sets in zip(columns["label"], columns["set_50"], columns["set_90"], columns["set_95"], strict=True):
        assert label in sets[0] and set(sets[0]) <= set(sets[1]) <= set(sets[2])
    assert all(each == CLASSES for each in columns["set_95"]), "18 examples promise no more than 18 in 19"
    assert any(len(each) < 3 for each in columns["set_90"])
    json.dumps(made)


def test_the_figures_of_the_test_stand_beside_those_of_the_most_probable_class():
    wanted = settings(decision={"label": "a", "recall": 0.9}, sets=[0.9])
    made = calibration.fitted(*data(200, 0, sure=1), CLASSES, wanted)
    p, targets = data(500, 1, sure=1)
    found = calibration.measured(p, targets, None, CLASSES, made, 200, EVALUATE, 0)
    answers = calibration.decided(p, CLASSES, made)
    each = {name: entry["value"] for name, entry in found["decision"]["metrics"].items()}
    expected = {
        "accuracy": sk.accuracy_score(targets, answers),
        "balanced_accuracy": sk.balanced_accuracy_score(targets, answers),
        "macro_f1": sk.f1_score(targets, answers, average="macro"),
        "precision": sk.precision_score(targets == 0, answers == 0),
        "recall": sk.recall_score(targets == 0, answers == 0),
    }
    assert each == pytest.approx(expected, abs=1e-6)
    for entry in found["decision"]["metrics"].values():
        assert entry["lower"] <= entry["value"] <= entry["upper"]
    sets = calibration.answered(p, CLASSES, made)["set_90"]
    right = [CLASSES[target] in each for target, each in zip(targets, sets, strict=True)]
    coverage = found["set_90"]["coverage"]
    assert coverage["value"] == pytest.approx(np.mean(right), abs=1e-6)
    assert coverage["lower"] < coverage["value"] < coverage["upper"]
    assert found["set_90"]["classes"] == pytest.approx(np.mean([len(each) for each in sets]), abs=1e-6)
    assert each["recall"] > sk.recall_score(targets == 0, p.argmax(1) == 0), "or the decision would change nothing here"
    json.dumps(found)


def test_the_verdict_says_what_the_decision_and_the_sets_gave():
    wanted = settings(decision={"label": "a", "recall": 0.99}, sets=[0.9, 0.99])
    p, targets = data(500, 1, sure=1)
    made = calibration.fitted(*data(60, 0, sure=1), CLASSES, wanted)
    report = measures.report(p, targets, None, CLASSES, EVALUATE, 0)
    assert words.calibrated(report) == []
    unlike = {"value": 0.06, "lower": 0.04, "upper": 0.08, "expected": 0.05}
    report["calibrated"] = calibration.measured(p, targets, None, CLASSES, made, 60, EVALUATE, 0) | {"unlike": unlike}
    said = " ".join(words.calibrated(report))
    recall = report["per_class"]["a"]["recall"]["value"]
    now = report["calibrated"]["decision"]["metrics"]["recall"]["value"]
    assert f"it then finds {100 * now:.1f} % instead of {100 * recall:.1f} %" in said
    assert "which can promise" in said and "99% needs 99" in said
    assert "It calls 6.0 % (4.0 to 8.0 %) of the test examples unlike the training data (5 % was to be expected)." in said
    assert "Its prediction sets at 90 % hold the right class of" in said
    assert "Its prediction sets at 99 % hold all classes: validation has 60 examples, and 99 are needed." in said
