"""The dictionary of the training entities."""

import numpy as np

from stages.lib.baselines import dictionary
from stages.lib.core import datasets
from stages.lib.tasks.tag import learning
from stages.lib.tasks.tag.measures import METRICS

NAMES = ["O", "B-drug", "I-drug", "B-gene", "I-gene"]


def packed(*texts, labels=None):
    """A split of tagged texts, or of texts alone."""
    return datasets.in_memory([np.frombuffer(text.encode(), np.uint8) for text in texts], True)._replace(
        labels=labels or [""] * len(texts)
    )


TRAIN = packed(
    "Aspirin and acetyl salicylic acid", "the IL-2 receptor binds Ünal", "il-2 receptor", "IL-2 Receptor", "a b c d e f g h i",
    "acetyl",
    labels=["B-drug O B-drug I-drug I-drug", "O B-gene I-gene O B-drug", "B-drug I-drug", "B-drug I-drug",
            "B-gene" + " I-gene" * 8, "B-gene"],
)  # fmt: skip
VAL = packed("nothing")


def tags(*texts, train=TRAIN):
    found = dictionary.predictions(train, VAL, packed(*texts), NAMES)
    assert found.dtype == np.float32 and found.shape == (len(texts), max(len(text.split()) for text in texts), 2)
    told = []
    for text, row in zip(texts, found, strict=True):
        num = len(text.split())
        assert (row[:num, 1] == 1).all() and (row[num:] == -1).all()
        told.append(" ".join(NAMES[int(tag)] for tag in row[:num, 0]))
    return told


def test_training_entities_are_found_again_in_any_case():
    assert tags("ASPIRIN or ünal", "No", "aspirin-like aspirins") == ["B-drug O B-drug", "O", "O O"]


def test_the_longest_match_wins_and_the_next_begins_after_it():
    assert tags("acetyl salicylic acid acetyl aspirin") == ["B-drug I-drug I-drug B-gene B-drug"]
    assert tags("acetyl acetyl salicylic") == ["B-gene B-gene O"]
    assert tags("x y y", train=packed("x y", "y", labels=["B-gene I-gene", "B-drug"])) == ["B-gene I-gene B-drug"]


def test_the_type_is_the_most_frequent_one():
    assert tags("IL-2 receptor") == ["B-drug I-drug"]


def test_entities_of_more_than_eight_words_are_not_looked_up():
    assert tags("a b c d e f g h i") == [" ".join(["O"] * 9)]


def test_entities_of_broken_tags_are_known_too():
    assert tags("x y", train=packed("x y z", labels=["I-drug I-drug O"])) == ["B-drug I-drug"]


def test_on_its_own_training_texts_it_is_nearly_right():
    targets = learning.targets(TRAIN.labels, NAMES).numpy()
    found = dictionary.predictions(TRAIN, VAL, TRAIN, NAMES)
    (value,) = METRICS["entity_f1"].values(found, targets, np.ones((1, len(targets))))
    assert value == 2 * 6 / (8 + 7), "all but the receptor that is a gene once, and the long one"


def test_its_door():
    assert (dictionary.TASKS, dictionary.MODALITIES) == (("tag",), ("text",)) and not dictionary.Params.model_fields
