"""What a person is told of a classifier's test besides its accuracy."""

import numpy as np
import pytest

from stages.lib.evaluation import facts
from stages.lib.params.schema import Evaluate
from stages.lib.tasks.classify import measures
from tests.tiny import PARAMS


def told(found: list[int], targets: list[int], names: list[str]) -> facts.Facts:
    predictions = np.eye(len(names), dtype=np.float32)[found]
    settings = Evaluate.model_validate(PARAMS["evaluate"])
    report = measures.report(predictions, np.array(targets), None, names, settings, 0)
    return facts.of(report | {"task": "classify", "num_examples": len(targets)}, "image")


def test_the_class_that_is_missed_most_is_named_by_its_share_and_not_by_its_number():
    targets = [0] * 20 + [1] * 4
    found = [0] * 17 + [1] * 3 + [1] * 2 + [0] * 2
    said = told(found, targets, ["intact", "defective", "absent"])
    assert said.sentence == "The model finds 50.0 % of “defective” and is right for 79.2 % of all images"
    accuracy, recall, alarms, _ = said.facts
    assert accuracy.text == "79.2 %" and "always “intact” would be right for 83.3 %" in accuracy.beside
    assert recall.title == "“defective” found" and recall.text == "50.0 %" and "2 of 4 missed" in recall.beside
    assert alarms.text == "15.0 %" and "3 of 20 others taken for “defective”" in alarms.beside
    assert 0 <= alarms.lower < alarms.value < alarms.upper < 0.4 and facts.ends(alarms._asdict(), facts.Scale()) in alarms.beside


def test_of_two_classes_false_alarms_are_what_the_other_class_misses():
    targets = [0] * 40 + [1] * 10
    alarms = told([0] * 36 + [1] * 4 + [1] * 5 + [0] * 5, targets, ["intact", "defective"]).facts[2]
    assert (alarms.value, alarms.text) == (0.1, "10.0 %") and "4 of 40 “intact” taken for “defective”" in alarms.beside
    assert 0 <= alarms.lower < 0.1 < alarms.upper < 0.3


@pytest.mark.parametrize(("missed", "alarming"), [(40, True), (1, False)])
def test_a_class_is_alarming_if_it_is_found_clearly_less_often_than_the_accuracy_says(missed, alarming):
    targets = [0] * 900 + [1] * 100
    found = [0] * 900 + [0] * missed + [1] * (100 - missed)
    assert told(found, targets, ["intact", "defective"]).facts[1].alarming == alarming


def test_nothing_is_missed():
    said = told([0, 1], [0, 1], ["intact", "defective"])
    assert said.sentence == "The model is right for all 2 test images" and [fact.key for fact in said.facts] == [
        "accuracy",
        "ece",
    ]


def test_of_other_tasks_their_metrics_are_told_the_primary_one_first():
    report = {"task": "tag", "num_examples": 1200, "chance": None,
              "primary": {"name": "entity_f1", "higher_is_better": True, "fraction": True},
              "metrics": {"recall": {"value": 0.5, "lower": 0.4, "upper": 0.6},
                          "entity_f1": {"value": 0.25, "lower": 0.2, "upper": 0.3}}}  # fmt: skip
    said = facts.of(report, "text")
    assert said.sentence == "Test entity f1 is 25.0 % on 1,200 texts"
    assert [fact.words for fact in said.facts] == ["Entity f1: 25.0 % (20.0 to 30.0 %)", "Recall: 50.0 % (40.0 to 60.0 %)"]
