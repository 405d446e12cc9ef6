"""What the verdict says of a classifier besides its accuracy."""

import numpy as np

from stages.lib.params.schema import Evaluate
from stages.lib.tasks.classify import measures
from tests.tiny import PARAMS

NAMES = ["intact", "defective", "absent"]


def said(found: list[int], targets: list[int]) -> str:
    predictions = np.eye(3, dtype=np.float32)[found]
    settings = Evaluate.model_validate(PARAMS["evaluate"])
    return measures.said(measures.report(predictions, np.array(targets), None, NAMES, settings, 0))


def test_the_class_that_is_missed_most_is_named_by_its_share_and_not_by_its_number():
    targets = [0] * 20 + [1] * 4
    found = [0] * 17 + [1] * 3 + [1] * 2 + [0] * 2
    text = said(found, targets)
    assert text.startswith("It finds 50.0 % (") and text.endswith("of defective, which it misses most: 2 of 4.")


def test_nothing_is_said_of_a_model_that_misses_nothing():
    assert said([0, 1], [0, 1]) == ""
