"""Which comparisons there are, and one model against another for the registry."""

import numpy as np
import pandas as pd

from stages.lib.core.runs import SCRATCH
from stages.lib.evaluation import comparison
from stages.lib.params.schema import Compare
from tests.tiny import CLASSES, PARAMS, model_card

SETTINGS = Compare.model_validate(PARAMS["compare"])
CARD = model_card("new-0")


def test_each_control_is_a_question_of_its_own():
    pairs = comparison.plan("c", ["a", "b", "c"], ["a", "b", "other"], {"probe": "knn on d"}, {})
    assert [(pair.key, pair.control) for pair in pairs] == [
        ("transfer", SCRATCH),
        ("intermediate", "a"),
        ("intermediate_after_b", "b"),
        ("c_against_other", "other"),
        ("against_probe", "probe"),
    ]
    assert [pair.question for pair in pairs] == [
        "Transfer as a whole (a -> b -> c, against random weights)",
        "The intermediate hops (b, c, against a directly)",
        "The intermediate hop (c, against b directly)",
        "c against other",
        "Training as it does (c, against probe: knn on d)",
    ]


def test_the_lowest_validation_loss_is_best_and_of_equals_the_first():
    models = {name: model_card(name, best={"val_loss": loss, "val_accuracy": accuracy})
              for name, loss, accuracy in [("a-0", 0.5, 0.9), ("b-0", 0.4, 0.7), ("c-0", 0.4, 0.8)]}  # fmt: skip
    assert comparison.best(models) == "b-0"


# One model against another.


def predictions(path, labels, right, keys=None, classes=CLASSES):
    """A table as evaluate writes it, of a model that is right where `right` says so."""
    predicted = np.where(right, labels, 1 - labels)
    table = pd.DataFrame({"key": [f"{i:03}" for i in range(len(labels))] if keys is None else keys, "group": ""})
    table["label"], table["predicted"] = (np.array(classes)[each] for each in (labels, predicted))
    for index, name in enumerate(classes):
        table[f"p_{name}"] = np.where(predicted == index, 0.9, 0.1)
    table.to_csv(path, index=False)
    return path


def test_one_model_is_better_than_another_beyond_the_interval_only(tmp_path):
    labels = np.arange(200) % 2
    random = np.random.default_rng(0).random(200)
    paths = [predictions(tmp_path / f"{rate}.csv", labels, random < rate) for rate in (0.7, 0.71, 0.9)]
    better, words = comparison.against(paths[0], paths[2], CARD, SETTINGS)
    assert better and words.startswith("+2") and words.endswith("better.")
    assert "points of accuracy on the same 200 test examples (95 % interval +" in words
    better, words = comparison.against(paths[0], paths[1], CARD, SETTINGS)
    assert not better and words.endswith("not shown to be better.")
    assert not comparison.against(paths[2], paths[0], CARD, SETTINGS)[0]


def test_models_of_other_test_examples_or_labels_are_not_compared(tmp_path):
    labels = np.arange(20) % 2
    one = predictions(tmp_path / "one.csv", labels, labels == labels)
    keys = [f"other {i}" for i in range(20)]
    other = predictions(tmp_path / "other.csv", labels, labels == labels, keys=keys)
    assert comparison.against(other, one, CARD, SETTINGS) == (
        False,
        "it was measured on other test examples, so the two cannot be compared.",
    )
    renamed = predictions(tmp_path / "renamed.csv", labels, labels == labels, classes=("cross", "line"))
    assert comparison.against(renamed, one, CARD, SETTINGS) == (
        False,
        "it was trained for other labels, so the two cannot be compared.",
    )
