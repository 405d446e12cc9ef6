"""The report's section on a classifier."""

import numpy as np
import pandas as pd
import pytest

from stages.lib.params.schema import Evaluate
from stages.lib.tasks.classify import measures, page
from tests.tiny import PARAMS


def section(folder, found, targets, names, **more):
    predictions = 0.2 / len(names) + 0.8 * np.eye(len(names), dtype=np.float32)[found]
    settings = Evaluate.model_validate(PARAMS["evaluate"])
    report = measures.report(predictions, np.array(targets), None, names, settings, 0)
    measures.write(folder, predictions, np.array(targets), report, "a", settings)
    pd.DataFrame(measures.table(predictions, np.array(targets), names)).to_csv(folder / "predictions.csv", index=False)
    return page.section(folder, report | more)


def test_the_class_that_is_missed_most_is_first_and_names_are_text(tmp_path):
    drawn = section(tmp_path, [0, 0, 0, 1, 2], [0, 0, 1, 1, 2], ["good", "<b>bad", "odd"])
    assert drawn.index("<td>&lt;b&gt;bad</td>") < drawn.index("<td>good</td>") and "<b>bad" not in drawn
    assert 'class="threshold"' not in drawn, "a slider is for two classes"
    assert "--s:50%" in drawn, "half of bad is taken for good"


def test_of_two_classes_all_scores_of_the_one_that_is_missed_most_are_there(tmp_path):
    drawn = section(tmp_path, [0, 0, 0, 1], [0, 0, 1, 1], ["intact", "defective"])
    assert 'data-own="[1000,9000]" data-others="[1000,1000]"' in drawn and 'data-name="defective"' in drawn
    assert "The model itself" not in drawn


@pytest.mark.parametrize(("label", "told"), [("defective", True), ("intact", False)])
def test_the_threshold_of_the_model_itself_is_said(tmp_path, label, told):
    decision = {"label": label, "threshold": 0.3}
    drawn = section(tmp_path, [0, 0, 0, 1], [0, 0, 1, 1], ["intact", "defective"], calibrated={"decision": decision})
    assert ("The model itself says so from 30 % on." in drawn) == told


def test_of_many_classes_the_most_frequent_confusions_are_listed(tmp_path):
    names = [f"class {index:02}" for index in range(20)]
    targets = [index for index in range(20) for _ in range(3)]
    found = targets.copy()
    found[0:2], found[6] = [5, 5], 7
    drawn = section(tmp_path, found, targets, names)
    assert "most often" in drawn and drawn.index("<td>class 00</td><td>class 05</td>") < drawn.index(
        "<td>class 02</td><td>class 07</td>"
    )
